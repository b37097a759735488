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

export function chooseLeastHarm(view: PolicyView): Choice {
  const { candidates, spentHarmCpuMs, policy } = view;
  const inTime = mostInTime(candidates);
  const free = inTime.find(({ share }) => share >= 1);
  if (free !== undefined && free.endsInTime >= SURE) {
    return { candidate: free, why: 'what remains falls by itself, in time' };
  }
  if (candidates.every(({ endsInTime }) => endsInTime < HOPELESS)) {
    const same = candidates.filter(({ begins }) => begins === 'now').findLast(({ share }) => share >= view.share);
    return { candidate: same ?? candidates[0] ?? nothingOffered(), why: 'nothing that is allowed ends in time' };
  }
  const whole = ({ expectedHarmCpuMs }: Candidate) => spentHarmCpuMs + expectedHarmCpuMs;
  const now = inTime.filter(({ begins }) => begins === 'now');
  const likeliest = now.reduce((most, { endsInTime }) => Math.max(most, endsInTime), 0);
  const enough = Math.min(view.share >= 1 ? STILL_SURE : SURE, likeliest - AS_LIKELY);
  const waiting = candidates.filter(({ begins }) => begins === 'nextPass');
  const later = waiting.filter(({ endsInTime }) => endsInTime >= (now.length > 0 ? enough : 0));
  const leastNow = leastOf(now, whole);
  const leastLater = leastOf(later, whole);
  const waits = leastLater !== undefined && (leastNow === undefined || isWorthWaiting(leastNow, leastLater, view.pass));
  const times = 1 + (MOST_TIMES - 1) * (1 - policy.aggression);
  const least = Math.max(view.leastHarmCpuMs, 0);
  const candidate = gentlestWithin(waits ? later : now, whole, times * least + SLACK_CPU_MS, view);
  if (candidate === undefined) return { candidate: candidates[0] ?? nothingOffered(), why: 'nothing else is offered' };
  return { candidate, why: whyOf(candidate, view, times, waits) };
}

function isWorthWaiting(now: Candidate, later: Candidate, pass: number): boolean {
  const { part, cpuMs } = pass <= 1 ? WORTH_WAITING.first : WORTH_WAITING.later;
  const saved = now.expectedHarmCpuMs - later.expectedHarmCpuMs;
  const lostMs = Math.max(0, later.expectedTotalMs - now.expectedTotalMs);
  return saved > Math.min(part * now.expectedHarmCpuMs + cpuMs, WORTH_TIME * lostMs + 1);
}

function whyOf(candidate: Candidate, view: PolicyView, times: number, waits: boolean): string {
  const wait = waits ? 'throttling before the next pass would cost more and save nothing; then ' : '';
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
