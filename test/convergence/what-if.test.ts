/** What every aggression would cost before the start: the rows, what they would break, and the laws they keep. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DirtyModel, Hypothesis } from '../../src/convergence/dirty-model.ts';
import { behaviourOf } from '../../src/convergence/policies/behaviours.ts';
import type { PolicyBehaviour } from '../../src/convergence/policy-behaviour.ts';
import { type WhatIf, type WhatIfQuestion, whatIf } from '../../src/convergence/what-if.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { grouped } from '../../src/domain/what-if-words.ts';

const MiB = 2 ** 20;
const guest = { memoryBytes: 256 * MiB, touchedBytes: 200 * MiB, demandCores: 1 };
const exact = (value: number) => ({ value, low: value, high: value });

/** A guest that is known exactly. */
function modelOf(rateMiB: number, setMiB: number, pattern: Hypothesis['pattern'] = 'sweep'): DirtyModel {
  const [rateBytesPerSec, workingSetBytes] = [rateMiB * MiB, setMiB * MiB];
  return {
    rateBytesPerSec: exact(rateBytesPerSec),
    workingSetBytes: exact(workingSetBytes),
    pattern,
    hypotheses: [{ rateBytesPerSec, workingSetBytes, pattern, weight: 1 }],
    change: null,
  };
}

function ask(policy: Policy, model: DirtyModel, over: Partial<WhatIfQuestion> = {}): WhatIf {
  const behaviour = over.behaviour ?? behaviourOf(policy.name, new Map());
  return whatIf({ model, guest, policy, pathBytesPerSec: 40 * MiB, certain: true, ...over, behaviour });
}
const hot = modelOf(160, 64);
const { maintenance, rebalance } = POLICY_PRESETS;

