/** Requests, as a user sends them (text or numbers) and as they are kept (numbers only). */
import { z } from 'zod';
import { entityName } from './names.ts';
import { type NonMigratable, nonMigratableChoices, SHUTDOWN_TIMEOUT_MS } from './non-migratable.ts';
import {
  type Policy,
  type PolicyCatalogue,
  policyInput,
  policyNames,
  policySchema,
  resolvePolicy,
  vmPolicyInput,
} from './policy.ts';
import { durationText } from './units.ts';

function common(policies: readonly string[]) {
  return {
    ...policyInput(policies).shape,
    /** For single VMs, by name: what is said here holds before what the request says for all. */
    overrides: z.record(entityName, vmPolicyInput(policies)).optional(),
    /** From the request on, in fleet time; then no new move starts and running ones abort. */
    deadline: durationText.optional(),
    /** Its plan is shown, and nothing is done until somebody approves it. Default: false. */
    approveFirst: z.boolean({ error: 'expected true or false' }).optional(),
    /** The same key again gives the same operation; with other content it is refused. */
    idempotencyKey: z.string().min(1).max(255).optional(),
  };
}

/** `policies`: the names that the request may use. */
export function evacuateNodeInput(policies: readonly string[] = policyNames) {
  return z.strictObject({
    host: entityName,
    ...common(policies),
    /** What is done with VMs that cannot be migrated and whose label does not say otherwise. Default: `block`. */
    nonMigratable: z
      .enum(nonMigratableChoices, { error: `expected one of ${nonMigratableChoices.join(', ')}` })
      .optional(),
    /** How long a guest that is asked to shut down has for it. Default: 2 min. */
    shutdownTimeout: durationText.optional(),
  });
}
export type EvacuateNodeInput = z.input<ReturnType<typeof evacuateNodeInput>>;

export function loadBalanceInput(policies: readonly string[] = policyNames) {
  return z.strictObject({
    moves: z
      .array(z.strictObject({ vm: entityName, to: entityName }))
      .min(1, { error: 'expected at least one move' })
      .max(10_000),
    ...common(policies),
  });
}
export type LoadBalanceInput = z.input<ReturnType<typeof loadBalanceInput>>;

const kept = {
  policy: policySchema,
  /** The whole policy of each VM that has one of its own. */
  overrides: z.record(entityName, policySchema).default({}),
  deadlineMs: z.number().positive().nullable(),
  /** Left out where it is not asked for: processes of a version without it read such requests as well. */
  approveFirst: z.boolean().optional(),
};

export const requestSchema = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('evacuateNode'),
    host: entityName,
    ...kept,
    nonMigratable: z.enum(nonMigratableChoices).default('block'),
    shutdownTimeoutMs: z.number().positive().default(SHUTDOWN_TIMEOUT_MS),
  }),
  z.strictObject({
    kind: z.literal('loadBalance'),
    moves: z.array(z.strictObject({ vm: entityName, to: entityName })),
    ...kept,
  }),
]);
export type OperationRequest = z.infer<typeof requestSchema>;

/** The host that a request empties; null: it is a rebalance. */
export function hostOfRequest(request: OperationRequest): string | null {
  return request.kind === 'evacuateNode' ? request.host : null;
}

/** What a request says of VMs that cannot be migrated. null: nothing; a move that somebody named is refused. */
export function nonMigratableOf(request: OperationRequest): NonMigratable | null {
  return request.kind === 'evacuateNode' ? request.nonMigratable : null;
}

/** The policy by which one VM of a request is moved. */
export function policyFor(request: Pick<OperationRequest, 'policy' | 'overrides'>, vm: string): Policy {
  // A VM may be called `constructor`: only own properties count.
  return (Object.hasOwn(request.overrides, vm) ? request.overrides[vm] : undefined) ?? request.policy;
}

/**
 * The policies of a request that was parsed with the catalogue's names: for all VMs, and for each with one of its own. There
 * the VM's own words come first, then those for all VMs, then what the policy requires that is named.
 */
export function policiesOf(
  input: Omit<z.output<ReturnType<typeof loadBalanceInput>>, 'moves'>,
  fallback: Policy,
  catalogue: PolicyCatalogue,
): Pick<OperationRequest, 'policy' | 'overrides'> {
  const named = (name: string | undefined): Policy =>
    (name === undefined ? undefined : catalogue.get(name)) ?? fallback;
  return {
    policy: resolvePolicy(named(input.policy), input),
    overrides: Object.fromEntries(
      Object.entries(input.overrides ?? {}).map(([vm, own]) => [
        vm,
        resolvePolicy(named(own.policy ?? input.policy), { ...input, ...own }),
      ]),
    ),
  };
}
