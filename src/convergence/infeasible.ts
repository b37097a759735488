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
import { LEAST_SHARE, type Outlook, SURE, sharesDownTo } from './candidates.ts';
import type { Relaxation } from './controller.ts';
import type { DirtyModel } from './dirty-model.ts';
import { describeRates } from './explain.ts';
import type { Standing } from './forward.ts';
import type { Candidate } from './policy-behaviour.ts';

/** No plan that is allowed ends in time with more than this probability: it cannot. */
const CANNOT = 0.05;
/** It will rather not: enough for what is less precious than the max time to give way, while that still helps. */
const UNLIKELY = 0.5;
/** One look may err; a guest that has just changed its ways errs more often. */
const LOOKS = 2;
const LOOKS_UNSURE = 4;
/** After the cap has been dropped the budget needs some looks to grant more. */
const LOOKS_FOR_GRANT = -3;

export function floorOf({ minCpuShare }: Policy): number {
  return Math.min(1, Math.max(LEAST_SHARE, minCpuShare));
}

export function mostLikely(candidates: readonly Candidate[]): number {
  return candidates.reduce((best, { endsInTime }) => Math.max(best, endsInTime), 0);
}

export interface Conflict {
  /** Looks in a row that saw no way. */
  readonly looks: number;
  /** What has given way, in that order. */
  readonly relaxed: readonly Relaxation[];
  /** Of shares, as low as it has got; null: the policy's floor. */
  readonly floor: number | null;
}

export const NO_CONFLICT: Conflict = { looks: 0, relaxed: [], floor: null };

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
}

export function hasGivenWay({ relaxed }: Conflict, requirement: Relaxation['requirement']): boolean {
  return relaxed.some((relaxation) => relaxation.requirement === requirement);
}

/** One look: is there a way within the requirements, and if there is none for long enough, what gives way. */
export function settle(conflict: Conflict, question: Question): Settled {
  const { policy, outlook } = question;
  const given = hasGivenWay(conflict, 'minCpu') ? asLowAsNeeded(question, conflict.floor) : null;
  const before = given === null ? conflict : { ...conflict, floor: given.floor };
  const candidates = given?.candidates ?? outlook.candidates(sharesOf(question, floorOf(policy)));
  const likely = mostLikely(candidates);
  if (likely > UNLIKELY)
    return { conflict: { ...before, looks: Math.min(0, before.looks) }, candidates, givesUp: null };
  const looks = conflict.looks + 1;
  const waiting: Settled = { conflict: { ...before, looks }, candidates, givesUp: null };
  if (looks < (question.certain || likely <= CANNOT ? LOOKS : LOOKS_UNSURE)) return waiting;

  const why = cannot(question, likely);
  const rank = (requirement: YieldingRequirement) => policy.precedence.indexOf(requirement);
  for (const requirement of [...policy.precedence].reverse()) {
    const precious = rank(requirement) < rank('maxTime');
    if (likely > CANNOT && (precious || requirement === 'maxTime')) return waiting;
    if (requirement === 'maxTime') {
      // Shortly before its end, giving up spares the guest less than it would lose.
      const worthIt = (question.spentHarmCpuMs ?? 0) <= question.timeLeftMs * question.from.guest.demandCores;
      return (question.certain || isImpossible(question)) && worthIt ? { ...waiting, givesUp: why } : waiting;
    }
    if (hasGivenWay(conflict, requirement)) continue;
    if (requirement === 'maxBandwidth') {
      if (policy.maxBandwidthBytesPerSec === null) continue;
      const relaxed = [
        ...conflict.relaxed,
        { requirement, why: `${why}; the cap of ${formatRate(policy.maxBandwidthBytesPerSec)} is dropped` },
      ];
      return { conflict: { ...before, looks: LOOKS_FOR_GRANT, relaxed }, candidates, givesUp: null };
    }
    const lower = asLowAsNeeded(question, null);
    if (mostLikely(lower.candidates) <= Math.max(CANNOT, likely)) continue;
    const relaxed = [...conflict.relaxed, { requirement, why: `${why}; at ${formatShare(lower.floor)} it could` }];
    return { conflict: { looks: 0, relaxed, floor: lower.floor }, candidates: lower.candidates, givesUp: null };
  }
  return waiting;
}

/** Not even a guest that writes nothing would end in time. */
function isImpossible({ from, timeLeftMs }: Question): boolean {
  const bytesPerMs = from.bandwidthBytesPerSec / 1_000;
  return from.leftBytes > bytesPerMs * (timeLeftMs + from.downtimeLimitMs);
}

/** Down to the floor where that is enough, else to the largest share that is, or that comes nearest; never up again. */
function asLowAsNeeded(
  question: Question,
  lowest: number | null,
): { readonly floor: number; readonly candidates: readonly Candidate[] } {
  const highest = lowest ?? floorOf(question.policy);
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
