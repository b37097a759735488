/** Policy and requests: presets are the design's, overrides win, nonsense is refused. */
import { describe, expect, test } from 'vitest';
import { POLICY_PRESETS, policyInputSchema, policySchema, resolvePolicy } from '../../src/domain/policy.ts';
import { evacuateNodeInputSchema, loadBalanceInputSchema } from '../../src/domain/request.ts';

describe('policy', () => {
  test('an evacuation is maintenance, a rebalance is gentler', () => {
    expect(POLICY_PRESETS.maintenance).toMatchObject({
      aggression: 0.5,
      minCpuShare: 0.1,
      maxStallMs: 300,
      maxTimeMs: 600_000,
    });
    expect(POLICY_PRESETS.rebalance).toMatchObject({
      aggression: 0.2,
      minCpuShare: 0.5,
      maxStallMs: 300,
      maxTimeMs: 600_000,
    });
    for (const preset of Object.values(POLICY_PRESETS)) {
      expect(policySchema.parse(preset)).toEqual(preset);
      expect(preset.atDeadline).toBe('abort');
    }
  });

  test('without overrides the preset of the task holds', () => {
    expect(resolvePolicy('rebalance', policyInputSchema.parse({}))).toEqual(POLICY_PRESETS.rebalance);
  });

  test('a named preset replaces that of the task, and each override wins over it', () => {
    const input = {
      policy: 'rebalance',
      aggression: 0,
      minCpu: 0,
      maxStall: '100ms',
      maxTime: '1h',
      maxBandwidth: '1Gbit/s',
    };
    expect(resolvePolicy('maintenance', policyInputSchema.parse(input))).toEqual({
      ...POLICY_PRESETS.rebalance,
      aggression: 0,
      minCpuShare: 0,
      maxStallMs: 100,
      maxTimeMs: 3_600_000,
      maxBandwidthBytesPerSec: 1.25e8,
    });
  });

  test.each([
    { aggression: -0.1 },
    { aggression: 1.1 },
    { minCpu: 2 },
    { maxStall: '0s' },
    { policy: 'brutal' },
    { agression: 0.5 },
  ])('%j is refused', (input) => {
    expect(policyInputSchema.safeParse(input).success).toBe(false);
  });

  test('a request names what it is for, and nothing it does not know', () => {
    expect(evacuateNodeInputSchema.parse({ host: 'a', deadline: '30m' })).toEqual({ host: 'a', deadline: 1_800_000 });
    expect(evacuateNodeInputSchema.safeParse({ host: 'a', force: true }).success).toBe(false);
    expect(loadBalanceInputSchema.safeParse({ moves: [] }).success).toBe(false);
  });
});
