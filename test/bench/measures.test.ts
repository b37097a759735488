/** What is reckoned from samples: harm, stretches, downtime and demand of guests whose truth is known. */
import { describe, expect, test } from 'vitest';
import type { GuestPhase } from '../../src/lab/guest/layout.ts';
import {
  backToNormalMs,
  type CpuSample,
  demandByPhase,
  demandOver,
  harmCpuMs,
  longestStretchMs,
  observedDowntimeMs,
  phaseAt,
  resolutionMs,
} from './measures.ts';

const STEP_MS = 10;

/** Samples of one vCPU that gets `cores(atMs)`; from `arrivesMs` on at the destination. */
function guest(cores: (atMs: number) => number, untilMs: number, arrivesMs = Number.POSITIVE_INFINITY): CpuSample[] {
  let got = 0;
  let there = 0;
  return Array.from({ length: untilMs / STEP_MS + 1 }, (_, index) => {
    const atMs = index * STEP_MS;
    const used = index === 0 ? 0 : cores(atMs - STEP_MS) * STEP_MS;
    got += used;
    if (atMs > arrivesMs) there += used;
    return { atMs, gotMs: [got], thereMs: there };
  });
}

const ALWAYS: readonly GuestPhase[] = [{ ticks: 1_000_000_000, pagesPerTick: 160, workingSetBytes: 4_096 }];
const TURNS: readonly GuestPhase[] = [
  { ticks: 100, pagesPerTick: 1, workingSetBytes: 4_096 },
  { ticks: 100, pagesPerTick: 160, workingSetBytes: 4_096 },
  { ticks: 1_000_000_000, pagesPerTick: 1, workingSetBytes: 4_096 },
];
const half = (): number => 0.5;

describe('harm', () => {
  test('of a guest that nobody holds back is none', () => {
    expect(harmCpuMs(guest(half, 5_000), half, { fromMs: 1_000, toMs: 5_000 })).toBeCloseTo(0, 6);
  });

  test('is what it would have used while it was held to a fifth, and while it stood still', () => {
    const held = guest((atMs) => (atMs < 1_000 ? 0.5 : atMs < 3_000 ? 0.1 : atMs < 3_200 ? 0 : 0.5), 6_000);
    // 2 s at 0.4 less, 0.2 s at 0.5 less.
    expect(harmCpuMs(held, half, { fromMs: 500, toMs: 6_000 })).toBeCloseTo(900, 6);
  });

  test('counts what lies in the stretch only, also of a sample that lies half in it', () => {
    expect(
      harmCpuMs(
        guest(() => 0, 1_000),
        half,
        { fromMs: 105, toMs: 203 },
      ),
    ).toBeCloseTo(49, 6);
  });

  test('follows a guest that wants different amounts in different phases', () => {
    const ticks = Array.from({ length: 61 }, (_, index) => ({ atMs: index * 100, ticks: index * 10 }));
    const wants = (atMs: number): number => (atMs >= 1_000 && atMs < 2_000 ? 0.8 : 0.1);
    const free = guest(wants, 2_500);
    const demands = demandByPhase(TURNS, free, ticks, { fromMs: 0, toMs: 2_400 });
    expect(demands[0]).toBeCloseTo(0.1, 1);
    expect(demands[1]).toBeCloseTo(0.8, 1);
    // The last one was not seen long enough, and does what the first does.
    expect(demandOver(TURNS, [demands[0] ?? 0, demands[1] ?? 0, Number.NaN], ticks)(5_000)).toBeCloseTo(0.1, 1);
    expect(demandOver(TURNS, demands, ticks)(1_500)).toBeCloseTo(0.8, 1);
    expect(demandOver(ALWAYS, [0.3], [])(77)).toBe(0.3);
  });
});

test('a phase is told by the ticks that the guest has taken', () => {
  expect([0, 99, 100, 199, 200, 1_000_000].map((ticks) => phaseAt(TURNS, ticks))).toEqual([0, 0, 1, 1, 2, 2]);
  const again = TURNS.slice(0, 2);
  expect([200, 300, 450].map((ticks) => phaseAt(again, ticks))).toEqual([0, 1, 0]);
});

describe('the longest stretch without CPU', () => {
  test('is seen to the sample', () => {
    const stood = guest((atMs) => (atMs >= 2_000 && atMs < 2_250 ? 0 : 0.5), 4_000);
    const length = longestStretchMs(stood, { fromMs: 0, toMs: 4_000 });
    expect(length).toBeGreaterThanOrEqual(250 - STEP_MS);
    expect(length).toBeLessThanOrEqual(250 + STEP_MS);
  });

  test('of a guest that got some in every sample is none', () => {
    expect(longestStretchMs(guest(half, 1_000), { fromMs: 0, toMs: 1_000 })).toBe(0);
  });

  test('is looked for where it was asked for only', () => {
    const stood = guest((atMs) => (atMs < 500 ? 0 : 0.5), 2_000);
    expect(longestStretchMs(stood, { fromMs: 600, toMs: 2_000 })).toBe(0);
  });

  test('of a vCPU that never uses any does not count, and of one that does it does', () => {
    const two = (second: (sample: CpuSample) => number): CpuSample[] =>
      guest(half, 1_000).map((sample) => ({ ...sample, gotMs: [...sample.gotMs, second(sample)] }));
    expect(
      longestStretchMs(
        two(() => 5),
        { fromMs: 0, toMs: 1_000 },
      ),
    ).toBe(0);
    expect(
      longestStretchMs(
        two(({ atMs }) => (atMs < 600 ? 0 : 1)),
        { fromMs: 0, toMs: 1_000 },
      ),
    ).toBe(590);
  });
});

describe('the downtime that is seen', () => {
  test('lies between the last CPU time here and the first there', () => {
    const moved = guest((atMs) => (atMs >= 1_000 && atMs < 1_120 ? 0 : 0.5), 2_000, 1_100);
    expect(observedDowntimeMs(moved, { fromMs: 0, toMs: 2_000 })).toBeCloseTo(130, -1);
  });

  test('is none where nothing has moved', () => {
    expect(observedDowntimeMs(guest(half, 1_000), { fromMs: 0, toMs: 1_000 })).toBeNull();
  });

  test('does not begin when a waiting destination is set up', () => {
    const moved = guest((atMs) => (atMs >= 1_000 && atMs < 1_100 ? 0 : 0.5), 2_000, 1_050);
    const early = moved.map((sample) => ({
      ...sample,
      thereMs: sample.thereMs + (sample.atMs > 300 ? 2 : 0),
      gotMs: sample.gotMs.map((got) => got + (sample.atMs > 300 ? 2 : 0)),
    }));
    expect(observedDowntimeMs(early, { fromMs: 0, toMs: 2_000 })).toBeCloseTo(110, -1);
  });
});

test('a guest has its CPU back in the first window in which it gets nearly all', () => {
  const samples = guest((atMs) => (atMs < 1_500 ? 0.1 : 0.5), 4_000);
  expect(backToNormalMs(samples, half, 1_000)).toBe(1_500);
  // Never again: to the last sample.
  expect(
    backToNormalMs(
      guest(() => 0.1, 2_000),
      half,
      1_000,
    ),
  ).toBe(2_000);
});

test('how well a sampler has looked', () => {
  expect(resolutionMs(guest(half, 1_000))).toEqual({ median: STEP_MS, most: STEP_MS });
});
