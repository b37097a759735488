/**
 * How likely each possible guest is after what was seen: a grid over rate and working set, both on a log scale, for both
 * patterns, refined where it matters: each round keeps the cells that are near the best one and quarters them. Every
 * likelihood is smeared by the size of its cell, so that nothing falls between the points of a coarse grid. Pure.
 */
import type { GuestFacts, Pattern } from './dirty-model.ts';
import { type Look, logLikelihood, memoryOf } from './evidence.ts';

/** One cell: a rate and a working set by their logarithms, with what the evidence says of it. */
export interface Cell {
  readonly lnRate: number;
  readonly lnSet: number;
  readonly pattern: Pattern;
  /** Of the evidence alone. */
  readonly logLikelihood: number;
  /** Share of all belief. 0..1. */
  readonly mass: number;
}

export interface Range {
  readonly low: number;
  readonly high: number;
}

export interface Posterior {
  readonly cells: readonly Cell[];
  /** Of the whole grid, logarithms. */
  readonly rates: Range;
  readonly sets: Range;
  /** Of a cell, logarithms. */
  readonly rateStep: number;
  readonly setStep: number;
}

const KIB = 2 ** 10;
const MIB = 2 ** 20;

const SLOWEST = 16 * KIB;
const FASTEST = 32 * KIB * MIB;
/** Any running guest dirties that much, and it is sent in no time: less is not told apart. */
const SMALLEST_SET = MIB;

/** Before any evidence: rates around 16 MiB/s, a third of the guests more than 3.5 octaves away from it. */
const LN_USUAL_RATE = Math.log(16 * MIB);
const USUAL_SPREAD = 3.5 * Math.LN2;
/** Memory that was never touched is not written over and over; what the hypervisor says of it may be off. */
const UNTOUCHED_PENALTY = 2.5;
const TOUCHED_SLACK = 1.15;

const COARSE_STEP = Math.LN2 / 2;
const FINE_STEP = Math.LN2 / 30;
/** A round is not begun that would look at more cells. */
const CELLS_LIMIT = 2_400;
/** Cells that are less likely than the best by e^10 are not looked at again. */
const KEPT_WITHIN = 10;

interface Scored {
  readonly lnRate: number;
  readonly lnSet: number;
  readonly pattern: Pattern;
  readonly log: number;
}

export function gridRanges(guest: GuestFacts): { rates: Range; sets: Range } {
  const memoryBytes = memoryOf(guest);
  return {
    rates: { low: Math.log(SLOWEST), high: Math.log(FASTEST) },
    sets: { low: Math.log(Math.min(SMALLEST_SET, memoryBytes / 4)), high: Math.log(memoryBytes) },
  };
}

/** Centres of equal cells that fill a range. */
export function centres({ low, high }: Range, widest: number): { step: number; at: number[] } {
  const count = Math.max(1, Math.ceil((high - low) / widest));
  const step = (high - low) / count;
  return { step, at: Array.from({ length: count }, (_, index) => low + (index + 0.5) * step) };
}

/** `looks` by time. At most some 10,000 cells are looked at, each once for each look. */
export function posteriorOf(looks: readonly Look[], guest: GuestFacts): Posterior {
  const { rates, sets } = gridRanges(guest);
  const coarseRates = centres(rates, COARSE_STEP);
  const coarseSets = centres(sets, COARSE_STEP);
  let rateStep = coarseRates.step;
  let setStep = coarseSets.step;
  let cells = coarseRates.at.flatMap((lnRate) =>
    coarseSets.at.flatMap((lnSet) => [
      scored(looks, { lnRate, lnSet, pattern: 'sweep' }, rateStep, setStep),
      scored(looks, { lnRate, lnSet, pattern: 'random' }, rateStep, setStep),
    ]),
  );
  while (Math.max(rateStep, setStep) > FINE_STEP) {
    const kept = near(cells);
    if (kept.length * 4 > CELLS_LIMIT) break;
    rateStep /= 2;
    setStep /= 2;
    cells = kept.flatMap(({ lnRate, lnSet, pattern }) =>
      QUARTERS.map(([right, up]) =>
        scored(
          looks,
          { lnRate: lnRate + (right * rateStep) / 2, lnSet: lnSet + (up * setStep) / 2, pattern },
          rateStep,
          setStep,
        ),
      ),
    );
  }
  return { cells: weighed(cells, guest), rates, sets, rateStep, setStep };
}

const QUARTERS = [
  [-1, -1],
  [-1, 1],
  [1, -1],
  [1, 1],
] as const;

function scored(looks: readonly Look[], at: Omit<Scored, 'log'>, rateStep: number, setStep: number): Scored {
  const rate = Math.exp(at.lnRate);
  const set = Math.exp(at.lnSet);
  // A cell's points lie evenly over it: variance step^2 / 12 on each side.
  const smear = (rateStep * rateStep + setStep * setStep) / 12;
  let log = 0;
  for (const look of looks) log += look.power * logLikelihood(look, rate, set, at.pattern, smear);
  return { ...at, log };
}

function near(cells: readonly Scored[]): Scored[] {
  const best = cells.reduce((most, { log }) => Math.max(most, log), Number.NEGATIVE_INFINITY);
  return cells.filter(({ log }) => log >= best - KEPT_WITHIN);
}

function weighed(cells: readonly Scored[], { touchedBytes }: GuestFacts): Cell[] {
  const lnTouched = touchedBytes > 0 ? Math.log(touchedBytes * TOUCHED_SLACK) : null;
  const beliefs = cells.map((cell) => cell.log + logPrior(cell, lnTouched));
  const best = beliefs.reduce((most, belief) => Math.max(most, belief), Number.NEGATIVE_INFINITY);
  const weights = beliefs.map((belief) => Math.exp(belief - best));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  return cells.map(({ lnRate, lnSet, pattern, log }, index) => ({
    lnRate,
    lnSet,
    pattern,
    logLikelihood: log,
    mass: (weights[index] ?? 0) / sum,
  }));
}

/** Even on the log scale of the working set, as far as there is touched memory (`lnTouched`; null: not known). */
function logPrior({ lnRate, lnSet }: Scored, lnTouched: number | null): number {
  const unusual = (lnRate - LN_USUAL_RATE) / USUAL_SPREAD;
  const untouched = lnTouched !== null && lnSet > lnTouched;
  return -0.5 * unusual * unusual - (untouched ? UNTOUCHED_PENALTY : 0);
}
