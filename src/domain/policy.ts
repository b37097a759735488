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
  /** 1 = the least harm in all, however deep; 0 = the gentlest slowdown that costs at most 1.3 times that (decision 0019). */
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
  // Requests that were kept before there was a choice: the floor and the cap held, and who met the max time gave up.
  precedence: z
    .array(z.enum(yieldingRequirements))
    .length(yieldingRequirements.length)
    .default(() => [...yieldingRequirements]),
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

/** The name of a policy that is no preset: a module that the fleet file lists (docs/policies.md). */
export const policyName = z.string().regex(/^[A-Za-z][A-Za-z0-9_.-]{0,63}$/, {
  error: 'expected 1 to 64 letters, digits, ., - or _, the first a letter',
});

/** Every policy that a request may name, with its requirements: the presets, and those of the fleet's modules. */
export type PolicyCatalogue = ReadonlyMap<string, Policy>;
export const PRESET_CATALOGUE: PolicyCatalogue = new Map<string, Policy>(Object.entries(POLICY_PRESETS));

const oneOf = (names: readonly string[]): string => `expected one of ${names.join(', ')}`;

const precedenceText = z
  .array(z.enum(yieldingRequirements, { error: oneOf(yieldingRequirements) }), { error: 'expected a list' })
  .refine((list) => yieldingRequirements.every((one) => list.filter((each) => each === one).length === 1), {
    error: `expected each of ${yieldingRequirements.join(', ')} once, the most precious first`,
  });

/** What may be said of one VM, in text or numbers; `names` are the policies there are. */
export function vmPolicyInput(names: readonly string[]) {
  return z.strictObject({
    policy: z.enum(names, { error: oneOf(names) }).optional(),
    aggression: share.optional(),
    minCpu: share.optional(),
    maxStall: durationText.optional(),
    maxTime: durationText.optional(),
    maxBandwidth: rateText.optional(),
    atDeadline: z.enum(deadlineActions, { error: oneOf(deadlineActions) }).optional(),
    throttling: z.enum(throttlingNames, { error: `expected ${throttlingNames.join(' or ')}` }).optional(),
  });
}

/** What a request may say about policy: a name and overrides. */
export function policyInput(names: readonly string[]) {
  return vmPolicyInput(names).extend({
    controller: z.enum(controllerNames, { error: `expected ${controllerNames.join(' or ')}` }).optional(),
    precedence: precedenceText.optional(),
  });
}
export type PolicyInput = z.input<ReturnType<typeof policyInput>>;

/** What a request says holds before what the policy it names requires. */
export function resolvePolicy(base: Policy, input: z.output<ReturnType<typeof policyInput>>): Policy {
  return {
    ...base,
    aggression: input.aggression ?? base.aggression,
    minCpuShare: input.minCpu ?? base.minCpuShare,
    maxStallMs: input.maxStall ?? base.maxStallMs,
    maxTimeMs: input.maxTime ?? base.maxTimeMs,
    maxBandwidthBytesPerSec: input.maxBandwidth ?? base.maxBandwidthBytesPerSec,
    atDeadline: input.atDeadline ?? base.atDeadline,
    // A floor that somebody asked for is a promise: it does not give way to the time.
    precedence: input.precedence ?? (input.minCpu === undefined ? base.precedence : minCpuFirst(base.precedence)),
    controller: input.controller ?? base.controller,
    throttling: input.throttling ?? base.throttling,
  };
}

function minCpuFirst(precedence: Policy['precedence']): Policy['precedence'] {
  return ['minCpu', ...precedence.filter((requirement) => requirement !== 'minCpu')];
}
