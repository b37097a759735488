/**
 * The order in which the moves of an operation start, and the first guess of how long one takes. The bandwidth budget
 * decides when each really starts. Not here: predictions that know the guest's dirtying (convergence).
 */
import { byName } from './snapshot.ts';

/**
 * Longest first (LPT), by the bytes that must be sent; equal ones by name. Started last, the longest move would run
 * alone at the end while the other links idle; started first, the short ones fill the gaps beside it, and the makespan
 * is at most 4/3 of the best possible (Graham 1969, for equal lanes).
 */
export function inStartOrder<T extends { readonly vm: string; readonly touchedBytes: number }>(
  moves: readonly T[],
): T[] {
  return [...moves].sort((a, b) => b.touchedBytes - a.touchedBytes || byName(a.vm, b.vm));
}

/**
 * Time to send `bytes` once at `bytesPerSec`, ms. First order: no page is dirtied again, so it is the least a move can
 * take. null when nothing flows: nobody can tell.
 */
export function firstOrderMs(bytes: number, bytesPerSec: number): number | null {
  return bytesPerSec > 0 ? (bytes / bytesPerSec) * 1_000 : null;
}
