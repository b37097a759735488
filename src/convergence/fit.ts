/**
 * From looks at a guest to what is believed of it: `posterior.ts` says how likely each possible guest is, and here that
 * becomes figures with bounds, and the few tens of possible guests that predictions are made for. Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';
import type { DirtyModel, Estimate, GuestFacts, Hypothesis, Pattern } from './dirty-model.ts';
import { fitsIn, isSound, weighedLooks } from './evidence.ts';
import { compactEvidence } from './history.ts';
import { latestChange } from './phase-change.ts';
import { type Cell, type Posterior, posteriorOf, type Range } from './posterior.ts';
import { representatives } from './representatives.ts';

/** Half the 95% quantile of chi squared with one degree of freedom: what is less likely than the best by more is out of bounds. */
const WITHIN_BOUNDS = 1.92;
/** Bounds that lie closer than that leave no question open, even where one of them is the end of what is possible. */
const NARROW = Math.log(1.5);
/** And so far apart that the middle between them is no figure to go by. */
const FAR_APART = Math.log(6);
const SURE_OF_PATTERN = 0.85;
const HYPOTHESES = 28;
/** Of these, of a phase that is over, and their weight together. */
const EARLIER_HYPOTHESES = 4;
const EARLIER_WEIGHT = 0.1;

/**
 * What the looks say of the guest now. Looks that cannot be true are left out; without any, everything is possible that
 * its memory allows. Never throws. Some milliseconds of work: it may be called at every tick.
 */
export function fitDirtyModel(evidence: readonly DirtyWindow[], guest: GuestFacts, nowMs: number): DirtyModel {
  const possible = evidence.filter((window) => isSound(window) && fitsIn(guest, window));
  const atMs = Number.isFinite(nowMs) ? nowMs : possible.reduce((last, window) => Math.max(last, window.atMs), 0);
  const windows = compactEvidence(possible, atMs);
  const live = windows.filter(({ source }) => source !== 'history');
  const change = latestChange(live, guest, atMs);
  const outlived = live.slice(0, change?.first ?? 0);
  const posterior = posteriorOf(weighedLooks(windows, atMs, outlived), guest);
  const { cells, rates, sets, rateStep, setStep } = posterior;
  return {
    rateBytesPerSec: estimate(cells, (cell) => cell.lnRate, rates, rateStep),
    workingSetBytes: estimate(cells, (cell) => cell.lnSet, sets, setStep),
    pattern: patternOf(posterior),
    hypotheses: hypothesesOf(posterior, outlived, guest, atMs),
    change: change?.change ?? null,
  };
}

/** A guest that has changed once may do so again: what it was before stays possible. */
function hypothesesOf(
  { cells }: Posterior,
  outlived: readonly DirtyWindow[],
  guest: GuestFacts,
  nowMs: number,
): Hypothesis[] {
  if (outlived.length === 0) return representatives(cells, HYPOTHESES);
  const before = posteriorOf(weighedLooks(outlived, nowMs, []), guest);
  const weighed = (hypotheses: readonly Hypothesis[], share: number): Hypothesis[] =>
    hypotheses.map((hypothesis) => ({ ...hypothesis, weight: hypothesis.weight * share }));
  return [
    ...weighed(representatives(cells, HYPOTHESES - EARLIER_HYPOTHESES), 1 - EARLIER_WEIGHT),
    ...weighed(representatives(before.cells, EARLIER_HYPOTHESES), EARLIER_WEIGHT),
  ].sort((a, b) => b.weight - a.weight);
}

/** Bounds from the likelihood alone: what is thought of guests before any look must not narrow them. */
function estimate(cells: readonly Cell[], of: (cell: Cell) => number, range: Range, step: number): Estimate {
  const best = cells.reduce((most, cell) => Math.max(most, cell.logLikelihood), Number.NEGATIVE_INFINITY);
  const within = cells.filter((cell) => cell.logLikelihood >= best - WITHIN_BOUNDS).map(of);
  const low = within.reduce((least, at) => Math.min(least, at), range.high) - step / 2;
  const high = within.reduce((most, at) => Math.max(most, at), range.low) + step / 2;
  const wide = high - low > NARROW;
  const openBelow = wide && low <= range.low + step / 2;
  const openAbove = wide && high >= range.high - step / 2;
  return {
    value: openBelow || openAbove || high - low > FAR_APART ? null : Math.exp(median(cells, of, step)),
    low: openBelow ? 0 : Math.exp(low),
    high: openAbove ? null : Math.exp(high),
  };
}

/** Within the cell in which it lies as if belief were even over it. */
function median(cells: readonly Cell[], of: (cell: Cell) => number, step: number): number {
  const masses = new Map<number, number>();
  for (const cell of cells) masses.set(of(cell), (masses.get(of(cell)) ?? 0) + cell.mass);
  let below = 0;
  for (const [at, mass] of [...masses].sort(([a], [b]) => a - b)) {
    if (below + mass >= 0.5) return at + ((0.5 - below) / mass - 0.5) * step;
    below += mass;
  }
  // Rounding: the masses sum up to 1.
  return Math.max(...masses.keys());
}

function patternOf({ cells }: Posterior): Pattern | null {
  const sweep = cells.reduce((sum, { pattern, mass }) => sum + (pattern === 'sweep' ? mass : 0), 0);
  if (sweep > SURE_OF_PATTERN) return 'sweep';
  return sweep < 1 - SURE_OF_PATTERN ? 'random' : null;
}
