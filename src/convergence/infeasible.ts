/**
 * When not all requirements can be kept: that is told, and those that are least precious to the policy give way, one after
 * the other (decision 0020). Also before the start, for admission and what-if. Pure.
 *
 *   what gives way   then
 *   maxBandwidth     the policy's own cap is dropped; the budget's grant stays
 *   minCpu           shares below the floor are allowed, just as low as needed
 *   maxTime          what the policy does at its deadline is done at once, for waiting would only hurt
 */
import type { Policy, YieldingRequirement } from '../domain/policy.ts';
import { formatDuration, formatRate, formatShare } from '../domain/units.ts';
import { LEAST_SHARE, Outlook, SURE, sharesDownTo } from './candidates.ts';
import type { Relaxation } from './controller.ts';
import type { DirtyModel } from './dirty-model.ts';
import { describeRates } from './explain.ts';
import type { Standing } from './forward.ts';
import type { Candidate } from './policy-behaviour.ts';

/** No plan that is allowed ends in time with more than this probability: it cannot. */
const CANNOT = 0.05;
/** It will rather not: enough for what is less precious than the max time to give way, while that still helps. */
const UNLIKELY = 0.5;
/** So much more probable must a lower floor make an end in time that is not likely even then. */
const CLEARLY = 0.25;
/** One look may err; a guest that has just changed its ways errs more often. */
const LOOKS = 2;
const LOOKS_UNSURE = 4;
/** After the cap has been dropped the budget needs some looks to grant more. */
const LOOKS_FOR_GRANT = -3;
/**
 * So much of the time left must it look like that, for grants and guests have bad seconds: whoever has minutes can wait for
 * the next one, whoever has not loses no more than a tenth.
 */
const PATIENCE = 0.02;
const LEAST_PATIENCE_MS = 1_000;
const MOST_PATIENCE_MS = 5_000;
const MOST_OF_TIME_LEFT = 0.1;
/** A cap waits for more to be known while all memory can still be sent so many times: waiting once, and twice to end. */
const SENDINGS = 3;
/** A pass that is waited for is no shorter. */
const LEAST_PASS_MS = 1_000;

export function floorOf({ minCpuShare }: Policy): number {
  return Math.min(1, Math.max(LEAST_SHARE, minCpuShare));
}

export function mostLikely(candidates: readonly Candidate[]): number {
  return candidates.reduce((best, { endsInTime }) => Math.max(best, endsInTime), 0);
}

/** What has looked like that without a break, as the time that was left when it began, ms; null: it does not. */
interface Doubts {
  readonly unlikelyFromMs: number | null;
  readonly hopelessFromMs: number | null;
  /** A floor that has given way does not do any more. */
  readonly deeperFromMs: number | null;
}

export interface Conflict extends Doubts {
  /** Looks in a row that saw no way. */
  readonly looks: number;
  /** What has given way, in that order. */
  readonly relaxed: readonly Relaxation[];
  /** Of shares, as low as it has got; null: the policy's floor. */
  readonly floor: number | null;
}

const NO_DOUBTS: Doubts = { unlikelyFromMs: null, hopelessFromMs: null, deeperFromMs: null };
export const NO_CONFLICT: Conflict = { ...NO_DOUBTS, looks: 0, relaxed: [], floor: null };

export interface Settled {
  readonly conflict: Conflict;
  /** What may be chosen from. */
  readonly candidates: readonly Candidate[];
  /** Not null: the max time gives way, for the reason in words. */
  readonly givesUp: string | null;
}

export interface Question {
  readonly policy: Policy;
  readonly model: DirtyModel;
  readonly from: Standing;
  readonly outlook: Outlook;
  /** That the guest is held to now; without: all. */
  readonly share?: number;
  /** What it has cost; without: nothing. */
  readonly spentHarmCpuMs?: number;
  readonly timeLeftMs: number;
  /** Nothing that is known says that the guest may soon behave otherwise, and something is known. */
  readonly certain: boolean;
  /** True: asked again and again without time going by, before the start. */
  readonly atOnce?: boolean;
}

export function hasGivenWay({ relaxed }: Conflict, requirement: Relaxation['requirement']): boolean {
  return relaxed.some((relaxation) => relaxation.requirement === requirement);
}

