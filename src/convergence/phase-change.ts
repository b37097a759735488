/**
 * Whether a guest has begun to behave otherwise, seen from its looks in order: the looks from some moment on are explained
 * much better by a guest of their own than by the one that explains those before (Bayes factor between one guest for all
 * and one for each side, each averaged over a coarse grid of guests, so that an explanation that would fit anything counts
 * little). Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';
import { formatDuration, formatShare, formatSize } from '../domain/units.ts';
import type { DirtyModel, GuestFacts } from './dirty-model.ts';
import { dirtiedBytes } from './dirtying.ts';
import { logLikelihood, lookOf } from './evidence.ts';
import { centres, gridRanges } from './posterior.ts';

export interface PhaseChange {
  /** The first look of the new phase, as a position in what was given. */
  readonly first: number;
  readonly change: NonNullable<DirtyModel['change']>;
}

/** Guests scatter by that much without having changed. */
const SCATTER = 0.25;
const STEP = Math.LN2 / 2;
/** Logarithm of the Bayes factor: twenty to one. */
const MUCH_BETTER = 3;
/** And it must make a difference to somebody. */
const LEAST_FACTOR = 1.6;
/** One look by sampling may go wrong: it takes two. A pass has counted every page, but must be far off to stand alone. */
const ALONE_FACTOR = 3;
/** A look much longer or shorter than all before shows more of the guest than they did, not another guest. */
const COMPARABLE = 2;
const NEXT_TO_NOTHING = 0.02;
/** Of a logarithm below the best: a thousand such together would not show in the last digit. */
const NOTHING_LEFT = -50;

/** The latest change in live looks, which are sound and by time; null: none. */
export function latestChange(windows: readonly DirtyWindow[], guest: GuestFacts, nowMs: number): PhaseChange | null {
  const grid = new CoarseGrid(windows, guest);
  let found: PhaseChange | null = null;
  for (let begin = 0; ; ) {
    const next = changeWithin(grid, begin, nowMs);
    if (next === null) return found;
    found = next;
    begin = next.first;
  }
}

/** The one change that explains most, from `begin` on. */
function changeWithin(grid: CoarseGrid, begin: number, nowMs: number): PhaseChange | null {
  const { windows } = grid;
  const together = grid.evidenceFor(begin, windows.length);
  let best: (Shift & { gain: number }) | null = null;
  for (let first = begin + 1; first < windows.length; first += 1) {
    const gain = grid.evidenceFor(begin, first) + grid.evidenceFor(first, windows.length) - together;
    if (gain <= Math.max(MUCH_BETTER, best?.gain ?? 0)) continue;
    const shift = shiftAt(grid, begin, first);
    if (shift !== null) best = { ...shift, gain };
  }
  if (best === null) return null;
  return { first: best.first, change: { atMs: best.atMs, what: inWords(best, Math.max(0, nowMs - best.atMs)) } };
}

interface Shift {
  readonly first: number;
  readonly atMs: number;
  /** What is dirtied in so much CPU time, before and after. */
  readonly cpuMs: number;
  readonly before: number;
  readonly after: number;
}

/** null: too small, or seen by too little. */
function shiftAt(grid: CoarseGrid, begin: number, first: number): Shift | null {
  const since = grid.windows.slice(first);
  const told = since[0];
  if (told === undefined) return null;
  const cpuMs = Math.max(...since.map((window) => window.cpuMs));
  const before = grid.expectedBytes(begin, first, cpuMs);
  const after = grid.expectedBytes(first, grid.windows.length, cpuMs);
  const factor = Math.max(after / before, before / after);
  if (factor < LEAST_FACTOR) return null;
  const lengths = grid.windows.slice(begin, first).map((window) => window.cpuMs);
  const [shortest, longest] = [Math.min(...lengths) / COMPARABLE, Math.max(...lengths) * COMPARABLE];
  const witnesses = since
    .filter((window) => window.cpuMs >= shortest && window.cpuMs <= longest)
    .filter((window) => unexpected(window, grid.expectedBytes(begin, first, window.cpuMs), after > before));
  const sure = witnesses.length > 1 || (factor >= ALONE_FACTOR && witnesses[0]?.source === 'pass');
  if (!sure) return null;
  // It began at some time in the first look that shows it, or after the last one that does not.
  return {
    first,
    atMs: Math.max(grid.windows[first - 1]?.atMs ?? told.atMs, told.atMs - told.cpuMs),
    cpuMs,
    before,
    after,
  };
}

