/** What a migration without a grant waits for, in words. Not here: the decision that it waits (allocate.ts). */
import { formatRate } from '../domain/units.ts';
import {
  type AllocationInput,
  aheadOf,
  byRank,
  countedBytesPerSec,
  type Entry,
  hasHeadStart,
  neededBytesPerSec,
  waitingBeside,
} from './allocate.ts';
import { capacityOf, describeResource, keyOf, pathKeysOf, pathOf, type Resource } from './resources.ts';

/** More names would not be read. */
const HOLDERS_SHOWN = 3;

interface Lane {
  readonly resource: Resource;
  readonly capacity: number;
  /** The entries that count on it, the largest first. */
  readonly holders: readonly Entry[];
  readonly free: number;
}

/** For an entry of `input` that has not started. */
export function describeWait(input: AllocationInput, entry: Entry): string {
  const needed = neededBytesPerSec(entry);
  const lanes = lanesOf(input, entry);
  const needs = `needs ${formatRate(needed)}`;
  const small = lanes.filter(({ capacity }) => capacity < needed);
  if (small.length > 0) {
    const carried = small.map(
      ({ resource, capacity }) => `${describeResource(resource)} carries ${formatRate(capacity)}`,
    );
    return `${carried.join(', ')}, ${needs}: it cannot start before the capacity is raised`;
  }
  const short = lanes.filter(({ free }) => free < needed);
  if (short.length > 0) {
    return short
      .map(({ resource, capacity, free, holders }) => {
        const available = `${formatRate(Math.max(0, free))} of ${formatRate(capacity)} free`;
        return `${describeResource(resource)}: ${available}, ${needs}; held by ${names(holders)}`;
      })
      .join(' -- and ');
  }
  return describeQueue(input, entry);
}

/** Its path is free, but somebody before it is saving up for it. */
function describeQueue(input: AllocationInput, entry: Entry): string {
  const [first] = aheadOf(input, entry);
  if (first === undefined) {
    const early = waitingBeside(input, entry).filter(hasHeadStart);
    return early.length === 0 ? 'its turn' : `behind ${names(early)}, for which the rest of what it needs is kept`;
  }
  const short = lanesOf(input, first).filter(({ free }) => free < neededBytesPerSec(first));
  const what = short.map(({ resource }) => describeResource(resource)).join(' and ');
  return `behind ${names([first])}${what === '' ? '' : `, which waits for ${what}`}`;
}

function lanesOf(input: AllocationInput, entry: Entry): Lane[] {
  return pathOf(entry.source, entry.destination, input.links).map((resource) => {
    const key = keyOf(resource);
    const holders = input.entries
      .filter((other) => countedBytesPerSec(other) > 0)
      .filter((other) => pathKeysOf(other.source, other.destination, input.links).includes(key))
      .sort((a, b) => countedBytesPerSec(b) - countedBytesPerSec(a) || byRank(a, b));
    const capacity = capacityOf(resource, input);
    const free = capacity - holders.reduce((sum, holder) => sum + countedBytesPerSec(holder), 0);
    return { resource, capacity, holders, free };
  });
}

function names(entries: readonly Entry[]): string {
  const shown = entries.slice(0, HOLDERS_SHOWN).map(({ vm, operationId }) => `${vm} (${operationId})`);
  const rest = entries.length - shown.length;
  return rest > 0 ? `${shown.join(', ')} and ${rest} more` : shown.join(', ');
}
