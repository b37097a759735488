/** The options that say something about policy, for all VMs or for one, as texts; and the values they become. Pure. */
import type { z } from 'zod';
import type { Problem } from '../domain/errors.ts';
import { vmPolicyInput } from '../domain/policy.ts';
import { printValue, problemsOf } from '../domain/problems.ts';
import { nearest } from '../domain/suggest.ts';

/** What commander hands over; every value a text as it was typed. */
export interface PolicyOptions {
  readonly policy?: string;
  readonly aggression?: string;
  readonly minCpu?: string;
  readonly maxStall?: string;
  readonly maxTime?: string;
  readonly maxBandwidth?: string;
  readonly atDeadline?: string;
  readonly controller?: string;
  readonly precedence?: string;
  readonly throttling?: string;
}

/** `0.5` is a number, `-0.5` too (and refused as one); anything else stays the text it is, for the message. */
export function numberOrText(text: string): number | string {
  return /^[+-]?(\d+\.?\d*|\.\d+)$/.test(text.trim()) ? Number(text) : text;
}

/** `30%` as well as `0.3`. */
function shareOrText(text: string): number | string {
  const percent = /^(\d+(?:\.\d+)?)%$/.exec(text.trim())?.[1];
  return percent === undefined ? numberOrText(text) : Number(percent) / 100;
}

/** `post-copy` as well as `postCopy`: options are written with dashes. */
function camel(text: string): string {
  return text.trim().replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** How an option's text becomes what the schema reads; where nothing is said here, the text itself. */
const READ: Readonly<Record<string, (text: string) => unknown>> = {
  aggression: numberOrText,
  minCpu: shareOrText,
  atDeadline: camel,
  controller: camel,
  precedence: (text) => text.split(',').map(camel),
};

/** The values of options that were given, ready for the schema. */
export function optionValues(options: Readonly<Record<string, string | undefined>>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(options).flatMap(([key, text]) =>
      text === undefined ? [] : [[key, (Object.hasOwn(READ, key) ? READ[key] : undefined)?.(text) ?? text]],
    ),
  );
}

type VmPolicy = z.output<ReturnType<typeof vmPolicyInput>>;

const EXAMPLE = 'give <name>:key=value, like --vm db-1:min-cpu=0.8,policy=rebalance';

/**
 * `--vm db-1:aggression=0,min-cpu=0.8`, any number of times. A VM's name may have colons in it, a value has none. `policies`:
 * the names there are.
 */
export function vmPolicies(
  texts: readonly string[],
  policies: readonly string[],
): { overrides: Record<string, VmPolicy>; problems: Problem[] } {
  const schema = vmPolicyInput(policies);
  const keys = Object.keys(schema.shape);
  const given = new Map<string, Record<string, string>>();
  const problems: Problem[] = [];
  for (const text of texts) {
    const colon = text.lastIndexOf(':');
    const vm = text.slice(0, Math.max(0, colon));
    const pairs = text.slice(colon + 1).split(',');
    if (vm === '' || pairs.some((pair) => !/^[^=]+=.+$/s.test(pair))) {
      problems.push({ path: '--vm', value: printValue(text), message: 'expected name:key=value,...', remedy: EXAMPLE });
      continue;
    }
    const values = given.get(vm) ?? {};
    given.set(vm, values);
    for (const pair of pairs) {
      const at = pair.indexOf('=');
      const option = pair.slice(0, at).trim();
      const key = camel(option);
      const path = `--vm ${vm}:${option}`;
      const value = printValue(pair.slice(at + 1));
      if (!keys.includes(key)) problems.push({ path, value, message: 'unknown key', remedy: keyRemedy(option, keys) });
      else if (Object.hasOwn(values, key)) {
        problems.push({ path, value, message: 'is given twice', remedy: 'give each key once for each VM' });
      } else values[key] = pair.slice(at + 1).trim();
    }
  }
  const overrides: Record<string, VmPolicy> = {};
  for (const [vm, texts] of given) {
    const value = optionValues(texts);
    const parsed = schema.safeParse(value);
    if (parsed.success) overrides[vm] = parsed.data;
    else {
      // `--min-cpu` becomes `--vm db-1:min-cpu`.
      const faults = problemsOf(schema, value, parsed.error, '--');
      problems.push(
        ...faults.map(({ at: _, ...fault }) => ({ ...fault, path: `--vm ${vm}:${fault.path.replace(/^--/, '')}` })),
      );
    }
  }
  return { overrides, problems };
}

function keyRemedy(option: string, keys: readonly string[]): string {
  const options = keys.map((key) => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`));
  const meant = nearest(option, options);
  return meant === undefined ? `use one of ${options.join(', ')}` : `did you mean ${meant}?`;
}
