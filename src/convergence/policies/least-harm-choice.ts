/**
 * The choice that the presets `maintenance` and `rebalance` share; they differ in their numbers and in what gives way
 * first. When to throttle is the same for every aggression, how deeply is what aggression decides (decision 0019).
 */
import { SURE } from '../candidates.ts';
import type { Candidate, Choice, PolicyView } from '../policy-behaviour.ts';
import { gentlestWithin, leastOf, mostInTime } from './gentlest.ts';

/**
 * Waiting for the next pass must save that part of the harm and a little, or as much as a part of the time lost. In the
 * first pass less is enough: it sends memory that the guest does not write to, which is all that waiting can save. Later
 * passes are all alike, and a saving that is expected there is an error of what is expected.
 */
const WORTH_WAITING = { first: { part: 0.02, cpuMs: 20 }, later: { part: 0.05, cpuMs: 50 } };
const WORTH_TIME = 0.5;
/** A guest that runs free and waits for the next pass goes on waiting until that is clearly less sure: no coming and going. */
const STILL_SURE = 0.85;
/** No less likely, as far as anybody can tell. */
const AS_LIKELY = 0.03;
/** Where nothing is likelier than that to end in time, no share is better than the present one. */
const HOPELESS = 0.02;
/**
 * At aggression 0 the whole harm may be that many times the least (decision 0019). More would be gentler still, but not
 * below half of what QEMU's auto-converge costs guests that write at random, where that does well (docs/benchmarks).
 */
const MOST_TIMES = 1.3;
/** Harm that nobody would notice, CPU ms. */
const SLACK_CPU_MS = 50;
/**
 * What a moment is worth while others wait for it, as a part of what the guest would use in it, at aggression 1. More would
 * make hot guests pay for what saves the others little; without, one that writes about as fast as is sent keeps a whole
 * host waiting until its max time (decision 0033).
 */
const TIME_PRICE = 0.1;
/** A guest that runs free is not slowed for a small gain. */
const WORTH_HURRYING = 0.8;

export function chooseLeastHarm(view: PolicyView): Choice {
  const { candidates, policy } = view;
  const inTime = mostInTime(candidates);
  const free = inTime.find(({ share }) => share >= 1);
  const costs = costOf(view);
  if (free !== undefined && free.endsInTime >= SURE && !isWorthHurrying(view, free, costs)) {
    return { candidate: free, why: 'what remains falls by itself, in time' };
  }
  if (candidates.every(({ endsInTime }) => endsInTime < HOPELESS)) {
    const same = candidates.filter(({ begins }) => begins === 'now').findLast(({ share }) => share >= view.share);
    return { candidate: same ?? candidates[0] ?? nothingOffered(), why: 'nothing that is allowed ends in time' };
  }
  const now = inTime.filter(({ begins }) => begins === 'now');
  const likeliest = now.reduce((most, { endsInTime }) => Math.max(most, endsInTime), 0);
  const enough = Math.min(view.share >= 1 ? STILL_SURE : SURE, likeliest - AS_LIKELY);
  const waiting = candidates.filter(({ begins }) => begins === 'nextPass');
  const later = waiting.filter(({ endsInTime }) => endsInTime >= (now.length > 0 ? enough : 0));
  const leastNow = leastOf(now, costs);
  const leastLater = leastOf(later, costs);
  const waits =
    leastLater !== undefined && (leastNow === undefined || isWorthWaiting(leastNow, leastLater, { view, costs }));
  const times = 1 + (MOST_TIMES - 1) * (1 - policy.aggression);
  const least = Math.max(view.leastHarmCpuMs, 0);
  const chosen = waits ? later : now;
  // What is spent is spent: the allowance is of the whole harm, whatever time is worth.
  const cheapest = leastOf(chosen, costs);
  const spent = view.spentHarmCpuMs + (cheapest?.expectedHarmCpuMs ?? 0);
  const gentleness = Math.max(0, times * least + SLACK_CPU_MS - spent);
  const allowance = (cheapest === undefined ? 0 : costs(cheapest)) + gentleness;
  const candidate = gentlestWithin(chosen, costs, allowance, view);
  if (candidate === undefined) return { candidate: candidates[0] ?? nothingOffered(), why: 'nothing else is offered' };
  return { candidate, why: whyOf(candidate, view, times, waits) };
}

type Cost = (candidate: Candidate) => number;

/** The whole harm, and what the time that is left is worth to those who wait, CPU ms. */
function costOf(view: PolicyView): Cost {
  const price = timePriceOf(view);
  const { spentHarmCpuMs } = view;
  return ({ expectedHarmCpuMs, expectedEndMs }) => spentHarmCpuMs + expectedHarmCpuMs + price * expectedEndMs;
}

/** CPU ms for each ms. A floor that gave way did so for an end in time, not for those who wait. */
function timePriceOf({ othersWait, policy, demandCores, candidates }: PolicyView): number {
  const whole = candidates.every(({ share }) => share >= policy.minCpuShare);
  return othersWait && whole ? TIME_PRICE * policy.aggression * demandCores : 0;
}

/** Though it would end by itself, in time: others wait so long that a throttle is worth what it costs. */
function isWorthHurrying(view: PolicyView, free: Candidate, costs: Cost): boolean {
  const price = timePriceOf(view);
  const hurried = leastOf(
    view.candidates.filter(({ share, endsInTime }) => share < 1 && endsInTime >= SURE),
    costs,
  );
  if (price === 0 || hurried === undefined) return false;
  const lost = hurried.expectedHarmCpuMs - free.expectedHarmCpuMs;
  const saved = price * (free.expectedEndMs - hurried.expectedEndMs);
  return lost + SLACK_CPU_MS < (view.share >= 1 ? WORTH_HURRYING : 1) * saved;
}

function isWorthWaiting(
  now: Candidate,
  later: Candidate,
  { view, costs }: { readonly view: PolicyView; readonly costs: Cost },
): boolean {
  const { part, cpuMs } = view.pass <= 1 ? WORTH_WAITING.first : WORTH_WAITING.later;
  const saved = costs(now) - costs(later);
  const lostMs = Math.max(0, later.expectedTotalMs - now.expectedTotalMs);
  return saved > Math.min(part * now.expectedHarmCpuMs + cpuMs, WORTH_TIME * lostMs + 1);
}

function whyOf(candidate: Candidate, view: PolicyView, times: number, waits: boolean): string {
  const wait = waits ? 'throttling before the next pass would cost more and save nothing; then ' : '';
  const free = view.candidates[0];
  if (timePriceOf(view) > 0 && candidate.share < 1 && free !== undefined && free.endsInTime >= SURE) {
    return `${wait}others wait for what it uses, and by itself it would end much later`;
  }
  const gentler = view.candidates.filter(({ share, begins }) => share > candidate.share && begins === candidate.begins);
  if (gentler.length === 0) return `${wait}there is no gentler share`;
  if (!gentler.some(({ endsInTime }) => endsInTime >= SURE)) {
    return candidate.endsInTime >= SURE
      ? `${wait}gentler would miss the max time`
      : `${wait}nothing that is allowed surely ends within the max time, this most likely does`;
  }
  return `${wait}gentler would cost more than ${formatTimes(times)} the least`;
}

function formatTimes(times: number): string {
  return times === 1 ? 'about' : `${Math.round(times * 100) / 100}x`;
}

function nothingOffered(): never {
  throw new RangeError('a policy was offered nothing to choose from');
}