/** By more than its own error. */
function unexpected({ bytes, errorBytes }: DirtyWindow, expected: number, more: boolean): boolean {
  return more ? bytes - errorBytes > expected * LEAST_FACTOR : bytes + errorBytes < expected / LEAST_FACTOR;
}

function inWords({ before, after, cpuMs }: Shift, agoMs: number): string {
  const factor = after / before;
  const figures = `${formatSize(after)} in ${formatDuration(cpuMs)} of its CPU time, before that ${formatSize(before)}`;
  return `since ${formatDuration(agoMs)} ago it dirties ${comparedWithBefore(factor)}: ${figures}`;
}

function comparedWithBefore(factor: number): string {
  if (factor < NEXT_TO_NOTHING) return 'next to nothing';
  if (factor < 1) return `only ${formatShare(factor)} of what it did`;
  return `${factor < 4 ? factor.toFixed(1) : Math.round(factor)} times as much`;
}

interface Guess {
  readonly rateBytesPerSec: number;
  readonly workingSetBytes: number;
}

/** How well each guest of a coarse grid explains any stretch of the looks. Sweeping guests only: the difference is small. */
class CoarseGrid {
  readonly windows: readonly DirtyWindow[];
  readonly #guesses: readonly Guess[];
  /** [n][guess]: log likelihood of the first n looks. */
  readonly #sums: readonly Float64Array[];

  constructor(windows: readonly DirtyWindow[], guest: GuestFacts) {
    this.windows = windows;
    const { rates, sets } = gridRanges(guest);
    const rateCentres = centres(rates, STEP);
    const setCentres = centres(sets, STEP);
    const smear = (rateCentres.step ** 2 + setCentres.step ** 2) / 12;
    this.#guesses = rateCentres.at.flatMap((lnRate) =>
      setCentres.at.map((lnSet) => ({ rateBytesPerSec: Math.exp(lnRate), workingSetBytes: Math.exp(lnSet) })),
    );
    const sums = [new Float64Array(this.#guesses.length)];
    for (const window of windows) {
      const look = lookOf(window, { relativeError: SCATTER, power: 1 });
      const sum = Float64Array.from(sums.at(-1) ?? []);
      let index = 0;
      for (const { rateBytesPerSec, workingSetBytes } of this.#guesses) {
        sum[index] = (sum[index] ?? 0) + logLikelihood(look, rateBytesPerSec, workingSetBytes, 'sweep', smear);
        index += 1;
      }
      sums.push(sum);
    }
    this.#sums = sums;
  }

  /** Logarithm of the mean likelihood over all guests. */
  evidenceFor(begin: number, end: number): number {
    const { best, weights, sum } = this.#weights(begin, end);
    return best + Math.log(sum / weights.length);
  }

  /** What a look of that length is expected to show after the looks of a stretch: geometric mean. */
  expectedBytes(begin: number, end: number, cpuMs: number): number {
    const { weights, sum } = this.#weights(begin, end);
    let logs = 0;
    for (const [index, guess] of this.#guesses.entries()) {
      const weight = weights[index] ?? 0;
      if (weight > 0) logs += weight * Math.log(Math.max(1, dirtiedBytes({ ...guess, pattern: 'sweep' }, cpuMs)));
    }
    return Math.exp(logs / sum);
  }

  /** Called some tens of times for one model, over a thousand guesses: hence the plain loops. */
  #weights(begin: number, end: number): { best: number; weights: Float64Array; sum: number } {
    const [from, to] = [this.#sums[begin], this.#sums[end]];
    const weights = new Float64Array(this.#guesses.length);
    let best = Number.NEGATIVE_INFINITY;
    for (let index = 0; index < weights.length; index += 1) {
      const log = (to?.[index] ?? 0) - (from?.[index] ?? 0);
      weights[index] = log;
      if (log > best) best = log;
    }
    let sum = 0;
    for (let index = 0; index < weights.length; index += 1) {
      const below = (weights[index] ?? 0) - best;
      const weight = below < NOTHING_LEFT ? 0 : Math.exp(below);
      weights[index] = weight;
      sum += weight;
    }
    return { best, weights, sum };
  }
}
