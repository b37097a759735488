/**
 * Policy: the four requirements (max bandwidth, min CPU, max stall, max time), the aggression, and what happens at the
 * deadline. Presets are the defaults of the two tasks; a request may override any field.
 */
import { z } from 'zod';
import { durationText, rateText, share } from './units.ts';

/**
 * What a migration does when its max time is over, or when it is clear that it cannot be met: give up; let the guest go on
 * at its destination and fetch what is missing (no way back once begun); hold the guest until all is sent.
 */
export const deadlineActions = ['abort', 'postCopy', 'forceComplete'] as const;
/** `leastHarm` decides by a model of the guest; `rfc2011` by the formula of 2011, kept as a baseline. */
export const controllerNames = ['leastHarm', 'rfc2011'] as const;
/** Requirements that may give way, beside the max stall and the VM itself, which come before all of them. */
export const yieldingRequirements = ['minCpu', 'maxBandwidth', 'maxTime'] as const;
export type YieldingRequirement = (typeof yieldingRequirements)[number];
/** Where guests cannot be throttled (rights, cgroups): `required` moves nothing from there, `optional` goes on without. */
export const throttlingNames = ['required', 'optional'] as const;

export const policySchema = z.strictObject({
  name: z.string(),
  /** 0 = the largest share that still converges, 1 = down to the floor. */
  aggression: share,
  /** The floor: the guest never gets a smaller share of what it demands. */
  minCpuShare: share,
  /** Longest stretch without CPU; the downtime limit. */
  maxStallMs: z.number().positive(),
  /** From admission to the end of one attempt, in fleet time. */
  maxTimeMs: z.number().positive(),
  /** Cap for one migration; null: whatever the budget gives. */
  maxBandwidthBytesPerSec: z.number().positive().nullable(),
  atDeadline: z.enum(deadlineActions),
  /** Most precious first: where not all can be kept, the last ones give way first, and that is recorded. */
  precedence: z.array(z.enum(yieldingRequirements)).length(yieldingRequirements.length),
  controller: z.enum(controllerNames),
  throttling: z.enum(throttlingNames),
  /** How many destinations or tries one VM gets within an operation. */
  maxAttempts: z.int().min(1).max(20),
});
export type Policy = z.infer<typeof policySchema>;

const base = {
  maxStallMs: 300,
  maxTimeMs: 600_000,
  maxBandwidthBytesPerSec: null,
  controller: 'leastHarm',
  throttling: 'required',
  maxAttempts: 3,
} as const;

/**
 * The presets; evacuations are `maintenance`, rebalances `rebalance` (design, "Convergence"). What each chooses and the
 * curve that gives stands with its behaviour in src/convergence/policies.
 */
export const POLICY_PRESETS = {
  maintenance: {
    ...base,
    name: 'maintenance',
    aggression: 0.5,
    minCpuShare: 0.1,
    atDeadline: 'abort',
    precedence: ['maxTime', 'minCpu', 'maxBandwidth'],
  },
  rebalance: {
    ...base,
    name: 'rebalance',
    aggression: 0.2,
    minCpuShare: 0.5,
    atDeadline: 'abort',
    precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
  },
  emergency: {
    ...base,
    name: 'emergency',
    aggression: 1,
    minCpuShare: 0,
    atDeadline: 'forceComplete',
    precedence: ['maxTime', 'maxBandwidth', 'minCpu'],
  },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof POLICY_PRESETS;
export const policyNames = ['maintenance', 'rebalance', 'emergency'] as const satisfies readonly PolicyName[];

/** What a request may say about policy: a preset's name and overrides, in text or numbers. */
export const policyInputSchema = z.strictObject({
  policy: z.enum(policyNames, { error: `expected one of ${policyNames.join(', ')}` }).optional(),
  aggression: share.optional(),
  minCpu: share.optional(),
  maxStall: durationText.optional(),
  maxTime: durationText.optional(),
  maxBandwidth: rateText.optional(),
  atDeadline: z.enum(deadlineActions, { error: `expected one of ${deadlineActions.join(', ')}` }).optional(),
  controller: z.enum(controllerNames, { error: `expected ${controllerNames.join(' or ')}` }).optional(),
  throttling: z.enum(throttlingNames, { error: `expected ${throttlingNames.join(' or ')}` }).optional(),
});
export type PolicyInput = z.input<typeof policyInputSchema>;

/** Preset plus overrides. */
export function resolvePolicy(fallback: PolicyName, input: z.output<typeof policyInputSchema>): Policy {
  const preset: Policy = POLICY_PRESETS[input.policy ?? fallback];
  return {
    ...preset,
    aggression: input.aggression ?? preset.aggression,
    minCpuShare: input.minCpu ?? preset.minCpuShare,
    maxStallMs: input.maxStall ?? preset.maxStallMs,
    maxTimeMs: input.maxTime ?? preset.maxTimeMs,
    maxBandwidthBytesPerSec: input.maxBandwidth ?? preset.maxBandwidthBytesPerSec,
    atDeadline: input.atDeadline ?? preset.atDeadline,
    // A floor that somebody asked for is a promise: it does not give way to the time.
    precedence: input.minCpu === undefined ? preset.precedence : minCpuFirst(preset.precedence),
    controller: input.controller ?? preset.controller,
    throttling: input.throttling ?? preset.throttling,
  };
}

function minCpuFirst(precedence: Policy['precedence']): Policy['precedence'] {
  return ['minCpu', ...precedence.filter((requirement) => requirement !== 'minCpu')];
}
