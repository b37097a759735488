/**
 * Policies of the user's own: the modules that a fleet file lists, loaded once at a process's start. What such a module has
 * to be is docs/policies.md; what a policy may decide is src/convergence/policy-behaviour.ts, and what becomes of a choice
 * that is none is the controller's business.
 */
import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import { behaviourOf } from '../convergence/policies/behaviours.ts';
import type { PolicyBehaviour } from '../convergence/policy-behaviour.ts';
import type { Problem } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import {
  POLICY_PRESETS,
  type Policy,
  type PolicyCatalogue,
  PRESET_CATALOGUE,
  policyInput,
  policyName,
  resolvePolicy,
} from '../domain/policy.ts';
import { badInput, printValue, problemsOf } from '../domain/problems.ts';

export interface LoadedPolicies {
  /** The presets, and what each module requires. */
  readonly catalogue: PolicyCatalogue;
  /** How the modules' policies choose. */
  readonly behaviours: ReadonlyMap<string, PolicyBehaviour>;
}

export const PRESETS_ONLY: LoadedPolicies = { catalogue: PRESET_CATALOGUE, behaviours: new Map() };

const isFunction = (value: unknown): boolean => typeof value === 'function';

const moduleSchema = z.strictObject({
  name: policyName,
  what: z.string({ error: 'expected a paragraph that says what it is for' }).min(1),
  requirements: policyInput([]).omit({ policy: true }).default({}),
  choose: z.custom<PolicyBehaviour['choose']>(isFunction, { error: 'expected a function: choose(view)' }),
});

export interface DescribedPolicy {
  readonly name: string;
  /** A paragraph: what it is for, and how it chooses. */
  readonly what: string;
  readonly requirements: Policy;
}

/** The presets first, then the modules' in the order of the fleet file. */
export function describedPolicies({ catalogue, behaviours }: LoadedPolicies): DescribedPolicy[] {
  return [...catalogue].map(([name, requirements]) => ({
    name,
    what: behaviourOf(name, behaviours).what,
    requirements,
  }));
}

type Loaded = { readonly policy: Policy; readonly behaviour: PolicyBehaviour } | { readonly problems: Problem[] };

/** Modules are found relative to `directory`, where the fleet file is. Throws `badInput` with every problem of every module. */
export async function loadPolicies(fleet: Pick<Fleet, 'policies'>, directory: string): Promise<LoadedPolicies> {
  const loaded = await Promise.all(
    fleet.policies.map((entry, index) => loadOne(entry, `policies[${index}]`, directory)),
  );
  const problems = loaded.flatMap((one) => ('problems' in one ? one.problems : []));
  if (problems.length > 0) throw badInput(problems, { what: 'the policies of the fleet file' });
  const catalogue = new Map(PRESET_CATALOGUE);
  const behaviours = new Map<string, PolicyBehaviour>();
  for (const one of loaded) {
    if ('problems' in one) continue;
    catalogue.set(one.policy.name, one.policy);
    behaviours.set(one.policy.name, one.behaviour);
  }
  return { catalogue, behaviours };
}

async function loadOne(entry: Fleet['policies'][number], path: string, directory: string): Promise<Loaded> {
  const file = isAbsolute(entry.module) ? entry.module : join(directory, entry.module);
  const fault = (message: string, remedy: string): Loaded => ({
    problems: [{ path: `${path}.module`, value: printValue(entry.module), message, remedy }],
  });
  if (!existsSync(file)) {
    return fault('there is no such file', `give its path relative to the fleet file; looked for ${file}`);
  }
  let exported: unknown;
  try {
    const namespace: unknown = await import(pathToFileURL(file).href);
    exported = typeof namespace === 'object' && namespace !== null ? Reflect.get(namespace, 'default') : undefined;
  } catch (error) {
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    return fault(
      `cannot be loaded: ${message}`,
      'make it a JavaScript module that loads without anything else running',
    );
  }
  if (exported === undefined) {
    return fault('has no default export', 'export default { name, what, choose(view) { ... } }');
  }
  const parsed = moduleSchema.safeParse(exported);
  const where = `${path} (${entry.module})`;
  const problems: Problem[] = parsed.success ? [] : problemsOf(moduleSchema, exported, parsed.error, where);
  if (parsed.success && parsed.data.name !== entry.name) {
    problems.push({
      path: `${where}.name`,
      value: printValue(parsed.data.name),
      message: `the fleet file calls it ${entry.name}`,
      remedy: 'give both the same name',
    });
  }
  if (!parsed.success || problems.length > 0) return { problems };
  const { name, what, requirements, choose } = parsed.data;
  const own: unknown = exported;
  return {
    policy: { ...resolvePolicy(POLICY_PRESETS.maintenance, requirements), name },
    // Called as the module's own method: it may use `this`.
    behaviour: { name, what, choose: (view) => Reflect.apply(choose, own, [view]) },
  };
}