/** One look: is there a way within the requirements, and if there is none for long enough, what gives way. */
export function settle(conflict: Conflict, question: Question): Settled {
  const { policy, from, timeLeftMs } = question;
  // How fast it will go on is not known, so neither is whether it ends.
  if (!(from.bandwidthBytesPerSec > 0)) return onHold(conflict, question);
  const { floor, candidates, deeperFromMs } = allowed(conflict, question);
  const likely = mostLikely(candidates);
  const before: Conflict = { ...conflict, ...NO_DOUBTS, floor, deeperFromMs, looks: Math.min(0, conflict.looks) };
  if (likely > UNLIKELY) return { conflict: before, candidates, givesUp: null };
  const hopeless = likely <= CANNOT;
  const doubts: Doubts = {
    unlikelyFromMs: conflict.unlikelyFromMs ?? timeLeftMs,
    hopelessFromMs: hopeless ? (conflict.hopelessFromMs ?? timeLeftMs) : null,
    deeperFromMs,
  };
  const looks = conflict.looks + 1;
  const waiting: Settled = { conflict: { ...before, ...doubts, looks }, candidates, givesUp: null };
  if (looks < (question.certain || hopeless ? LOOKS : LOOKS_UNSURE)) return waiting;
  if (!hasLasted(hopeless ? doubts.hopelessFromMs : doubts.unlikelyFromMs, question)) return waiting;

  const why = cannot(question, likely);
  const rank = (requirement: YieldingRequirement) => policy.precedence.indexOf(requirement);
  let mayYet = false;
  for (const requirement of [...policy.precedence].reverse()) {
    const precious = rank(requirement) < rank('maxTime');
    if (!hopeless && (precious || requirement === 'maxTime')) return waiting;
    if (requirement === 'maxTime') {
      // Shortly before its end, giving up spares the guest less than it would lose.
      const worthIt = (question.spentHarmCpuMs ?? 0) <= timeLeftMs * from.guest.demandCores;
      const sure = (question.certain && !mayYet) || isImpossible(question);
      return sure && worthIt ? { ...waiting, givesUp: why } : waiting;
    }
    if (hasGivenWay(conflict, requirement)) continue;
    if (requirement === 'maxBandwidth') {
      if (policy.maxBandwidthBytesPerSec === null) continue;
      if (!hopeless && !isKnown(question) && timeLeftMs > SENDINGS * sendingMs(from)) return waiting;
      const relaxed = [
        ...conflict.relaxed,
        { requirement, why: `${why}; the cap of ${formatRate(policy.maxBandwidthBytesPerSec)} is dropped` },
      ];
      return { conflict: { ...before, looks: LOOKS_FOR_GRANT, relaxed }, candidates, givesUp: null };
    }
    if (!hopeless && !isKnown(question) && canWait(question)) return waiting;
    const lower = asLowAsNeeded(question, floorOf(policy));
    const then = mostLikely(lower.candidates);
    mayYet = then > CANNOT;
    if (!isWorthIt(likely, then)) continue;
    const what = `at ${formatShare(lower.floor)} it does with a probability of ${formatShare(then)}`;
    const relaxed = [...conflict.relaxed, { requirement, why: `${why}; ${what}` }];
    const conflictThen: Conflict = { ...NO_CONFLICT, relaxed, floor: lower.floor };
    return { conflict: conflictThen, candidates: lower.candidates, givesUp: null };
  }
  return waiting;
}

/** What is done now goes on; nothing gives way. */
function onHold(conflict: Conflict, question: Question): Settled {
  const { share = 1, outlook } = question;
  const candidates = [outlook.plan({ share, begins: 'now' })];
  return { conflict: { ...conflict, ...NO_DOUBTS, looks: Math.min(0, conflict.looks) }, candidates, givesUp: null };
}

/** For long enough to believe that it stays like that. */
function hasLasted(fromMs: number | null, { timeLeftMs, atOnce = false }: Question): boolean {
  if (fromMs === null || atOnce) return fromMs !== null;
  const patienceMs = Math.min(MOST_PATIENCE_MS, Math.max(LEAST_PATIENCE_MS, PATIENCE * fromMs));
  return fromMs - timeLeftMs >= Math.min(patienceMs, MOST_OF_TIME_LEFT * fromMs);
}

