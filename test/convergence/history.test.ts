/** What of the evidence stays: in a bounded list while a migration lasts, and for the later ones of the same VM. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  compactEvidence,
  type EndedMigration,
  fromHistory,
  type History,
  historySchema,
  NO_HISTORY,
  toHistory,
} from '../../src/convergence/history.ts';
import type { DirtyWindow } from '../../src/domain/prediction.ts';

const MIB = 2 ** 20;
const DAY_MS = 86_400_000;

function at(atMs: number, cpuMs: number, source: DirtyWindow['source'] = 'sampling'): DirtyWindow {
  return { atMs, cpuMs, bytes: Math.min(64, cpuMs * 0.16) * MIB, errorBytes: MIB, source };
}

const known = { value: 64 * MIB, low: 60 * MIB, high: 70 * MIB };
const atLeast = { value: null, low: 40 * MIB, high: null };
const interval = (value: number) => ({ value, low: value / 2, high: value * 2 });

function ended(endedAtMs: number, overrides: Partial<EndedMigration> = {}): EndedMigration {
  return {
    endedAtMs,
    evidence: [50, 100, 250, 500, 1_500].map((cpuMs, index) => at(endedAtMs - 5_000 + index, cpuMs)),
    model: { rateBytesPerSec: atLeast, workingSetBytes: known },
    predicted: { totalMs: interval(4_000), harmCpuMs: interval(900) },
    actual: { totalMs: 4_400, harmCpuMs: 1_000 },
    ...overrides,
  };
}

describe('what a migration leaves for the later ones', () => {
  test('is what was believed, a short, a middle and a long look, and what was predicted beside what came', () => {
    const kept = toHistory(NO_HISTORY, ended(10_000));
    expect(kept).toHaveLength(1);
    const [past] = historySchema.parse(JSON.parse(JSON.stringify(kept)));
    expect(past).toMatchObject({
      endedAtMs: 10_000,
      rateBytesPerSec: atLeast,
      workingSetBytes: known,
      totalMs: { predicted: interval(4_000), actual: 4_400 },
      harmCpuMs: { predicted: interval(900), actual: 1_000 },
    });
    expect(past?.windows.map(({ cpuMs }) => cpuMs)).toEqual([100, 500, 1_500]);
  });

  test('compares nothing where nothing was predicted, or it did not complete', () => {
    expect(toHistory(NO_HISTORY, ended(1, { predicted: null }))[0]).toMatchObject({ totalMs: null, harmCpuMs: null });
    expect(toHistory(NO_HISTORY, ended(1, { actual: null }))[0]).toMatchObject({ totalMs: null, harmCpuMs: null });
  });

  test('is of the last five, and never handed on what it was told itself', () => {
    let kept: History = NO_HISTORY;
    for (let index = 1; index <= 8; index += 1) {
      const evidence = [...fromHistory(kept, index * DAY_MS), at(index * DAY_MS, 100)];
      kept = toHistory(kept, ended(index * DAY_MS, { evidence }));
    }
    expect(kept.map(({ endedAtMs }) => endedAtMs / DAY_MS)).toEqual([4, 5, 6, 7, 8]);
    expect(fromHistory(kept, 8 * DAY_MS).map(({ atMs }) => atMs / DAY_MS)).toEqual([4, 5, 6, 7, 8]);
  });

  test('is told as history, by time, of no later than now, at most 16 looks, and for two months', () => {
    let kept: History = NO_HISTORY;
    for (let index = 1; index <= 5; index += 1) kept = toHistory(kept, ended(index * DAY_MS));
    const windows = fromHistory(kept, 3 * DAY_MS);
    expect(windows.length).toBeGreaterThan(10);
    expect(windows.length).toBeLessThanOrEqual(16);
    expect(windows.every(({ source, atMs }) => source === 'history' && atMs <= 3 * DAY_MS)).toBe(true);
    expect(windows.map(({ atMs }) => atMs)).toEqual(windows.map(({ atMs }) => atMs).sort((a, b) => a - b));
    expect(fromHistory(kept, 64 * DAY_MS).length).toBeLessThan(windows.length);
    expect(fromHistory(kept, 100 * DAY_MS)).toEqual([]);
  });
});

describe('a list of evidence that is kept short', () => {
  const minutes = Array.from({ length: 200 }, (_, index) => at(1_000 * index, [60, 90, 1_400][index % 3] ?? 60));
  const first = [at(-3_000, 50), at(-2_000, 500), at(-1_000, 1_850)];
  const earlier = Array.from({ length: 16 }, (_, index) => at(-DAY_MS + index, 50 * 2 ** (index % 4), 'history'));

  test('has at most 24 looks, by time', () => {
    const compact = compactEvidence([...minutes, ...first, ...earlier], 200_000);
    expect(compact.length).toBeLessThanOrEqual(24);
    const times = compact.map(({ atMs }) => atMs);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  test('keeps the latest, and of those before some of each length', () => {
    const compact = compactEvidence([...minutes, ...first], 200_000);
    for (const window of minutes.slice(-8)) expect(compact).toContainEqual(window);
    const lengths = new Set(compact.slice(0, -8).map(({ cpuMs }) => cpuMs));
    for (const cpuMs of [50, 60, 90, 500]) {
      const alike = [...lengths].filter((length) => Math.abs(Math.log2(length / cpuMs)) < 0.6);
      expect(alike).not.toEqual([]);
    }
    expect([...lengths].filter((length) => length >= 1_400)).not.toEqual([]);
  });

  test('does not let the looks of earlier migrations push out live ones', () => {
    const live = minutes.slice(0, 10);
    const compact = compactEvidence([...earlier, ...live], 200_000);
    for (const window of live) expect(compact).toContainEqual(window);
    expect(compact.filter(({ source }) => source === 'history').length).toBeGreaterThan(3);
  });

  test('remembers on request for two minutes that the guest was otherwise, however many looks have come since', () => {
    const hot: DirtyWindow[] = [0, 1, 2].map((nth) => ({
      atMs: 10_000 + nth * 500,
      cpuMs: 200,
      bytes: 32 * MIB,
      errorBytes: MIB / 4,
      source: 'sampling',
    }));
    const quiet: DirtyWindow[] = Array.from({ length: 30 }, (_, nth) => ({
      atMs: 15_000 + nth * 3_000,
      cpuMs: 200,
      bytes: MIB / 2,
      errorBytes: MIB / 4,
      source: 'sampling',
    }));
    // As it goes on: compacted after each look.
    let compact: DirtyWindow[] = [];
    for (const look of [...hot, ...quiet]) {
      compact = compactEvidence([...compact, look], look.atMs, { keepOtherwise: true });
    }
    expect(compact.filter(({ bytes }) => bytes > 16 * MIB)).toEqual(hot);
    for (const look of quiet.slice(-8)) expect(compact).toContainEqual(look);
    expect(compact.length).toBeLessThanOrEqual(18);
  });

  test('has each look once, and none that cannot be true', () => {
    const [look] = first;
    if (look === undefined) throw new Error('no look');
    const bad = [
      { ...look, cpuMs: 0 },
      { ...look, bytes: Number.NaN },
      { ...look, atMs: Number.POSITIVE_INFINITY },
    ];
    expect(compactEvidence([look, { ...look }, ...bad], 0)).toEqual([look]);
  });

  test('a clock that went wrong pushes nothing out for ever: what comes from later is of now', () => {
    const late = at(DAY_MS, 100);
    expect(compactEvidence([late], 5_000)).toEqual([{ ...late, atMs: 5_000 }]);
  });

  test('compacting again changes nothing', () => {
    const window = fc.record({
      atMs: fc.integer({ min: 0, max: 100_000 }),
      cpuMs: fc.integer({ min: 1, max: 5_000 }),
      bytes: fc.integer({ min: 0, max: 64 * MIB }),
      errorBytes: fc.constant(MIB),
      source: fc.constantFrom<DirtyWindow['source']>('sampling', 'pass', 'history'),
    });
    fc.assert(
      fc.property(fc.array(window, { maxLength: 80 }), (windows) => {
        const once = compactEvidence(windows, 50_000);
        expect(once.length).toBeLessThanOrEqual(24);
        expect(compactEvidence(once, 50_000)).toEqual(once);
      }),
    );
  });
});
