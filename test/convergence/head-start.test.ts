import { describe, expect, it } from 'vitest';
import type { DirtyModel, Hypothesis } from '../../src/convergence/dirty-model.ts';
import { headStartCostBytes } from '../../src/convergence/head-start.ts';

const MIB = 2 ** 20;
const GUEST = { memoryBytes: 256 * MIB, touchedBytes: 100 * MIB, demandCores: 1 };
const FREE = { share: 1, begins: 'now' } as const;

function modelOf(...guesses: Omit<Hypothesis, 'pattern'>[]): DirtyModel {
  const unknown = { value: null, low: 0, high: null };
  const hypotheses = guesses.map((guess) => ({ ...guess, pattern: 'sweep' as const }));
  return { rateBytesPerSec: unknown, workingSetBytes: unknown, pattern: null, hypotheses, change: null };
}

describe('what a head start costs', () => {
  const hot = modelOf({ rateBytesPerSec: 100 * MIB, workingSetBytes: 64 * MIB, weight: 1 });
  const mild = modelOf({ rateBytesPerSec: 10 * MIB, workingSetBytes: 64 * MIB, weight: 1 });
  const cost = (model: DirtyModel, plan: { share: number; begins: 'now' | 'nextPass' }): number =>
    headStartCostBytes({ model, guest: GUEST, plan }, 40 * MIB, 500) / MIB;

  it('nothing where the working set is filled in the first pass anyway', () => {
    expect(cost(hot, FREE)).toBe(0);
    expect(cost(hot, { share: 0.1, begins: 'nextPass' })).toBe(0);
  });

  it('all that is dirtied meanwhile where the guest is to be slowed from the start', () => {
    expect(cost(hot, { share: 0.1, begins: 'now' })).toBe(50);
  });

  it('what is dirtied in the longer pass of one that does not fill its set', () => {
    expect(cost(mild, FREE)).toBeCloseTo(5, 6);
  });

  it('the mean of what the guest may be', () => {
    const either = modelOf(
      { rateBytesPerSec: 100 * MIB, workingSetBytes: 64 * MIB, weight: 0.25 },
      { rateBytesPerSec: 10 * MIB, workingSetBytes: 64 * MIB, weight: 0.75 },
    );
    expect(cost(either, FREE)).toBeCloseTo(3.75, 6);
  });
});
