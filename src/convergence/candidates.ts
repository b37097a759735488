/**
 * What could be done from where a migration stands, and what each is expected to cost: a grid of shares from the guest's
 * whole CPU down to the floor, beginning now or with the next pass, each played forward for every guest that this one may
 * be. Which of them is chosen is the policy's business. Pure.
 */
import type { DirtyModel, Hypothesis } from './dirty-model.ts';
import { type Outcome, playForward, type Standing, type ThrottlePlan } from './forward.ts';
import type { Candidate } from './policy-behaviour.ts';
import { predict } from './predict.ts';

/** So likely must an end in time be for a plan to count as one that meets the deadline. */
export const SURE = 0.9;
/** A quota below 1 ms in a period of 50 ms cannot be had (decision 0018), so no guest is promised a smaller share. */
export const LEAST_SHARE = 0.02;
/** Steps between the guest's whole CPU and the floor: with a floor of 10% each takes 15% off. */
const STEPS = 14;
/** Halvings between the gentlest share of the grid that meets the deadline and the next one that does not. */
const REFINEMENTS = 5;
/**
 * A plan must end that much before the deadline: clocks, bursts, rates of sending (see predict.ts). There is less to err
 * about shortly before the end.
 */
const TIME_ERROR = 0.02;
const TIME_ERROR_MS = 100;
const LEAST_ERROR_MS = 20;
/** After looking at it for so long a free guest is known well enough to tell whether it has to be slowed at once. */
const LOOK_MS = 2_000;
/** A plan that leads nowhere is noticed and given up for a better one; by then it has cost about so many times the least. */
const LED_NOWHERE = 3;
/**
 * What is known of a guest's rate may be a little too low, and a deadline forgives no error to that side: each hypothesis
 * is also played somewhat hotter. With this weight at least half of those must end in time as well for a plan to be sure.
 */
const HOTTER = 1.1;
const HOTTER_WEIGHT = 0.2;
/**
 * A guest that writes so many times as fast as is sent dirties more in the moment until a throttle bites than it loses by
 * being slowed that much before the pass ends: one burst, for nobody knows the end of a pass better.
 */
const LEAD_FROM_TIMES = 5;
const LEAD_MS = 100;
/** From the start of a migration until a throttle that was chosen for it bites: connecting, the first sample, the quota. */
const START_MS = 100;
/** Of hypotheses that weigh nothing nothing is to be learned. */
const LIGHT = 0.003;

export const FREE: ThrottlePlan = { share: 1, begins: 'now' };

/** Below 1, descending, down to exactly `floor`. */
export function sharesDownTo(floor: number): readonly number[] {
  if (floor >= 1) return [];
  const least = Math.max(floor, 1e-3);
  const steps = Array.from({ length: STEPS - 1 }, (_, step) => least ** ((step + 1) / STEPS));
  return [...steps.map((share) => Math.round(share * 1_000) / 1_000).filter((share) => share > floor), floor];
}

/** What each plan comes to, for each hypothesis; a game is played once, however often it is asked for. */
export class Outlook {
  readonly #from: Standing;
  readonly #model: DirtyModel;
  readonly #hypotheses: readonly Hypothesis[];
  readonly #weight: number;
  readonly #timeLeftMs: number;
  readonly #limitMs: number;
  readonly #free: readonly Outcome[];
  /** Of plans that begin with the next pass. */
  readonly #leadMs: number;
  /** Of those that begin now. */
  readonly #lateMs: number;
  readonly #known = new Map<string, readonly Outcome[]>();

