/** Policy and requests: presets are the design's, overrides win, nonsense is refused. */
import { describe, expect, test } from 'vitest';
import {
  POLICY_PRESETS,
  type Policy,
  PRESET_CATALOGUE,
  policyInput,
  policyNames,
  policySchema,
  resolvePolicy,
} from '../../src/domain/policy.ts';
import { evacuateNodeInput, loadBalanceInput, policiesOf, policyFor, requestSchema } from '../../src/domain/request.ts';

const policyInputSchema = policyInput(policyNames);
const evacuateNodeInputSchema = evacuateNodeInput();
const loadBalanceInputSchema = loadBalanceInput();

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
      expect(new Set(preset.precedence).size).toBe(3);
    }
  });

  test('without overrides the preset of the task holds', () => {
    expect(resolvePolicy(POLICY_PRESETS.rebalance, policyInputSchema.parse({}))).toEqual(POLICY_PRESETS.rebalance);
  });

  test('what a request says wins over what the policy requires', () => {
    const input = {
      aggression: 0,
      minCpu: 0,
      maxStall: '100ms',
      maxTime: '1h',
      maxBandwidth: '1Gbit/s',
    };
    expect(resolvePolicy(POLICY_PRESETS.rebalance, policyInputSchema.parse(input))).toEqual({
      ...POLICY_PRESETS.rebalance,
      aggression: 0,
      minCpuShare: 0,
      maxStallMs: 100,
      maxTimeMs: 3_600_000,
      maxBandwidthBytesPerSec: 1.25e8,
      precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
    });
  });

  test('a floor that was asked for is kept longest, unless the order was said, too', () => {
    const order = (input: unknown): Policy['precedence'] =>
      resolvePolicy(POLICY_PRESETS.maintenance, policyInputSchema.parse(input)).precedence;
    expect(order({})).toEqual(['maxTime', 'minCpu', 'maxBandwidth']);
    expect(order({ minCpu: 0.5 })).toEqual(['minCpu', 'maxTime', 'maxBandwidth']);
    const precedence = ['maxBandwidth', 'maxTime', 'minCpu'];
    expect(order({ minCpu: 0.5, precedence })).toEqual(precedence);
  });

  test.each([
    { precedence: ['maxTime', 'minCpu'] },
    { precedence: ['maxTime', 'minCpu', 'minCpu'] },
    { atDeadline: 'hope' },
    { controller: 'magic' },
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

describe('VMs with a policy of their own', () => {
  const resolve = (input: object) =>
    policiesOf(evacuateNodeInputSchema.parse({ host: 'a', ...input }), POLICY_PRESETS.maintenance, PRESET_CATALOGUE);

  test("the VM's own words come first, then those for all, then the policy's", () => {
    const { policy, overrides } = resolve({
      aggression: 0.9,
      maxStall: '100ms',
      overrides: { 'db-1': { policy: 'rebalance', aggression: 0 }, 'web-1': { maxTime: '1m' } },
    });
    expect(policy).toMatchObject({ name: 'maintenance', aggression: 0.9, maxStallMs: 100, maxTimeMs: 600_000 });
    expect(overrides['db-1']).toEqual({ ...POLICY_PRESETS.rebalance, aggression: 0, maxStallMs: 100 });
    expect(overrides['web-1']).toEqual({ ...policy, maxTimeMs: 60_000 });
  });

  test('each VM has its policy; one called like a property of all objects has none of its own', () => {
    const request = resolve({ overrides: { 'db-1': { policy: 'emergency' } } });
    expect(policyFor(request, 'db-1').name).toBe('emergency');
    expect(policyFor(request, 'web-1')).toBe(request.policy);
    expect(policyFor(request, 'constructor')).toBe(request.policy);
  });

  test('a policy that the fleet has can be named, one that it has not cannot', () => {
    const gentle: Policy = { ...POLICY_PRESETS.maintenance, name: 'gentle', aggression: 0 };
    const catalogue = new Map([...PRESET_CATALOGUE, ['gentle', gentle]]);
    const schema = evacuateNodeInput([...catalogue.keys()]);
    const input = { host: 'a', policy: 'gentle', overrides: { x: { policy: 'gentel' } } };
    expect(schema.safeParse(input).error?.issues.map(({ path }) => path)).toEqual([['overrides', 'x', 'policy']]);
    const parsed = schema.parse({ host: 'a', policy: 'gentle', minCpu: 0.4 });
    expect(policiesOf(parsed, POLICY_PRESETS.maintenance, catalogue).policy).toEqual({
      ...gentle,
      minCpuShare: 0.4,
      precedence: ['minCpu', 'maxTime', 'maxBandwidth'],
    });
  });

  test('a request that was kept before there were any has none', () => {
    const kept = {
      kind: 'evacuateNode',
      host: 'a',
      policy: POLICY_PRESETS.maintenance,
      deadlineMs: null,
    };
    expect(requestSchema.parse(kept)).toMatchObject({
      overrides: {},
      nonMigratable: 'block',
      shutdownTimeoutMs: 120_000,
    });
  });
});
