/**
 * The words for one issue of a schema: what is wrong and what to do. Schemas of this project say what they expect in one
 * form, `expected a rate above zero such as 40MiB/s or 10Gbit/s`; a custom issue may carry its own remedy in
 * `params.remedy`; everything else is worded here by the kind of issue.
 */
import type { z } from 'zod';
import { nearest } from './suggest.ts';

export interface Words {
  readonly message: string;
  /** Never empty. */
  readonly remedy: string;
}

/** Where the issue is: the last step of its path, the value there, and whether there is none. */
export interface Place {
  readonly key: PropertyKey | undefined;
  readonly value: unknown;
  readonly missing: boolean;
}

export function explain(issue: z.core.$ZodIssue, place: Place): Words {
  const expected = expectation(issue);
  const remedy = statedRemedy(issue);
  if (place.missing && expected !== undefined) {
    return { message: 'is missing', remedy: remedy ?? `add ${String(place.key)}: ${expected}` };
  }
  if (place.value === null && expected !== undefined) {
    return { message: 'is empty', remedy: remedy ?? `give it a value: ${expected}` };
  }
  if (expected === undefined) return { message: issue.message, remedy: remedy ?? 'correct it' };
  const [what = expected, examples] = expected.split(' such as ');
  return {
    message: `expected ${what}`,
    remedy:
      remedy ??
      quoting(issue, place.value) ??
      choice(issue, place.value) ??
      `give ${examples === undefined ? what : `${what}, like ${examples}`}`,
  };
}

function statedRemedy(issue: z.core.$ZodIssue): string | undefined {
  const remedy: unknown = issue.code === 'custom' ? issue.params?.['remedy'] : undefined;
  return typeof remedy === 'string' && remedy !== '' ? remedy : undefined;
}

const NOUNS: Readonly<Record<string, string>> = {
  object: 'a map (key: value)',
  record: 'a map (key: value)',
  array: 'a list',
  number: 'a number',
  int: 'a whole number',
  string: 'text',
  boolean: 'true or false',
  undefined: 'nothing',
};

const DEFAULT_MESSAGE = /^(Invalid|Too small|Too big|Unrecognized)/;

/** What should stand there, without "expected"; undefined when the issue's own message says it all. */
function expectation(issue: z.core.$ZodIssue): string | undefined {
  const own = /^expected (.+)$/s.exec(issue.message)?.[1];
  if (own !== undefined) return own;
  if (!DEFAULT_MESSAGE.test(issue.message)) return undefined;
  switch (issue.code) {
    case 'invalid_type':
      return NOUNS[issue.expected] ?? issue.expected;
    case 'too_small':
      return limit(issue.origin, issue.inclusive === false ? 'more than' : 'at least', issue.minimum);
    case 'too_big':
      return limit(issue.origin, issue.inclusive === false ? 'less than' : 'at most', issue.maximum);
    case 'invalid_value':
      return oneOf(issue.values);
    case 'not_multiple_of':
      return `a multiple of ${issue.divisor}`;
    case 'invalid_format':
      return issue.pattern === undefined ? `a valid ${issue.format}` : `text of the form ${issue.pattern}`;
    case 'invalid_union':
      return unionChoices(issue);
    default:
      return undefined;
  }
}

function limit(origin: string, bound: string, value: number | bigint): string {
  if (origin === 'string') return `${bound} ${value} characters`;
  if (origin === 'array' || origin === 'set' || origin === 'map')
    return `${bound} ${value} ${value === 1 ? 'entry' : 'entries'}`;
  return `a ${origin === 'int' ? 'whole number' : 'number'} of ${bound} ${value}`;
}

function oneOf(values: readonly unknown[]): string {
  return values.length === 1 ? String(values[0]) : `one of ${values.map(String).join(', ')}`;
}

function unionChoices(issue: z.core.$ZodIssueInvalidUnion): string | undefined {
  const options = discriminators(issue);
  if (options !== undefined) return oneOf(options);
  const kinds = issue.errors.flatMap((errors) =>
    errors.flatMap((each) => (each.code === 'invalid_type' ? [NOUNS[each.expected] ?? each.expected] : [])),
  );
  return kinds.length === 0 ? undefined : [...new Set(kinds)].join(' or ');
}

/** The known values of a discriminated union's key, when the one given is not among them. */
function discriminators(issue: z.core.$ZodIssueInvalidUnion): readonly unknown[] | undefined {
  return 'options' in issue && Array.isArray(issue.options) ? issue.options : undefined;
}

/** YAML turns `name: 1` into a number and `cpus: "8"` into text: the usual cause, and easily repaired. */
function quoting(issue: z.core.$ZodIssue, value: unknown): string | undefined {
  if (issue.code !== 'invalid_type') return undefined;
  if (issue.expected === 'string' && (typeof value === 'number' || typeof value === 'boolean'))
    return `put it in quotes: "${value}"`;
  const wantsNumber = issue.expected === 'number' || issue.expected === 'int';
  if (wantsNumber && typeof value === 'string' && value.trim() !== '' && Number.isFinite(Number(value)))
    return 'remove the quotes';
  if (issue.expected === 'array' && (typeof value === 'string' || typeof value === 'number'))
    return `write it as a list: [${value}]`;
  return undefined;
}

function choice(issue: z.core.$ZodIssue, value: unknown): string | undefined {
  const values =
    issue.code === 'invalid_value' ? issue.values : issue.code === 'invalid_union' ? discriminators(issue) : undefined;
  if (values === undefined || typeof value !== 'string') return undefined;
  const meant = nearest(value, values.map(String));
  return meant === undefined ? undefined : `did you mean ${meant}?`;
}