describe('what-if', () => {
  it('has a row without a throttle, one for each tenth, and one for the aggression that the policy has', () => {
    const aggressions = (policy: Policy) => ask(policy, hot).rows.map(({ aggression }) => aggression);
    const tenths = [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1];
    expect(aggressions(maintenance)).toEqual([null, ...tenths]);
    expect(aggressions({ ...maintenance, aggression: 0.25 })).toEqual([null, 0, 0.1, 0.2, 0.25, ...tenths.slice(3)]);
    const chosen = ask(maintenance, hot).rows.filter((row) => row.chosen);
    expect(chosen.map(({ aggression }) => aggression)).toEqual([0.5]);
  });

  it('a guest that ends by itself is left alone at every aggression', () => {
    const { rows, relaxed, givesUp } = ask(maintenance, modelOf(4, 30));
    expect(rows.every(({ share, breaks }) => share === 1 && breaks.length === 0)).toBe(true);
    expect({ relaxed, givesUp }).toEqual({ relaxed: [], givesUp: null });
    // The policy's own aggression is somewhere in the middle of the group.
    expect(grouped(rows).map(({ from, to, chosen }) => [from, to, chosen])).toEqual([
      [null, null, false],
      [0, 1, true],
    ]);
  });

  it('a hot one never ends without a throttle, and ends within all requirements with one', () => {
    const [free, ...throttled] = ask(maintenance, hot).rows;
    expect(free?.breaks.map(({ requirement }) => requirement)).toEqual(['maxTime']);
    expect(throttled.flatMap((row) => row.breaks)).toEqual([]);
    // 200 MiB at 40 MiB/s, and then what 64 MiB leave: nobody can be faster than the first pass.
    expect(throttled.every(({ prediction }) => prediction.totalMs.value > 5_000)).toBe(true);
    expect(throttled.every(({ share }) => share >= maintenance.minCpuShare)).toBe(true);
  });

  it('neighbours that come to the same plan are one group, in order and without a gap', () => {
    const { rows } = ask(maintenance, hot);
    const groups = grouped(rows);
    expect(groups.length).toBeLessThan(rows.length);
    expect(groups.filter(({ chosen }) => chosen)).toHaveLength(1);
    expect(groups.at(-1)?.to).toBe(1);
    for (const [index, group] of groups.entries()) {
      if (index > 1) expect(group.row.share).not.toBe(groups[index - 1]?.row.share);
    }
  });

  it('what cannot be kept gives way in the order of precedence, and each row says what it breaks', () => {
    const fierce = modelOf(600, 100);
    const floor = ask(maintenance, fierce);
    expect(floor.relaxed.map(({ requirement }) => requirement)).toEqual(['minCpu']);
    expect(floor.rows.at(-1)?.breaks.map(({ requirement }) => requirement)).toEqual(['minCpu']);
    expect(floor.rows.at(-1)?.share).toBeLessThan(0.1);

    const cap: Policy = { ...maintenance, maxBandwidthBytesPerSec: 10 * MiB };
    const uncapped = ask({ ...cap, minCpuShare: 0.2 }, hot);
    expect(uncapped.relaxed.map(({ requirement }) => requirement)).toContain('maxBandwidth');
    expect(uncapped.bandwidthBytesPerSec).toBe(40 * MiB);
    const kept = ask({ ...cap, maxTimeMs: 3_600_000 }, modelOf(4, 30));
    expect(kept.bandwidthBytesPerSec).toBe(10 * MiB);

    const precious = ask({ ...rebalance, minCpuShare: 0.9, maxTimeMs: 8_000 }, hot);
    expect(precious.givesUp).toContain('cannot end within 8s');
    expect(precious.rows.at(-1)?.breaks.map(({ requirement }) => requirement)).toEqual(['maxTime']);
  });

  it("a user's policy that fails is told, and does not hide what would be done instead", () => {
    const behaviour: PolicyBehaviour = {
      name: 'own',
      what: 'fails',
      choose() {
        throw new Error('no idea');
      },
    };
    const { rows } = ask({ ...maintenance, name: 'own' }, hot, { behaviour });
    expect(rows.slice(1).every(({ why }) => why === 'policy own failed: no idea')).toBe(true);
    expect(rows.at(-1)?.breaks).toEqual([]);
  });

  it('for any guest: a harder aggression is never gentler, no share is below a floor that did not give way, same in, same out', () => {
    const any = fc.record({
      rate: fc.integer({ min: 1, max: 1_000 }),
      set: fc.integer({ min: 1, max: 200 }),
      pattern: fc.constantFrom('sweep' as const, 'random' as const),
      path: fc.integer({ min: 5, max: 500 }),
      policy: fc.constantFrom(...Object.values(POLICY_PRESETS)),
      minCpuShare: fc.constantFrom(0, 0.1, 0.5, 0.9),
      maxTimeMs: fc.constantFrom(5_000, 20_000, 600_000),
    });
    fc.assert(
      fc.property(any, ({ rate, set, pattern, path, policy, minCpuShare, maxTimeMs }) => {
        const own = { ...policy, minCpuShare, maxTimeMs };
        const model = modelOf(rate, set, pattern);
        const answer = ask(own, model, { pathBytesPerSec: path * MiB });
        const [, ...throttled] = answer.rows;
        for (const [index, row] of throttled.entries()) {
          expect(row.share).toBeLessThanOrEqual(throttled[index - 1]?.share ?? 1);
          const { low, value, high } = row.prediction.totalMs;
          expect(low <= value && value <= high).toBe(true);
        }
        const floorGaveWay = answer.relaxed.some(({ requirement }) => requirement === 'minCpu');
        for (const { share, breaks } of answer.rows) {
          if (share < minCpuShare)
            expect(floorGaveWay && breaks.some((one) => one.requirement === 'minCpu')).toBe(true);
        }
        expect(ask(own, model, { pathBytesPerSec: path * MiB })).toEqual(answer);
      }),
      { numRuns: 60 },
    );
  });
});
