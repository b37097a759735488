/** A result of the benchmark; override what the story is about. */
import type { Result } from './results.ts';

export function result(over: Partial<Result>): Result {
  return {
    profile: 'hot',
    contender: 'none',
    run: 1,
    at: '2026-01-02T03:04:05.000Z',
    terms: { bandwidthBytesPerSec: 40 * 2 ** 20, maxStallMs: 300, limitMs: 60_000 },
    machine: { qemu: '10.0.2', cpus: 2, loopsPerCpuSec: 4e8 },
    done: true,
    totalMs: 4_000,
    wallMs: 4_005,
    harmCpuMs: 1_000,
    demandCores: [0.5],
    writtenBytesPerSec: 160 * 2 ** 20,
    longestStretchMs: 80,
    longestStretchBeforeMs: 10,
    longestStretchAtMs: 1_500,
    downtimeMs: 60,
    observedDowntimeMs: 65,
    transferredBytes: 200 * 2 ** 20,
    passes: 5,
    resolutionMs: { median: 10, most: 14 },
    othersCores: 0.02,
    disturbed: false,
    memoryFaults: [],
    note: null,
    claims: null,
    trace: null,
    ...over,
  };
}
