import { describe, expect, it } from 'vitest';
import type { MoveResult } from '../../src/domain/operation.ts';
import { operationResult } from '../../src/operations/result.ts';
import { move, operation, prediction, task } from '../cli/records.ts';

const figures = {
  totalMs: 14_000,
  downtimeMs: 200,
  transferredBytes: 1,
  minShare: 0.4,
  meanShare: 0.6,
  harmCpuMs: 2_500,
};

function resultOf(state: 'done' | 'failed', predicted: ReturnType<typeof prediction> | null): MoveResult | undefined {
  const record = operation({ tasks: [task('db-1', { state, moveIds: ['op-1-1-db-1'] })] });
  return operationResult(record, [move('db-1', { state, predicted, figures })], 20_000).moves[0];
}

describe('what was predicted, in the result', () => {
  it('medians, intervals, and by how much it came out otherwise', () => {
    expect(resultOf('done', prediction())).toMatchObject({
      predicted: {
        totalMs: 12_000,
        downtimeMs: 210,
        harmCpuMs: 3_000,
        intervals: { totalMs: { value: 12_000, low: 10_000, high: 15_000 } },
      },
      predictionError: { totalMs: 2_000, downtimeMs: -10, harmCpuMs: -500 },
    });
  });

  it('a migration that did not end well has no error: it predicted another end', () => {
    expect(resultOf('failed', prediction())).toMatchObject({ predicted: { totalMs: 12_000 }, predictionError: null });
  });

  it('nothing predicted (adopted, or nothing known): null', () => {
    expect(resultOf('done', null)).toMatchObject({ predicted: null, predictionError: null });
  });
});
