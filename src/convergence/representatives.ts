/**
 * A few possible guests that stand for many: belief over a fine grid, cut into groups where that lessens the spread within
 * them most (divisive clustering by variance), each represented by its mean. So the outer groups lie about where the 5%
 * and 95% quantiles do, which the most likely cells alone would not. Pure.
 */
import type { Hypothesis } from './dirty-model.ts';
import type { Cell } from './posterior.ts';

interface Group {
  readonly cells: readonly Cell[];
  readonly mass: number;
  readonly lnRate: number;
  readonly lnSet: number;
  /** Mass times variance, along each axis. */
  readonly rateSpread: number;
  readonly setSpread: number;
}

/** Below it a group is not worth a split: its guests differ by less than a percent. */
const LEAST_SPREAD = 1e-6;

/** At most `count`, by descending weight; the weights sum up to 1. Both patterns are represented where both are possible. */
export function representatives(cells: readonly Cell[], count: number): Hypothesis[] {
  const groups = (['sweep', 'random'] as const)
    .map((pattern) => cells.filter((cell) => cell.pattern === pattern && cell.mass > 0))
    .filter((of) => of.length > 0)
    .map(groupOf);
  while (groups.length < count) {
    const widest = groups.reduce((a, b) => (spreadOf(b) > spreadOf(a) ? b : a));
    if (spreadOf(widest) < LEAST_SPREAD) break;
    groups.splice(groups.indexOf(widest), 1, ...split(widest));
  }
  const total = groups.reduce((sum, { mass }) => sum + mass, 0);
  return groups
    .map(({ cells: of, mass, lnRate, lnSet }) => ({
      rateBytesPerSec: Math.exp(lnRate),
      workingSetBytes: Math.exp(lnSet),
      pattern: of[0]?.pattern ?? 'sweep',
      weight: mass / total,
    }))
    .sort(
      (a, b) => b.weight - a.weight || a.rateBytesPerSec - b.rateBytesPerSec || a.workingSetBytes - b.workingSetBytes,
    );
}

function spreadOf({ rateSpread, setSpread }: Group): number {
  return Math.max(rateSpread, setSpread);
}

function groupOf(cells: readonly Cell[]): Group {
  let mass = 0;
  let lnRate = 0;
  let lnSet = 0;
  for (const cell of cells) {
    mass += cell.mass;
    lnRate += cell.mass * cell.lnRate;
    lnSet += cell.mass * cell.lnSet;
  }
  lnRate /= mass;
  lnSet /= mass;
  let rateSpread = 0;
  let setSpread = 0;
  for (const cell of cells) {
    rateSpread += cell.mass * (cell.lnRate - lnRate) ** 2;
    setSpread += cell.mass * (cell.lnSet - lnSet) ** 2;
  }
  return { cells, mass, lnRate, lnSet, rateSpread, setSpread };
}

/** At the mean of the wider axis: near the best place for anything but a very skewed group, which is split again. */
function split(group: Group): [Group, Group] {
  const alongRate = group.rateSpread >= group.setSpread;
  const middle = alongRate ? group.lnRate : group.lnSet;
  const below = group.cells.filter((cell) => (alongRate ? cell.lnRate : cell.lnSet) < middle);
  const above = group.cells.filter((cell) => (alongRate ? cell.lnRate : cell.lnSet) >= middle);
  return [groupOf(below), groupOf(above)];
}
