/** What samples of a running migration tell: where it stands, what its passes say of the guest, what cannot be. */
import { describe, expect, test } from 'vitest';
import type { ConvergenceSample } from '../../src/convergence/controller.ts';
import {
  type KnownOfGuest,
  standing,
  startTracking,
  type Tracked,
  type Tracking,
  track,
} from '../../src/convergence/tracking.ts';

const MIB = 2 ** 20;
const LIMIT_MS = 250;
const GUEST = { memoryBytes: 256 * MIB, touchedBytes: 80 * MIB, demandCores: 1 };
const NOTHING_KNOWN: KnownOfGuest = { workingSetBytes: null, pattern: null, changedAtMs: null };
const SWEEP: KnownOfGuest = { workingSetBytes: 64 * MIB, pattern: 'sweep', changedAtMs: null };

const base: ConvergenceSample = {
  atMs: 0,
  startedAtMs: 0,
  pass: 1,
  remainingBytes: 80 * MIB,
  transferredBytes: 0,
  totalBytes: 80 * MIB,
  rateBytesPerSec: 40 * MIB,
  dirtyRateBytesPerSec: 0,
  grantBytesPerSec: 40 * MIB,
  share: 1,
  gotShare: 1,
  demandCores: 1,
  harmCpuMs: 0,
  windows: [],
};

function told(samples: readonly Partial<ConvergenceSample>[], known: KnownOfGuest = SWEEP): Tracking {
  let state: Tracked = startTracking(GUEST);
  let last: Tracking | null = null;
  for (const sample of samples) {
    last = track(state, { ...base, ...sample }, LIMIT_MS, known);
    state = last.next;
  }
  if (last === null) throw new Error('no sample');
  return last;
}

/** In the second pass since 2 s, 30 MiB of it left at 3 s; then the third begins, at once seen. */
const SECOND = { atMs: 2_000, pass: 2, transferredBytes: 76 * MIB, remainingBytes: 64 * MIB };
const LATER = { atMs: 3_000, pass: 2, transferredBytes: 116 * MIB, remainingBytes: 24 * MIB };
const THIRD = { atMs: 3_400, pass: 3, transferredBytes: 132 * MIB };

describe('what a pass has dirtied', () => {
  test('for a guest that sweeps: what was found less what was left over', () => {
    const { windows } = told(
      [SECOND, LATER, { ...THIRD, remainingBytes: 30 * MIB }].map((s) => ({ ...s, totalBytes: 80 * MIB })),
    );
    // The second pass was met in its middle: it tells nothing.
    expect(windows).toEqual([]);
    const seen = told([{}, { ...SECOND, remainingBytes: 64 * MIB }, LATER, { ...THIRD, remainingBytes: 30 * MIB }]);
    expect(seen.windows).toHaveLength(1);
    expect(seen.windows[0]?.bytes).toBeCloseTo(22 * MIB, -4);
    expect(seen.windows[0]).toMatchObject({ atMs: 3_400, source: 'pass' });
    expect(seen.windows[0]?.cpuMs).toBeCloseTo(1_400, -2);
  });

  test('all of the set, where it was found full', () => {
    const { windows } = told([{}, SECOND, LATER, { ...THIRD, remainingBytes: 64 * MIB }]);
    expect(windows[0]?.bytes).toBe(64 * MIB);
  });

  test('counts the CPU time that the guest got, not the time', () => {
    const slowed = [
      {},
      { ...SECOND, gotShare: 1 },
      { ...LATER, gotShare: 0.1 },
      { ...THIRD, gotShare: 0.1, remainingBytes: 20 * MIB },
    ];
    expect(told(slowed).windows[0]?.cpuMs).toBeCloseTo(140, -1);
  });

  test('is less sure where neither the set nor the pattern is known', () => {
    const samples = [{}, SECOND, LATER, { ...THIRD, remainingBytes: 30 * MIB }];
    expect(told(samples, NOTHING_KNOWN).windows[0]?.errorBytes).toBeGreaterThan(
      2 * (told(samples).windows[0]?.errorBytes ?? 0),
    );
  });

  test('is not told of a pass in which the guest changed its ways', () => {
    const samples = [{}, SECOND, LATER, { ...THIRD, remainingBytes: 30 * MIB }];
    expect(told(samples, { ...SWEEP, changedAtMs: 2_500 }).windows).toEqual([]);
    expect(told(samples, { ...SWEEP, changedAtMs: 500 }).windows).toHaveLength(1);
  });

  test('of passes that nobody saw begin is what the hypervisor says of the last one, and very unsure', () => {
    const { windows } = told([
      {},
      { atMs: 2_000, pass: 5, transferredBytes: 90 * MIB, dirtyRateBytesPerSec: 20 * MIB },
    ]);
    expect(windows).toHaveLength(1);
    expect(windows[0]).toMatchObject({ bytes: 10 * MIB, errorBytes: 5 * MIB });
  });
});

