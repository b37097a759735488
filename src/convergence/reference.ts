/**
 * Where throttling was first thought of, and the least that it could have cost from there, by what is known now: what
 * aggression's allowance is counted from. Kept while the guest is slowed, so that harm that is spent stays spent and bad
 * luck makes the rest harder, not longer. Pure.
 */
import { Outlook, SURE } from './candidates.ts';
import type { DirtyModel } from './dirty-model.ts';
import type { Standing } from './forward.ts';
import type { Candidate } from './policy-behaviour.ts';

export interface Reference {
  readonly from: Standing;
  readonly atMs: number;
  readonly spentHarmCpuMs: number;
}

export function leastExpected(candidates: readonly Candidate[]): number {
  const sure = candidates.filter(({ endsInTime }) => endsInTime >= SURE);
  const of = sure.length > 0 ? sure : candidates;
  return of.reduce((least, { expectedHarmCpuMs }) => Math.min(least, expectedHarmCpuMs), Number.POSITIVE_INFINITY);
}

/**
 * In all, with what had been spent by then. `played`: the outlook from that very reference with that very model, where there
 * is one already.
 */
export function leastFrom(
  { from, atMs, spentHarmCpuMs }: Reference,
  model: DirtyModel,
  shares: readonly number[],
  nowMs: number,
  timeLeftMs: number,
  played: Outlook | null = null,
): number {
  const outlook = played ?? new Outlook(from, model, timeLeftMs + nowMs - atMs);
  // The ends of the range, and some between: what costs least is one of the hardest, or the gentlest in time.
  const some = shares.filter((_, index) => index % 4 === 1 || index === shares.length - 1);
  return spentHarmCpuMs + leastExpected(outlook.candidates(some));
}

/** What `leastFrom` came to, and for what: until one of these changes it need not be asked again. */
export interface KnownLeast {
  readonly reference: Reference;
  readonly model: DirtyModel;
  readonly share: number;
  readonly endsAtMs: number;
  readonly cpuMs: number;
}

export function isStill(known: KnownLeast | null, asked: Omit<KnownLeast, 'cpuMs'>): known is KnownLeast {
  return (
    known !== null &&
    known.reference === asked.reference &&
    known.model === asked.model &&
    known.share === asked.share &&
    known.endsAtMs === asked.endsAtMs
  );
}
