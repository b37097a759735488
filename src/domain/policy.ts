/**
 * Policy: the four requirements (max bandwidth, min CPU, max stall, max time), the aggression, and what happens at the
 * deadline. Presets are the defaults of the two tasks; a request may override any field.
 */
import { z } from 'zod';
import { durationText, rateText, share } from './units.ts';

/** What a migration does when its max time is over. */
export const deadlineActions = ['abort'] as const;
export const controllerNames = ['rfc2011'] as const;
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
  atDeadline: 'abort',
  controller: 'rfc2011',
  throttling: 'required',
  maxAttempts: 3,
} as const;

/** The presets of the design: evacuations are `maintenance`, rebalances `rebalance`. */
export const POLICY_PRESETS = {
  maintenance: { name: 'maintenance', aggression: 0.5, minCpuShare: 0.1, ...base },
  rebalance: { name: 'rebalance', aggression: 0.2, minCpuShare: 0.5, ...base },
} as const satisfies Record<string, Policy>;

export type PolicyName = keyof typeof POLICY_PRESETS;
export const policyNames = ['maintenance', 'rebalance'] as const satisfies readonly PolicyName[];

/** What a request may say about policy: a preset's name and overrides, in text or numbers. */
export const policyInputSchema = z.strictObject({
  policy: z.enum(policyNames, { error: `expected one of ${policyNames.join(', ')}` }).optional(),
  aggression: share.optional(),
  minCpu: share.optional(),
  maxStall: durationText.optional(),
  maxTime: durationText.optional(),
  maxBandwidth: rateText.optional(),
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
    throttling: input.throttling ?? preset.throttling,
  };
}
