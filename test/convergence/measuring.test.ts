/** Which look is taken next: before a start, on hypervisors that count seconds, and while a migration runs. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  nextLookWhileRunning,
  nextLookWhileWaiting,
  nextWindowMs,
  type TakenLook,
} from '../../src/convergence/measuring.ts';
import type { DirtyWindow } from '../../src/domain/prediction.ts';
import { numbersFrom } from '../support/random.ts';
import { guestOf, MIB, measured } from './guests.ts';

const BUDGET_MS = 3_000;

describe('before a start', () => {
  test('the first looks are short, and one that nothing has filled takes all the time left', () => {
    const { asked, spentMs } = measured(guestOf(60, 400, 'sweep', 512), numbersFrom(1));
    expect(asked.slice(0, 4)).toEqual([50, 100, 250, 500]);
    expect(asked).toHaveLength(5);
    expect(asked[4]).toBeGreaterThan(1_500);
    expect(spentMs).toBeGreaterThan(BUDGET_MS - 100);
  });

  test('once the guest has come round, looks within a round and beyond two of them follow', () => {
    const { asked } = measured(guestOf(300, 60, 'sweep', 256), numbersFrom(2));
    const after = asked.slice(3);
    expect(after.filter((ms) => ms < 200).length).toBeGreaterThanOrEqual(1);
    expect(after.filter((ms) => ms >= 400).length).toBeGreaterThanOrEqual(1);
    expect(Math.max(...asked)).toBeLessThan(1_500);
  });

  test('a guest that comes round within the shortest look is not looked at for long', () => {
    const { asked, spentMs } = measured(guestOf(4_000, 100, 'sweep', 256), numbersFrom(3));
    expect(asked.length).toBeLessThanOrEqual(5);
    expect(spentMs).toBeLessThan(1_500);
  });

  test('a slow guest gets two long looks of different length: whole MiB/s are coarse', () => {
    const { asked } = measured(guestOf(3, 60, 'sweep', 256), numbersFrom(4));
    expect(asked.slice(0, 2)).toEqual([50, 250]);
    expect(asked.filter((ms) => ms > 500)).toHaveLength(2);
  });

  test('the budget is kept, whatever the guest does', () => {
    const number = numbersFrom(5);
    for (let run = 0; run < 60; run += 1) {
      const guest = guestOf(0.1 * 20_000 ** number(), 1 + 250 * number(), number() < 0.5 ? 'sweep' : 'random', 256);
      const { asked, spentMs } = measured(guest, number, BUDGET_MS);
      // The last look is up to 3 ms longer than asked.
      expect(spentMs).toBeLessThanOrEqual(BUDGET_MS + 3);
      expect(Math.min(...asked)).toBeGreaterThanOrEqual(50);
    }
  });

  test('whatever came back, the next look is as long as there is time for, or there is none', () => {
    const figure = fc.oneof(fc.double(), fc.double({ min: 0, max: 1e10, noNaN: true }));
    const looks = fc.array(fc.record({ windowMs: figure, bytes: figure, errorBytes: figure }), { maxLength: 15 });
    fc.assert(
      fc.property(looks, fc.double({ min: 0, max: 4_000, noNaN: true }), (taken, spentMs) => {
        const nextMs = nextWindowMs(taken, spentMs, BUDGET_MS);
        if (nextMs === null) return;
        expect(nextMs).toBeGreaterThanOrEqual(50);
        expect(nextMs).toBeLessThanOrEqual(BUDGET_MS);
      }),
    );
  });

  test('with no time for a look and what comes with it there is none', () => {
    expect(nextWindowMs([], 0, 99)).toBeNull();
    expect(nextWindowMs([], 0, 100)).toBe(50);
    expect(nextWindowMs([], Number.NaN, BUDGET_MS)).toBeNull();
  });

  test('a guest that hardly writes, beside what can be sent, is looked at for 0.3 s; another one for all the time', () => {
    const looks = (mibPerSec: number): TakenLook[] =>
      [50, 250].map((windowMs) => ({ windowMs, bytes: (mibPerSec * MIB * windowMs) / 1_000, errorBytes: MIB / 16 }));
    const path = 40 * MIB;
    expect(nextWindowMs(looks(0.5), 400, BUDGET_MS, path)).toBeNull();
    expect(nextWindowMs(looks(0.5).slice(0, 1), 100, BUDGET_MS, path)).not.toBeNull();
    expect(nextWindowMs(looks(1.9), 400, BUDGET_MS, path)).not.toBeNull();
    expect(nextWindowMs(looks(0.5), 400, BUDGET_MS, 10 * MIB)).not.toBeNull();
    expect(nextWindowMs(looks(0.5), 400, BUDGET_MS)).not.toBeNull();
  });

  test('a hypervisor that counts whole seconds looks for one and for two', () => {
    const look = (windowMs: number): TakenLook => ({ windowMs, bytes: 64 * MIB, errorBytes: MIB });
    expect(nextWindowMs([], 0, BUDGET_MS)).toBe(50);
    expect(nextWindowMs([look(1_000)], 1_060, BUDGET_MS)).toBe(2_000);
    expect(nextWindowMs([look(1_000), look(2_000)], 3_120, BUDGET_MS)).toBeNull();
    expect(nextWindowMs([look(1_000)], 1_060, 2_000)).toBeNull();
  });
});

describe('while a migration runs', () => {
  const at = (atMs: number, cpuMs: number, bytes: number, source: DirtyWindow['source'] = 'sampling'): DirtyWindow => ({
    atMs,
    cpuMs,
    bytes,
    errorBytes: MIB / 2,
    source,
  });
  const even = [at(1_000, 100, 16 * MIB), at(3_500, 100, 16 * MIB), at(4_000, 2_000, 64 * MIB, 'pass')];

  test('a look is due about every 2.5 s', () => {
    expect(nextLookWhileRunning(even, 1, 5_000)).toBeNull();
    expect(nextLookWhileRunning(even, 1, 6_000)).not.toBeNull();
    expect(nextLookWhileRunning([], 1, 0)).not.toBeNull();
  });

  test('and at once after one that was unlike those before', () => {
    for (const odd of [at(4_500, 100, 64 * MIB), at(4_500, 100, 0)]) {
      expect(nextLookWhileRunning([...even, odd], 1, 4_600)).toBeNull();
      expect(nextLookWhileRunning([...even, odd], 1, 4_900)).not.toBeNull();
    }
    expect(nextLookWhileRunning([...even, at(4_500, 100, 15 * MIB)], 1, 4_900)).toBeNull();
  });

  test('it shows the rate: long enough for a telling amount, not so long that the guest comes round', () => {
    // 160 MiB/s over 64 MiB: 12 MiB take 75 ms, a round 400.
    expect(nextLookWhileRunning(even, 1, 8_000)).toBe(75);
    // 160 MiB/s over 16 MiB.
    expect(nextLookWhileRunning([at(1_000, 50, 8 * MIB), at(1_500, 500, 16 * MIB)], 1, 8_000)).toBe(70);
  });

  test('the less the guest gets, the longer it lasts, up to half a second; one follows the other', () => {
    expect(nextLookWhileRunning(even, 0.5, 8_000)).toBe(150);
    expect(nextLookWhileRunning(even, 0.25, 8_000)).toBe(300);
    expect(nextLookWhileRunning(even, 0.05, 8_000)).toBe(500);
    expect(nextLookWhileRunning(even, 0, 8_000)).toBe(500);
    const sampled = even.slice(0, 2);
    expect(nextLookWhileRunning(sampled, 0.25, 3_699)).toBeNull();
    expect(nextLookWhileRunning(sampled, 0.25, 3_700)).not.toBeNull();
  });

  test('a guest that runs free is looked at for up to 2 s', () => {
    expect(nextLookWhileRunning([at(0, 100, MIB / 10)], 1, 8_000)).toBe(2_000);
  });

  test('what earlier migrations saw does not count', () => {
    const earlier = even.map((window): DirtyWindow => ({ ...window, source: 'history' }));
    expect(nextLookWhileRunning(earlier, 1, 5_000)).toBe(2_000);
  });

  test('while it waits: every two seconds, for up to one', () => {
    expect(nextLookWhileWaiting(even, 5_400, 0)).toBeNull();
    expect(nextLookWhileWaiting(even, 5_600, 1)).toBe(75);
    expect(nextLookWhileWaiting([at(0, 100, MIB / 10)], 8_000, 2)).toBe(1_000);
  });

  test('while it waits, after a surprise: soon, and of several lengths, for rate and working set', () => {
    const quiet = [at(1_000, 1_000, 0), at(3_000, 1_000, 0), at(5_000, 1_000, 0), at(7_000, 1_000, 0)];
    const hot: DirtyWindow[] = [at(9_000, 1_000, 64 * MIB)];
    const lengths = new Set<number>();
    for (let nowMs = 9_400; hot.length < 4; nowMs += 400) {
      const windowMs = nextLookWhileWaiting([...quiet, ...hot], nowMs, hot.length);
      if (windowMs === null) throw new Error(`no look at ${nowMs}`);
      lengths.add(windowMs);
      hot.push(at(nowMs, windowMs, Math.min(64, (160 * windowMs) / 1_000) * MIB));
    }
    expect(lengths.size).toBe(3);
    expect(Math.max(...lengths) / Math.min(...lengths)).toBeGreaterThan(5);
  });
});
