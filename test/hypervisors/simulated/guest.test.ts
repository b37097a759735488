import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  demandMs,
  guestOf,
  handoverMs,
  passJitter,
  phaseAt,
  uniqueDirtied,
} from '../../../src/hypervisors/simulated/guest.ts';
import { chance, uuidFrom } from '../../../src/hypervisors/simulated/hash.ts';

const spec = { name: 'v', memory: 1_000, cpus: 2, dirtyRate: 10, workingSet: 500, cpuUse: 0.5 };
const phases = [
  { duration: 100, dirtyRate: 1, cpuUse: 1 },
  { duration: 50, dirtyRate: 2, cpuUse: 0, workingSet: 100 },
];

describe('a simulated guest', () => {
  test('has touched all of its memory unless it says otherwise, and dirties no more than there is', () => {
    expect(guestOf(spec, 1)).toMatchObject({ touchedBytes: 1_000, phases: [{ workingSetBytes: 500 }] });
    expect(guestOf({ ...spec, touched: 9_999, workingSet: 9_999 }, 1)).toMatchObject({
      touchedBytes: 1_000,
      phases: [{ workingSetBytes: 1_000 }],
    });
  });

  test('takes from itself what a phase leaves open', () => {
    expect(guestOf({ ...spec, phases: [{ duration: 5, dirtyRate: 7 }] }, 1).phases).toEqual([
      { durationMs: 5, dirtyRateBytesPerSec: 7, workingSetBytes: 500, cpuUse: 0.5 },
    ]);
  });

  test('is in the next phase from the very moment at which the last one ends', () => {
    const guest = guestOf({ ...spec, phases }, 1);
    expect(phaseAt(guest, 99)).toMatchObject({ phase: { dirtyRateBytesPerSec: 1 }, endsAtMs: 100 });
    expect(phaseAt(guest, 100)).toMatchObject({ phase: { dirtyRateBytesPerSec: 2 }, endsAtMs: 150 });
    expect(phaseAt(guest, 150_000_150)).toMatchObject({ phase: { dirtyRateBytesPerSec: 1 }, endsAtMs: 150_000_250 });
  });

  test('always has a next phase that ends later, whatever the rounding', () => {
    const duration = fc.integer({ min: 7, max: 70_000 }).map((sevenths) => sevenths / 7);
    fc.assert(
      fc.property(
        fc.array(duration, { minLength: 2, maxLength: 4 }),
        fc.nat(2 ** 31).map((at) => at * 11.1),
        (all, at) => {
          const guest = guestOf({ ...spec, phases: all.map((one) => ({ duration: one, dirtyRate: 1 })) }, 1);
          expect(phaseAt(guest, at).endsAtMs ?? 0).toBeGreaterThan(at);
        },
      ),
    );
  });

  test('wants CPU time by its phases, whichever way a stretch is cut', () => {
    const guest = guestOf({ ...spec, phases }, 1);
    expect(demandMs(guest, 0, 150)).toBe(200);
    expect(demandMs(guest, 90, 310)).toBe(20 + 200 + 20);
    const time = fc.integer({ min: 0, max: 1_000_000 });
    fc.assert(
      fc.property(time, time, time, (x, y, z) => {
        const [a = 0, b = 0, c = 0] = [x, y, z].sort((one, other) => one - other);
        expect(demandMs(guest, a, b) + demandMs(guest, b, c)).toBeCloseTo(demandMs(guest, a, c), 6);
      }),
    );
  });

  test('dirties with its slope until it has dirtied its working set, and takes nothing back when that shrinks', () => {
    expect(uniqueDirtied(0, 100, 500, 2_000)).toBe(200);
    expect(uniqueDirtied(0, 100, 500, 20_000)).toBe(500);
    expect(uniqueDirtied(400, 100, 500, 20_000)).toBe(500);
    expect(uniqueDirtied(400, 100, 300, 20_000)).toBe(400);
  });
});

describe('chance', () => {
  test('is even, and different for neighbours', () => {
    const numbers = Array.from({ length: 2_000 }, (_, pass) => chance(1, 'x', pass));
    const mean = numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
    expect(mean).toBeGreaterThan(0.47);
    expect(mean).toBeLessThan(0.53);
    for (let tenth = 0; tenth < 10; tenth += 1) {
      const here = numbers.filter((one) => Math.floor(one * 10) === tenth).length;
      expect(here).toBeGreaterThan(140);
      expect(here).toBeLessThan(260);
    }
  });

  test('keeps jitter within 3% and the handover within 20 to 40 ms', () => {
    fc.assert(
      fc.property(fc.nat(), fc.string(), fc.nat(), fc.nat(), (seed, vm, migration, pass) => {
        expect(Math.abs(passJitter(seed, vm, migration, pass) - 1)).toBeLessThanOrEqual(0.03);
        expect(handoverMs(seed, vm, migration)).toBeGreaterThanOrEqual(20);
        expect(handoverMs(seed, vm, migration)).toBeLessThanOrEqual(40);
      }),
    );
  });

  test('gives every VM of a large fleet a uuid of its own, other ones for another seed', () => {
    const uuids = new Set<string>();
    for (const seed of [1, 2]) for (let n = 0; n < 10_000; n += 1) uuids.add(uuidFrom(seed, 'uuid', `vm-${n}`));
    expect(uuids.size).toBe(20_000);
  });
});
