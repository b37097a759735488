/**
 * Policies of the user's own: the modules that a fleet file lists, loaded once at a process's start. What such a module has
 * to be is docs/policies.md; what a policy may decide is src/convergence/policy-behaviour.ts.
 */
import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { Candidate, Choice, PolicyBehaviour, PolicyView } from '../convergence/policy-behaviour.ts';
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
  const { name, what, requirements } = parsed.data;
  const own: unknown = exported;
  // Called as the module's own method: it may use `this`.
  const choose = (view: PolicyView): unknown => Reflect.apply(parsed.data.choose, own, [view]);
  return {
    policy: { ...resolvePolicy(POLICY_PRESETS.maintenance, requirements), name },
    behaviour: { name, what, choose: (view) => guarded(name, view, choose) },
  };
}

const choiceSchema = z.object({ candidate: z.object({ share: z.number(), begins: z.string() }), why: z.string() });

/** What the module chose if it is among what was offered; else the gentlest that ends in time, and why that. */
function guarded(name: string, view: PolicyView, choose: (view: PolicyView) => unknown): Choice {
  let chosen: unknown;
  try {
    chosen = choose(view);
  } catch (error) {
    return instead(view, `${name} failed (${error instanceof Error ? error.message : String(error)})`);
  }
  const parsed = choiceSchema.safeParse(chosen);
  if (!parsed.success) return instead(view, `${name} chose nothing: expected { candidate, why }`);
  const { candidate, why } = parsed.data;
  const offered = view.candidates.find((one) => one.share === candidate.share && one.begins === candidate.begins);
  return offered === undefined
    ? instead(view, `${name} chose a share of ${candidate.share} that was not offered`)
    : { candidate: offered, why };
}

/** As sure as makes sense to ask for: a little doubt is in every prediction. */
const SURE_ENOUGH = 0.9;

function instead({ candidates }: PolicyView, fault: string): Choice {
  const surest = (a: Candidate, b: Candidate) => (b.prediction.endsInTime > a.prediction.endsInTime ? b : a);
  const inTime = candidates.find(({ prediction }) => prediction.endsInTime >= SURE_ENOUGH);
  return { candidate: inTime ?? candidates.reduce(surest), why: `${fault}; the gentlest that ends in time instead` };
}