  /** Nothing that ends after `timeLeftMs` counts as ended. Not `mayLead`: the moment before a pass ends is not to be had. */
  constructor(from: Standing, model: DirtyModel, timeLeftMs: number, { mayLead = true }: { mayLead?: boolean } = {}) {
    this.#from = from;
    this.#model = model;
    const heavy = model.hypotheses.filter(({ weight }) => weight >= LIGHT);
    this.#hypotheses = (heavy.length > 0 ? heavy : model.hypotheses).flatMap((guest) => [
      { ...guest, weight: guest.weight * (1 - HOTTER_WEIGHT) },
      { ...guest, weight: guest.weight * HOTTER_WEIGHT, rateBytesPerSec: guest.rateBytesPerSec * HOTTER },
    ]);
    this.#weight = this.#hypotheses.reduce((sum, { weight }) => sum + weight, 0);
    this.#timeLeftMs = timeLeftMs;
    const errorMs = Math.min(TIME_ERROR_MS, LEAST_ERROR_MS + TIME_ERROR * timeLeftMs);
    this.#limitMs = Math.max(0, (timeLeftMs - errorMs) / (1 + TIME_ERROR));
    this.#lateMs = from.pass === 0 ? START_MS : 0;
    this.#free = this.#play(FREE);
    const rate = this.#mean((index) => this.#hypotheses[index]?.rateBytesPerSec ?? 0);
    this.#leadMs = mayLead && rate > LEAD_FROM_TIMES * from.bandwidthBytesPerSec ? LEAD_MS : 0;
  }

  #play(plan: ThrottlePlan): readonly Outcome[] {
    const name = `${plan.begins} ${plan.share}`;
    const before = this.#known.get(name);
    if (before !== undefined) return before;
    const outcomes = this.#hypotheses.map((hypothesis) => playForward(this.#from, hypothesis, plan, this.#limitMs));
    this.#known.set(name, outcomes);
    return outcomes;
  }

  /**
   * As it will be done: one that ends by itself is let, and one that turns out, when it has been looked at a little longer,
   * to need it at once gets the least share (`rescue`).
   */
  #outcomes(plan: ThrottlePlan, rescue: readonly Outcome[] = []): readonly Outcome[] {
    if (plan.share >= 1) return this.#free;
    const held = this.#play(plan);
    if (plan.begins === 'now') return held;
    return held.map((outcome, index) => {
      const free = this.#free[index];
      if (free?.ends && (!outcome.ends || free.harmCpuMs <= outcome.harmCpuMs)) return free;
      const rescued = rescue[index];
      return !outcome.ends && rescued?.ends ? rescued : outcome;
    });
  }

  /** Free while it is looked at, then with the least share; where the pass goes on for so long. */
  #rescue(share: number): readonly Outcome[] {
    const from = this.#from;
    const bytesPerMs = from.bandwidthBytesPerSec / 1_000;
    if (from.pass === 0 || from.leftBytes < 2 * LOOK_MS * bytesPerMs) return [];
    const after: Standing = {
      ...from,
      leftBytes: from.leftBytes - LOOK_MS * bytesPerMs,
      cpuMsInPass: from.cpuMsInPass + LOOK_MS,
      passElapsedMs: from.passElapsedMs + LOOK_MS,
    };
    return this.#hypotheses.map((hypothesis) => {
      const outcome = playForward(after, hypothesis, { share, begins: 'now' }, this.#limitMs - LOOK_MS);
      return { ...outcome, totalMs: outcome.totalMs + LOOK_MS };
    });
  }

  /** One plan; what it costs where it leads nowhere is counted against itself. */
  plan(plan: ThrottlePlan): Candidate {
    const played: Played = { plan, outcomes: this.#outcomes(plan) };
    return this.#candidate(
      played,
      this.#hypotheses.map((_, index) => leastsOf([played], index)),
    );
  }

  /** `free` first, then every share now and with the next pass, and finer ones where the deadline draws its line. */
  candidates(shares: readonly number[]): readonly Candidate[] {
    const played: Played[] = [{ plan: FREE, outcomes: this.#free }];
    const rescue = this.#rescue(shares.at(-1) ?? 1);
    for (const share of shares) {
      for (const begins of ['now', 'nextPass'] as const) {
        const plan = begins === 'now' ? this.#now(share) : { share, begins, leadMs: this.#leadMs };
        played.push({ plan, outcomes: this.#outcomes(plan, rescue) });
      }
    }
    played.push(...this.#refined(played));
    played.sort((one, other) => other.plan.share - one.plan.share);
    const leasts = this.#hypotheses.map((_, index) => leastsOf(played, index));
    return played.map((one) => this.#candidate(one, leasts));
  }

  #now(share: number): ThrottlePlan {
    return { share, begins: 'now', lateMs: this.#lateMs };
  }

  #refined(played: readonly Played[]): readonly Played[] {
    const now = played.filter(({ plan }) => plan.begins === 'now');
    const first = now.findIndex(({ outcomes }) => this.#inTime(outcomes) >= SURE);
    let too = now[first - 1]?.plan.share;
    let good = now[first]?.plan.share;
    const finer: Played[] = [];
    for (let step = 0; step < REFINEMENTS && too !== undefined && good !== undefined; step += 1) {
      const plan = this.#now(Math.round(((too + good) / 2) * 1_000) / 1_000);
      if (plan.share <= good || plan.share >= too) break;
      const outcomes = this.#outcomes(plan);
      finer.push({ plan, outcomes });
      if (this.#inTime(outcomes) >= SURE) good = plan.share;
      else too = plan.share;
    }
    return finer;
  }

  #mean(of: (index: number) => number): number {
    return this.#hypotheses.reduce((sum, { weight }, index) => sum + weight * of(index), 0) / this.#weight;
  }

  #inTime(outcomes: readonly Outcome[]): number {
    return this.#mean((index) => (outcomes[index]?.ends ? 1 : 0));
  }

  #candidate({ plan, outcomes }: Played, leasts: readonly (Leasts | null)[]): Candidate {
    const [from, model, timeLeftMs] = [this.#from, this.#model, this.#timeLeftMs];
    let made: ReturnType<typeof predict> | null = null;
    return {
      ...plan,
      expectedHarmCpuMs: this.#mean((index) => {
        const outcome = outcomes[index];
        const least = leasts[index]?.harmCpuMs ?? null;
        // One that nothing can end in time says nothing of which plan is better.
        if (outcome === undefined || least === null) return 0;
        return outcome.ends ? outcome.harmCpuMs : LED_NOWHERE * least;
      }),
      expectedTotalMs: this.#mean((index) => outcomes[index]?.totalMs ?? 0),
      expectedEndMs: this.#mean((index) => {
        const outcome = outcomes[index];
        const soonest = leasts[index]?.totalMs ?? null;
        if (outcome === undefined || soonest === null) return 0;
        return outcome.ends ? outcome.totalMs : Math.min(outcome.totalMs, LED_NOWHERE * soonest);
      }),
      endsInTime: this.#inTime(outcomes),
      get prediction() {
        made ??= predict(from, model, plan, timeLeftMs);
        return made;
      },
    };
  }
}

interface Played {
  readonly plan: ThrottlePlan;
  readonly outcomes: readonly Outcome[];
}

/** Of all plans that end one guest in time, each by itself. */
interface Leasts {
  readonly harmCpuMs: number;
  readonly totalMs: number;
}

/** null: nothing ends this one in time. */
function leastsOf(played: readonly Played[], index: number): Leasts | null {
  let [harmCpuMs, totalMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (const { outcomes } of played) {
    const outcome = outcomes[index];
    if (!outcome?.ends) continue;
    harmCpuMs = Math.min(harmCpuMs, outcome.harmCpuMs);
    totalMs = Math.min(totalMs, outcome.totalMs);
  }
  return Number.isFinite(totalMs) ? { harmCpuMs, totalMs } : null;
}
