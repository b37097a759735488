/**
 * What a look at a simulated guest shows: the different bytes that it dirtied in a window, as QEMU's page sampling would
 * have told them. Computed when somebody looks and kept nowhere, so a guest that nobody looks at costs nothing. No time and
 * no chance of its own.
 */
import type { DirtyingMeasured } from '../hypervisor.ts';
import { dirtied, pagesPerGibFor } from '../qemu/dirty-sampling.ts';
import { demandMs, phaseAt, uniqueDirtied } from './guest.ts';
import { chance } from './hash.ts';
import { gotCpuMsAt } from './migrations.ts';
import type { Copy, Guest, State } from './model.ts';
import { copyOf, guestNamed } from './records.ts';

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/** Different bytes that a guest dirties between two times at a share of its CPU, from a clean start. */
export function dirtiedBetween(guest: Guest, fromMs: number, toMs: number, share: number): number {
  let bytes = 0;
  for (let atMs = fromMs; atMs < toMs; ) {
    const { phase, endsAtMs } = phaseAt(guest, atMs);
    const untilMs = Math.min(toMs, endsAtMs ?? toMs);
    bytes = uniqueDirtied(bytes, phase.dirtyRateBytesPerSec * share, phase.workingSetBytes, untilMs - atMs);
    atMs = untilMs;
  }
  return bytes;
}

/**
 * A look of `windowMs` from the first of two states on; the second is at least that much later. null: the guest did not run
 * all the while. Throttled or not, it counts as if it had got evenly what it got between the two.
 */
export function lookBetween(
  before: State,
  after: State,
  { host, vm, windowMs }: { readonly host: string; readonly vm: string; readonly windowMs: number },
): DirtyingMeasured | null {
  const [first, last] = [running(before, host, vm), running(after, host, vm)];
  if (first === undefined || last === undefined) return null;
  const guest = guestNamed(after, vm);
  const wantedMs = demandMs(guest, before.nowMs, after.nowMs);
  const gotMs = gotCpuMsAt(after, vm, last, after.nowMs) - gotCpuMsAt(before, vm, first, before.nowMs);
  const share = wantedMs > 0 ? Math.min(1, Math.max(0, gotMs / wantedMs)) : last.share;
  const { memoryBytes } = guest;
  const bytes = dirtiedBetween(guest, before.nowMs, before.nowMs + windowMs, share);
  const pagesPerGib = pagesPerGibFor(memoryBytes);
  const pages = Math.max(1, Math.floor((memoryBytes / GIB) * pagesPerGib));
  const draw = (what: string) => chance(after.seed, 'look', what, vm, before.nowMs, windowMs);
  const found = drawn(pages, Math.min(1, bytes / memoryBytes), draw);
  const mibPerSec = Math.floor((found * memoryBytes * 1_000) / (MIB * pages * windowMs));
  return dirtied({ mibPerSec, windowMs, pagesPerGib, memoryBytes });
}

function running(state: State, host: string, vm: string): Copy | undefined {
  if (state.hosts[host]?.dead === true) return undefined;
  const copy = copyOf(state, host, vm);
  return copy?.state === 'running' && !copy.still ? copy : undefined;
}

/** Enough that the normal distribution (Box and Muller) stands for the binomial one. */
const MANY = 25;

/** How many of so many pages, each dirty with this chance, are found to be dirty. */
function drawn(pages: number, part: number, draw: (what: string) => number): number {
  const expected = pages * part;
  const clean = pages - expected;
  if (Math.min(expected, clean) > MANY) {
    const normal = Math.sqrt(-2 * Math.log(1 - draw('size'))) * Math.cos(2 * Math.PI * draw('angle'));
    return Math.round(Math.min(pages, Math.max(0, expected + normal * Math.sqrt(expected * (1 - part)))));
  }
  // The rarer of the two, found one by one.
  const rare = Math.min(part, 1 - part);
  const point = draw('count');
  let found = 0;
  let probability = (1 - rare) ** pages;
  for (let sum = probability; sum < point && found < pages; sum += probability) {
    probability *= ((pages - found) * rare) / ((found + 1) * (1 - rare));
    found += 1;
  }
  return part <= 0.5 ? found : pages - found;
}
