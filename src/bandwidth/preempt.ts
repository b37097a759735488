/**
 * Which rebalances have to give way to evacuations that wait. Pure. Who gives way is asked of its own workflow, which ends
 * the attempt in its own time: what it used counts until it has said so, like everything that is given up.
 */
import {
  type AllocationInput,
  byRank,
  countedBytesPerSec,
  type Entry,
  hasStarted,
  neededBytesPerSec,
  stillWaits,
} from './allocate.ts';
import { capacityOf, keyOf, pathOf } from './resources.ts';

interface Lane {
  readonly capacity: number;
  /** What counts on it now, less what is about to be given up, and what waiting ones of higher rank will take of that. */
  counted: number;
}

/**
 * By migration id of the rebalance: the evacuation's entry that takes its place. As few as will do, the last of rank first;
 * none where it would not be enough, or where there may be more than is entered (`frozen`).
 */
export function preempted(input: AllocationInput): ReadonlyMap<string, Entry> {
  const giving = new Map<string, Entry>();
  if (input.frozen === true) return giving;
  const lanes = lanesOf(input);
  const of = (entry: Entry): Lane[] => {
    return pathOf(entry.source, entry.destination, input.links).map((resource) => lanes(keyOf(resource)));
  };
  const ranked = [...input.entries].sort(byRank);
  const rebalances = ranked.filter((entry) => entry.tier === 'rebalance' && hasStarted(entry)).reverse();
  for (const waiting of ranked.filter((entry) => entry.tier === 'evacuation' && stillWaits(entry))) {
    const whole = neededBytesPerSec(waiting);
    const needed = whole - (hasStarted(waiting) ? countedBytesPerSec(waiting) : 0);
    const path = of(waiting);
    if (needed <= 0 || path.some(({ capacity }) => capacity < whole)) continue;
    const chosen = fewest(
      path,
      needed,
      rebalances.filter((entry) => !giving.has(entry.migrationId)),
      of,
    );
    if (chosen === null) continue;
    for (const entry of chosen) {
      giving.set(entry.migrationId, waiting);
      for (const lane of of(entry)) lane.counted -= countedBytesPerSec(entry);
    }
    for (const lane of path) lane.counted += needed;
  }
  return giving;
}

/** null: not even all of them would do. Empty: it starts without. */
function fewest(
  path: readonly Lane[],
  needed: number,
  candidates: readonly Entry[],
  of: (entry: Entry) => readonly Lane[],
): readonly Entry[] | null {
  const short = new Map(path.map((lane) => [lane, needed - (lane.capacity - lane.counted)]));
  const chosen: Entry[] = [];
  for (const entry of candidates) {
    if ([...short.values()].every((bytes) => bytes <= 0)) break;
    const frees = of(entry).filter((lane) => (short.get(lane) ?? 0) > 0);
    if (frees.length === 0) continue;
    chosen.push(entry);
    for (const lane of frees) short.set(lane, (short.get(lane) ?? 0) - countedBytesPerSec(entry));
  }
  return [...short.values()].every((bytes) => bytes <= 0) ? chosen : null;
}

function lanesOf(input: AllocationInput): (key: string) => Lane {
  const lanes = new Map<string, Lane>();
  for (const entry of input.entries) {
    for (const resource of pathOf(entry.source, entry.destination, input.links)) {
      const key = keyOf(resource);
      const lane = lanes.get(key) ?? { capacity: capacityOf(resource, input), counted: 0 };
      if (hasStarted(entry)) lane.counted += countedBytesPerSec(entry);
      lanes.set(key, lane);
    }
  }
  return (key) => lanes.get(key) ?? { capacity: 0, counted: 0 };
}
