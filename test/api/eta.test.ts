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

describe('when an operation ends', () => {
  const tasks = [task('a', { state: 'precopy' }), task('b', { state: 'precopy' })];
  const state = 'running';

  it('with the last of those that run', () => {
    const moves = [runs('a', predicted(5_000)), runs('b', { etaMs: 7_000 })];
    expect(etaOf({ tasks, state }, moves, memory)).toEqual({ value: 7_000, low: 7_000, high: 7_000 });
  });

  it('later by what waits, sent at the rate of now; the bounds say how rough that is', () => {
    const waiting = [task('c'), task('d'), task('e', { state: 'done' }), task('f', { state: 'blocked' })];
    const moves = [runs('a', predicted(5_000)), runs('b', predicted(4_000)), move('c', { state: 'queued' })];
    // 200 MiB at 200 MiB/s.
    expect(etaOf({ tasks: [...tasks, ...waiting], state }, moves, memory)).toEqual({
      value: 6_000,
      low: 4_900 + 700,
      high: 6_000 + 2_000,
    });
  });

  it('as predicted before the start, for one that has just begun; not for one that has run for a while and cannot tell', () => {
    const before = prediction({
      totalMs: { value: 3_000, low: 2_000, high: 4_000 },
      transferredBytes: { value: 300 * MiB, low: 0, high: 600 * MiB },
    });
    const begun = move('a', { state: 'admitted', progress: null, predicted: before });
    expect(etaOf({ tasks: [task('a')], state }, [begun], memory)).toEqual(before.totalMs);
    // 100 MiB at 100 MiB/s.
    expect(etaOf({ tasks: [task('a'), task('c')], state }, [begun], memory)?.value).toBe(4_000);
    const first = { ...runs('a', {}), predicted: before };
    expect(etaOf({ tasks: [task('a')], state }, [first], memory)).toEqual(before.totalMs);
    const later = { ...runs('a', { pass: 2 }), predicted: before };
    expect(etaOf({ tasks: [task('a')], state }, [later], memory)).toBeNull();
  });

  it('nobody can tell: nothing runs, one that runs cannot tell, a size is not known, it is paused', () => {
    expect(etaOf({ tasks, state }, [], memory)).toBeNull();
    expect(etaOf({ tasks, state }, [runs('a', predicted(5_000)), runs('b', {})], memory)).toBeNull();
    expect(etaOf({ tasks: [...tasks, task('c')], state }, [runs('a', predicted(5_000))], () => null)).toBeNull();
    expect(etaOf({ tasks, state: 'paused' }, [runs('a', predicted(5_000))], memory)).toBeNull();
  });
});