describe('where it stands', () => {
  const at = (samples: readonly Partial<ConvergenceSample>[], cap: number | null = null) => {
    const found = standing(told(samples).next, LIMIT_MS, cap);
    if (found === null) throw new Error('nothing known');
    return found;
  };

  test('zero pages are not counted in the first pass, wherever they lie', () => {
    const half = { atMs: 1_000, transferredBytes: 40 * MIB, remainingBytes: 200 * MIB, totalBytes: 256 * MIB };
    expect(at([half]).leftBytes).toBe(40 * MIB);
  });

  test('bandwidth is the middle of what was seen, never above grant and cap', () => {
    const rates = [39, 41, 90, 38, 40].map((mib, index) => ({
      atMs: index * 500,
      rateBytesPerSec: mib * MIB,
      grantBytesPerSec: 60 * MIB,
    }));
    expect(at(rates).bandwidthBytesPerSec).toBe(40 * MIB);
    expect(at(rates, 10 * MIB).bandwidthBytesPerSec).toBe(10 * MIB);
    expect(at([...rates, { atMs: 3_000, grantBytesPerSec: 30 * MIB }]).bandwidthBytesPerSec).toBe(30 * MIB);
  });

  test('looks that are no numbers are left out', () => {
    const looks = [
      { atMs: 1, cpuMs: 100, bytes: 5 * MIB, errorBytes: 1, source: 'sampling' as const },
      { atMs: 1, cpuMs: Number.NaN, bytes: 5 * MIB, errorBytes: 1, source: 'sampling' as const },
      { atMs: 1, cpuMs: 100, bytes: -1, errorBytes: 1, source: 'sampling' as const },
    ];
    expect(told([{ windows: looks }]).windows).toEqual([looks[0]]);
  });
});

describe('what cannot be', () => {
  test.each([
    ['a count that is no number', { atMs: 1_000, transferredBytes: Number.NaN }],
    ['a count below zero', { atMs: 1_000, remainingBytes: -1 }],
    ['more than all', { atMs: 1_000, remainingBytes: 900 * MIB }],
    ['an older sample', { atMs: -5 }],
    ['a count that goes back', { atMs: 1_000, pass: 0 }],
    ['all memory of another size', { atMs: 1_000, totalBytes: 300 * MIB }],
    ['more sent than can be', { atMs: 1_000, transferredBytes: 2 ** 40, remainingBytes: 0 }],
  ])('%s changes nothing and is told once', (_, wrong) => {
    const first = track(startTracking(GUEST), base, LIMIT_MS, SWEEP).next;
    const faulty = track(first, { ...base, ...wrong }, LIMIT_MS, SWEEP);
    expect(faulty).toMatchObject({ sane: false, newPass: false, windows: [] });
    expect(faulty.notes).toHaveLength(1);
    expect(standing(faulty.next, LIMIT_MS, null)).toEqual(standing(first, LIMIT_MS, null));
    expect(track(faulty.next, { ...base, ...wrong }, LIMIT_MS, SWEEP).notes).toEqual([]);
  });

  /** A migration whose counters are right from the second sample on, one sample every 100 ms. */
  function goingOn(first: Partial<ConvergenceSample>, samples: number): { tracked: Tracked; sane: boolean[] } {
    let tracked = track(startTracking(GUEST), { ...base, ...first }, LIMIT_MS, SWEEP).next;
    const sane = Array.from({ length: samples }, (_, index) => {
      const sent = (index + 1) * 4 * MIB;
      const sample = { atMs: (index + 1) * 100, transferredBytes: sent, remainingBytes: 80 * MIB - sent };
      const tracking = track(tracked, { ...base, ...sample }, LIMIT_MS, SWEEP);
      tracked = tracking.next;
      return tracking.sane;
    });
    return { tracked, sane };
  }

  test('counters that are not there yet are no first sample', () => {
    const { tracked, sane } = goingOn({ totalBytes: 0, remainingBytes: 0, rateBytesPerSec: 0 }, 2);
    expect(sane).toEqual([true, true]);
    expect(standing(tracked, LIMIT_MS, null)?.leftBytes).toBe(72 * MIB);
  });

  test.each([
    ['of another size', { totalBytes: 900 * MIB, remainingBytes: 500 * MIB }],
    ['with more sent', { transferredBytes: 70 * MIB, remainingBytes: 10 * MIB }],
    ['in a later pass', { pass: 7, remainingBytes: MIB }],
  ])('a first sample %s that all later ones contradict is forgotten', (_, first) => {
    const { tracked, sane } = goingOn(first, 6);
    expect(sane).toEqual([false, false, false, true, true, true]);
    expect(standing(tracked, LIMIT_MS, null)).toMatchObject({ pass: 1, leftBytes: 56 * MIB });
  });

  test('nonsense that does not agree with itself is never believed', () => {
    let tracked = track(startTracking(GUEST), base, LIMIT_MS, SWEEP).next;
    for (let index = 1; index < 20; index += 1) {
      const wrong = { atMs: index * 100, totalBytes: (index % 2 === 0 ? 300 : 900) * MIB };
      tracked = track(tracked, { ...base, ...wrong }, LIMIT_MS, SWEEP).next;
    }
    expect(tracked.last).toEqual(base);
  });
});
