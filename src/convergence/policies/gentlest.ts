/**
 * The gentlest share within an allowance: the less the aggression, the more a plan may cost than the least that anything
 * costs (decision 0019). What "cost" is, harm or time, and how much more, is each policy's business. Pure.
 */
import { SURE } from '../candidates.ts';
import type { Candidate, PolicyView } from '../policy-behaviour.ts';

/** As likely to end in time, as far as anybody can tell. */
const AS_LIKELY = 0.02;
/**
 * The share is raised only where the guest then gets that much more, or lacks that much less, so that it does not flutter
 * between neighbours; all of it is given back at once.
 */
const WORTH_EASING = 1.3;

/** Those that meet the deadline; where none surely does, those that most likely do. Never empty. */
export function mostInTime(candidates: readonly Candidate[]): readonly Candidate[] {
  const sure = candidates.filter(({ endsInTime }) => endsInTime >= SURE);
  if (sure.length > 0) return sure;
  const most = candidates.reduce((best, { endsInTime }) => Math.max(best, endsInTime), 0);
  return candidates.filter(({ endsInTime }) => endsInTime >= most - AS_LIKELY);
}

/** Of those with the least cost, the gentlest. */
export function leastOf(
  candidates: readonly Candidate[],
  cost: (candidate: Candidate) => number,
): Candidate | undefined {
  let least: Candidate | undefined;
  for (const candidate of candidates) {
    if (least === undefined || cost(candidate) < cost(least)) least = candidate;
  }
  return least;
}

/**
 * From the one that costs least towards gentler ones, as long as each is within the allowance: so a smaller allowance never
 * gives a larger share. What was chosen last is kept while it is within, unless there is a share worth easing to.
 */
export function gentlestWithin(
  candidates: readonly Candidate[],
  cost: (candidate: Candidate) => number,
  allowance: number,
  view: PolicyView,
): Candidate | undefined {
  const least = leastOf(candidates, cost);
  if (least === undefined) return undefined;
  const gentler = candidates.filter(({ share }) => share > least.share).sort((one, other) => one.share - other.share);
  const within = [least];
  for (const candidate of gentler) {
    if (cost(candidate) > allowance) break;
    within.push(candidate);
  }
  const gentlest = within.at(-1) ?? least;
  if (gentlest.share >= 1 || gentlest.begins !== 'now') return gentlest;
  const kept = within.find(({ share }) => share === view.share);
  return kept !== undefined && !isWorthEasing(kept.share, gentlest.share) ? kept : gentlest;
}

function isWorthEasing(from: number, to: number): boolean {
  return to >= WORTH_EASING * from || (1 - to) * WORTH_EASING <= 1 - from;
}
