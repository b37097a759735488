/** The curve of dirtying, and its inverse. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Curve, cpuMsToDirty, dirtiedBytes } from '../../src/convergence/dirtying.ts';
import { numbersFrom } from '../support/random.ts';

const PAGE = 4_096;
const MIB = 2 ** 20;
const curves = fc.record({
  rateBytesPerSec: fc.double({ min: 1_024, max: 2 ** 34, noNaN: true }),
  workingSetBytes: fc.double({ min: PAGE, max: 2 ** 38, noNaN: true }),
  pattern: fc.constantFrom<Curve['pattern']>('sweep', 'random'),
});
const times = fc.double({ min: 0.001, max: 1e7, noNaN: true });

describe('what is dirtied in some CPU time', () => {
  test('by a sweep: all that is written, until it has come round', () => {
    const sweep: Curve = { rateBytesPerSec: 160 * MIB, workingSetBytes: 64 * MIB, pattern: 'sweep' };
    expect(dirtiedBytes(sweep, 100)).toBeCloseTo(16 * MIB, 3);
    expect(dirtiedBytes(sweep, 400)).toBeCloseTo(64 * MIB, 3);
    expect(dirtiedBytes(sweep, 4_000)).toBe(64 * MIB);
  });

  test('at random: as many different pages as writes to random pages hit', () => {
    const pages = 4_000;
    const random: Curve = { rateBytesPerSec: 1_000 * PAGE, workingSetBytes: pages * PAGE, pattern: 'random' };
    const number = numbersFrom(1);
    for (const seconds of [0.5, 2, 4, 12]) {
      const hit = new Set(Array.from({ length: 1_000 * seconds }, () => Math.floor(number() * pages)));
      const expected = dirtiedBytes(random, seconds * 1_000) / PAGE;
      expect(Math.abs(hit.size - expected)).toBeLessThan(0.03 * expected);
    }
  });

  test('never falls with time, and is more than neither what is written nor the working set', () => {
    fc.assert(
      fc.property(curves, times, times, (curve, a, b) => {
        const [sooner, later] = [dirtiedBytes(curve, Math.min(a, b)), dirtiedBytes(curve, Math.max(a, b))];
        expect(sooner).toBeLessThanOrEqual(later);
        expect(later).toBeLessThanOrEqual(curve.workingSetBytes * (1 + 1e-9));
        expect(later).toBeLessThanOrEqual(((curve.rateBytesPerSec * Math.max(a, b)) / 1_000) * (1 + 1e-9));
      }),
    );
  });

  test('is nothing for a guest or a time that is not above zero', () => {
    const curve: Curve = { rateBytesPerSec: MIB, workingSetBytes: MIB, pattern: 'random' };
    expect(dirtiedBytes(curve, -1)).toBe(0);
    expect(dirtiedBytes(curve, Number.NaN)).toBe(0);
    expect(dirtiedBytes({ ...curve, rateBytesPerSec: 0 }, 1_000)).toBe(0);
    expect(dirtiedBytes({ ...curve, workingSetBytes: 0 }, 1_000)).toBe(0);
  });
});

describe('the CPU time that so many bytes take', () => {
  test('is when the curve is there', () => {
    fc.assert(
      fc.property(curves, fc.double({ min: 0.001, max: 0.95, noNaN: true }), (curve, part) => {
        const bytes = part * curve.workingSetBytes;
        expect(dirtiedBytes(curve, cpuMsToDirty(curve, bytes)) / bytes).toBeCloseTo(1, 6);
      }),
    );
  });

  test('is no time for nothing, and for ever for more than the working set', () => {
    const curve: Curve = { rateBytesPerSec: MIB, workingSetBytes: MIB, pattern: 'sweep' };
    expect(cpuMsToDirty(curve, 0)).toBe(0);
    expect(cpuMsToDirty(curve, MIB + 1)).toBe(Number.POSITIVE_INFINITY);
    expect(cpuMsToDirty({ ...curve, rateBytesPerSec: 0 }, 1)).toBe(Number.POSITIVE_INFINITY);
  });
});
