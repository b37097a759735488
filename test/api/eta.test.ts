import { describe, expect, it } from 'vitest';
import { etaOf } from '../../src/api/eta.ts';
import type { MigrationProgress, MoveRecord } from '../../src/domain/operation.ts';
import { GiB, MiB, move, prediction, task } from '../cli/records.ts';

const progress = (over: Partial<MigrationProgress> = {}): MigrationProgress => ({
  pass: 1,
  remainingBytes: GiB,
  transferredBytes: 0,
  totalBytes: GiB,
  rateBytesPerSec: 100 * MiB,
  dirtyRateBytesPerSec: 0,
  grantBytesPerSec: 100 * MiB,
  share: 1,
  etaMs: null,
  prediction: null,
  decision: '',
  ...over,
});
const runs = (vm: string, over: Partial<MigrationProgress>): MoveRecord =>
  move(vm, { state: 'precopy', progress: progress(over) });
const predicted = (value: number): Partial<MigrationProgress> => ({
  prediction: prediction({ totalMs: { value, low: value - 100, high: value + 1_000 } }),
});
const memory = (): number => 100 * MiB;
const NOW_MS = 1_000_000;

describe('when an operation ends', () => {
  const tasks = [task('a', { state: 'precopy' }), task('b', { state: 'precopy' })];
  const state = 'running';

  it('with the last of those that run', () => {
    const moves = [runs('a', predicted(5_000)), runs('b', { etaMs: 7_000 })];
    expect(etaOf({ tasks, state }, moves, memory, NOW_MS)).toEqual({ value: 7_000, low: 7_000, high: 7_000 });
  });

  it('later by what waits, sent at the rate of now; the bounds say how rough that is', () => {
    const waiting = [task('c'), task('d'), task('e', { state: 'done' }), task('f', { state: 'blocked' })];
    const moves = [runs('a', predicted(5_000)), runs('b', predicted(4_000)), move('c', { state: 'queued' })];
    // 200 MiB at 200 MiB/s.
    expect(etaOf({ tasks: [...tasks, ...waiting], state }, moves, memory, NOW_MS)).toEqual({
      value: 6_000,
      low: 4_900 + 700,
      high: 6_000 + 2_000,
    });
  });

  const before = prediction({
    totalMs: { value: 3_000, low: 2_000, high: 4_000 },
    transferredBytes: { value: 300 * MiB, low: 0, high: 600 * MiB },
  });
  const begun = (over: Partial<MigrationProgress> = {}): MoveRecord => ({
    ...runs('a', over),
    startedAtMs: NOW_MS - 500,
    predicted: before,
  });

  it('as predicted before the start, less what has passed, for one that has just begun', () => {
    const alone = { tasks: [task('a')], state: 'running' as const };
    expect(etaOf(alone, [begun()], memory, NOW_MS)).toEqual({ value: 2_500, low: 1_500, high: 3_500 });
    expect(etaOf(alone, [begun()], memory, NOW_MS + 5_000)).toEqual({ value: 0, low: 0, high: 0 });
    // Not for one that has run for a while and cannot tell, nor for one that has no bandwidth yet.
    expect(etaOf(alone, [begun({ pass: 2 })], memory, NOW_MS)).toBeNull();
    expect(etaOf(alone, [{ ...begun(), state: 'postcopy' }], memory, NOW_MS)).toBeNull();
    expect(etaOf(alone, [{ ...begun(), state: 'admitted', progress: null }], memory, NOW_MS)).toBeNull();
  });

  it('what waits is sent at the rate of now; where nobody has sent anything yet, as predicted', () => {
    const also = { tasks: [task('a'), task('c')], state: 'running' as const };
    // 100 MiB at 100 MiB/s.
    expect(etaOf(also, [begun()], memory, NOW_MS)?.value).toBe(3_500);
    expect(etaOf(also, [begun({ rateBytesPerSec: 0 })], memory, NOW_MS)?.value).toBe(3_500);
    const both = { tasks: [...also.tasks, task('b')], state: 'running' as const };
    const moves = [begun({ rateBytesPerSec: 0 }), runs('b', predicted(5_000))];
    expect(etaOf(both, moves, memory, NOW_MS)?.value).toBe(6_000);
    // One that holds no bandwidth waits.
    const admitted = { ...begun(), state: 'admitted', progress: null } as const;
    expect(etaOf(both, [admitted, runs('b', predicted(5_000))], memory, NOW_MS)?.value).toBe(7_000);
  });

  it('nobody can tell: nothing runs, one that runs cannot tell, a size is not known, it is paused', () => {
    expect(etaOf({ tasks, state }, [], memory, NOW_MS)).toBeNull();
    expect(etaOf({ tasks, state }, [runs('a', predicted(5_000)), runs('b', {})], memory, NOW_MS)).toBeNull();
    expect(
      etaOf({ tasks: [...tasks, task('c')], state }, [runs('a', predicted(5_000))], () => null, NOW_MS),
    ).toBeNull();
    expect(etaOf({ tasks, state: 'paused' }, [runs('a', predicted(5_000))], memory, NOW_MS)).toBeNull();
  });
});
