/** Made-up guests, and looks at them as QEMU's page sampling takes them: the same draw of pages and the same rounding. */
import type { GuestFacts } from '../../src/convergence/dirty-model.ts';
import { type Curve, dirtiedBytes } from '../../src/convergence/dirtying.ts';
import { nextWindowMs, type TakenLook } from '../../src/convergence/measuring.ts';
import type { DirtyWindow } from '../../src/domain/prediction.ts';
import { dirtied } from '../../src/hypervisors/qemu/dirty-sampling.ts';

export const MIB = 2 ** 20;
const GIB = 2 ** 30;
const PAGES_PER_GIB = 16_384;
const OVERHEAD_MS = 50;

export interface MadeUpGuest {
  readonly curve: Curve;
  readonly memoryBytes: number;
  readonly tickHz: number;
}

export function guestOf(
  rateMib: number,
  setMib: number,
  pattern: Curve['pattern'],
  memoryMib: number,
  tickHz = 256,
): MadeUpGuest {
  const curve = { rateBytesPerSec: rateMib * MIB, workingSetBytes: setMib * MIB, pattern };
  return { curve, memoryBytes: memoryMib * MIB, tickHz };
}

export function factsOf({ memoryBytes }: MadeUpGuest): GuestFacts {
  return { memoryBytes, touchedBytes: memoryBytes * 0.95, demandCores: 1 };
}

/** `number`: chance, in [0, 1). Up to 3 ms longer than asked; the guest writes at its timer's ticks only. */
export function look({ curve, memoryBytes, tickHz }: MadeUpGuest, askedMs: number, number: () => number): TakenLook {
  const windowMs = Math.round(askedMs + 3 * number());
  const ticks = Math.floor((windowMs / 1_000) * tickHz + number());
  const part = dirtiedBytes(curve, (ticks / tickHz) * 1_000) / memoryBytes;
  const samples = (PAGES_PER_GIB * memoryBytes) / GIB;
  let found = 0;
  for (let sample = 0; sample < samples; sample += 1) if (number() < part) found += 1;
  const mibPerSec = Math.floor(((found / samples) * (memoryBytes / MIB) * 1_000) / windowMs);
  return dirtied({ mibPerSec, windowMs, pagesPerGib: PAGES_PER_GIB, memoryBytes });
}

export function windowOf({ windowMs, bytes, errorBytes }: TakenLook, atMs: number): DirtyWindow {
  return { atMs, cpuMs: windowMs, bytes, errorBytes, source: 'sampling' };
}

/** The looks before a start, as the schedule asks for them. */
export function measured(
  guest: MadeUpGuest,
  number: () => number,
  budgetMs = 3_000,
): { windows: readonly DirtyWindow[]; spentMs: number; asked: readonly number[] } {
  const taken: TakenLook[] = [];
  const windows: DirtyWindow[] = [];
  const asked: number[] = [];
  let spentMs = 0;
  for (;;) {
    const nextMs = nextWindowMs(taken, spentMs, budgetMs);
    if (nextMs === null) return { windows, spentMs, asked };
    asked.push(nextMs);
    const next = look(guest, nextMs, number);
    spentMs += next.windowMs + OVERHEAD_MS;
    taken.push(next);
    windows.push(windowOf(next, spentMs));
  }
}