/** More than bounds. */
function isKnown({ model }: Question): boolean {
  return model.rateBytesPerSec.value !== null;
}

/** A floor that gives way a pass later, as far as need be, is still likely to be enough. */
function canWait({ from, model, timeLeftMs }: Question): boolean {
  const thenMs = timeLeftMs - Math.max(LEAST_PASS_MS, sendingMs(from));
  if (thenMs <= 0) return false;
  return new Outlook(from, model, thenMs).plan({ share: LEAST_SHARE, begins: 'now' }).endsInTime > UNLIKELY;
}

function sendingMs({ guest, bandwidthBytesPerSec }: Standing): number {
  return (guest.touchedBytes / bandwidthBytesPerSec) * 1_000;
}

/** A floor is a promise: it is broken for an end in time that is likely then, or clearly more likely. */
function isWorthIt(likely: number, then: number): boolean {
  return then >= likely + CLEARLY || (likely <= UNLIKELY && then > UNLIKELY) || (likely < SURE && then >= SURE);
}

interface Allowed {
  /** null: the policy's floor. */
  readonly floor: number | null;
  readonly candidates: readonly Candidate[];
  readonly deeperFromMs: number | null;
}

/** What the floor allows, the policy's or what has become of it; that one falls further where that is needed for long. */
function allowed(conflict: Conflict, question: Question): Allowed {
  const { floor } = conflict;
  const candidates = question.outlook.candidates(sharesOf(question, floor ?? floorOf(question.policy)));
  const likely = mostLikely(candidates);
  if (floor === null || likely >= SURE) return { floor, candidates, deeperFromMs: null };
  const lower = asLowAsNeeded(question, floor);
  if (lower.floor >= floor || !isWorthIt(likely, mostLikely(lower.candidates))) {
    return { floor, candidates, deeperFromMs: null };
  }
  const deeperFromMs = conflict.deeperFromMs ?? question.timeLeftMs;
  if (!hasLasted(deeperFromMs, question)) return { floor, candidates, deeperFromMs };
  return { ...lower, deeperFromMs: null };
}

/** Not even a guest that writes nothing would end in time. */
function isImpossible({ from, timeLeftMs }: Question): boolean {
  const bytesPerMs = from.bandwidthBytesPerSec / 1_000;
  return from.leftBytes > bytesPerMs * (timeLeftMs + from.downtimeLimitMs);
}

/** Down to the floor where that is enough, else to the largest share that is, or that comes nearest; never up again. */
function asLowAsNeeded(
  question: Question,
  highest: number,
): { readonly floor: number; readonly candidates: readonly Candidate[] } {
  const lower = sharesDownTo(LEAST_SHARE).filter((share) => share < highest);
  const candidates = question.outlook.candidates([...new Set([...sharesOf(question, highest), ...lower])]);
  const now = candidates.filter(({ begins }) => begins === 'now');
  const best = mostLikely(now);
  const enough = now.find(({ endsInTime }) => endsInTime >= Math.min(SURE, best));
  const floor = Math.min(highest, enough?.share ?? highest);
  return { floor, candidates: question.outlook.candidates(sharesOf(question, floor)) };
}

/** The grid, and the share of now, so that it can be kept. */
function sharesOf({ share = 1 }: Question, floor: number): readonly number[] {
  const shares = sharesDownTo(floor);
  return share < 1 && share > floor && !shares.includes(share) ? [...shares, share].sort((a, b) => b - a) : shares;
}

/** `cannot end within 30s without going below 10% CPU: it writes 160MiB/s over 1GiB, 40MiB/s are sent`. */
function cannot({ policy, model, from, timeLeftMs }: Question, likely: number): string {
  const what = likely > CANNOT ? 'will hardly end' : 'cannot end';
  const floor = policy.minCpuShare > 0 ? ` without going below ${formatShare(policy.minCpuShare)} CPU` : '';
  return `${what} within ${formatDuration(timeLeftMs)}${floor}: it ${describeRates(model, from)}`;
}
