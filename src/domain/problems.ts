/**
 * The one gate for input: a schema's issues become problems that a person can act on, all at once, each with its path,
 * the value as given, what is wrong and what to do. What the words of a single issue are is `issue-wording.ts`; what the
 * schemas demand is theirs.
 */
import type { z } from 'zod';
import { type ErrorCode, HostevacError, type Problem } from './errors.ts';
import { explain } from './issue-wording.ts';
import { keysAllowedAt, valueAt } from './schema-keys.ts';
import { nearest } from './suggest.ts';

export interface ParseOptions {
  /** What was read, for the first line of the message: `fleet.yaml`, `the request`. */
  readonly what?: string;
  /** In front of every path. `--` makes option names of them: `minCpu` becomes `--min-cpu`. */
  readonly pathPrefix?: string;
  readonly code?: ErrorCode;
}

/** The value as the schema gives it back. Throws `badInput` (or `code`) with every problem in `problems` and in the message. */
export function parseInput<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
  options: ParseOptions = {},
): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw badInput(problemsOf(schema, value, parsed.error, options.pathPrefix), options);
}

/** The error for a list of problems; the message holds all of them, up to a screenful or two. */
export function badInput(problems: readonly Problem[], options: ParseOptions = {}): HostevacError {
  const listed = problems.filter(({ path }) => path !== REST).length;
  const count =
    listed < problems.length ? `more than ${listed} problems` : listed === 1 ? '1 problem' : `${listed} problems`;
  const message = `${options.what ?? 'the input'} has ${count}:\n${printProblems(problems)}`;
  return new HostevacError(options.code ?? 'badInput', message, { problems });
}

const MAX_PRINTED = 50;
/** So many faults of one input are listed; of more it is said how many there are. */
export const MOST_PROBLEMS = 100;

const REST = '(more)';

/** Stands in a list for the faults that are not in it. */
export function restProblem(count: number): Problem {
  return { path: REST, value: '', message: `${count} more are not listed`, remedy: 'correct these first' };
}

/** One line each, `  path: value - message; remedy`. What is too much to read is counted; `problems` has it all. */
export function printProblems(problems: readonly Problem[]): string {
  const lines = problems.slice(0, MAX_PRINTED).map((problem) => {
    const where = problem.line === undefined ? problem.path : `${problem.path} (line ${problem.line})`;
    const value = problem.value === '' ? '' : `${problem.value} - `;
    return `  ${where}: ${value}${problem.message}; ${problem.remedy}`;
  });
  if (problems.length > MAX_PRINTED) lines.push(`  ... and ${problems.length - MAX_PRINTED} more`);
  return lines.join('\n');
}

type Path = readonly PropertyKey[];

/** A problem whose place in the input is still known as a path, for those who look it up (a line in a file). */
export interface LocatedProblem extends Problem {
  readonly at: Path;
}

/** `hosts[2].egress`; the whole input is `(root)`. */
export function printPath(path: Path, prefix = ''): string {
  let text = '';
  for (const step of path) {
    if (typeof step === 'number') text += `[${step}]`;
    else if (typeof step === 'string' && /^[A-Za-z_$][\w$-]*$/.test(step)) text += text === '' ? step : `.${step}`;
    else text += `[${printValue(String(step))}]`;
  }
  if (prefix === '--') return prefix + text.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  if (text === '') return prefix === '' ? '(root)' : prefix;
  return prefix === '' || text.startsWith('[') ? prefix + text : `${prefix}.${text}`;
}

const MAX_VALUE = 80;

/** The value as JSON on one line of at most 80 characters, nothing in it that would move a cursor; '' when there is none. */
export function printValue(value: unknown): string {
  if (value === undefined) return '';
  const safe = jsonOf(value).replace(
    /[\p{Cc}\p{Zl}\p{Zp}]/gu,
    (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  // Twice as many code units hold as many characters.
  const chars = Array.from(safe.slice(0, 2 * MAX_VALUE + 2));
  return chars.length <= MAX_VALUE ? safe : `${chars.slice(0, MAX_VALUE - 1).join('')}…`;
}

function jsonOf(value: unknown): string {
  if (typeof value === 'bigint') return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    // Nested deeper than can be printed.
    return Array.isArray(value) ? '[...]' : '{...}';
  }
}

/** Every fault of `value`, in the order of the schema, one per place; at most so many, then how many more there are. */
export function problemsOf(schema: z.ZodType, value: unknown, error: z.ZodError, pathPrefix = ''): LocatedProblem[] {
  const issues = error.issues.flatMap((issue) => reach(issue, []));
  const missing = new Set(issues.filter(({ path }) => isMissing(value, path)).map(({ path }) => printPath(path)));
  const problems = new Map<string, LocatedProblem>();
  /** Places where an unknown key is the missing one, misspelled: that is one fault, not two. */
  const misspelled = new Set<string>();

  const add = (at: Path, message: string, remedy: string) => {
    const path = printPath(at, pathPrefix);
    // The first issue of a place is the one to repair; what else is wrong with the value often goes away with it.
    if (!problems.has(path)) problems.set(path, { at, path, value: printValue(valueAt(value, at)), message, remedy });
  };

  let rest = 0;
  for (const { issue, path } of issues) {
    if (problems.size >= MOST_PROBLEMS) {
      rest += issue.code === 'unrecognized_keys' ? issue.keys.length : 1;
      continue;
    }
    if (issue.code !== 'unrecognized_keys') {
      const words = explain(issue, { key: path.at(-1), value: valueAt(value, path), missing: isMissing(value, path) });
      add(path, words.message, words.remedy);
      continue;
    }
    const parent = valueAt(value, path);
    const given = new Set(typeof parent === 'object' && parent !== null ? Object.keys(parent) : []);
    const unused = keysAllowedAt(schema, value, path).filter((key) => !given.has(key));
    const listed = issue.keys.slice(0, MOST_PROBLEMS - problems.size);
    rest += issue.keys.length - listed.length;
    for (const key of listed) {
      const meant = nearest(key, unused);
      if (meant !== undefined && missing.has(printPath([...path, meant])))
        misspelled.add(printPath([...path, meant], pathPrefix));
      add([...path, key], 'unknown key', remedyForKey(meant, unused));
    }
  }
  const found = [...problems.values()].filter(({ path }) => !misspelled.has(path));
  return rest === 0 ? found : [...found, { ...restProblem(rest), at: [] }];
}

function remedyForKey(meant: string | undefined, unused: readonly string[]): string {
  if (meant !== undefined) return `did you mean ${meant}?`;
  if (unused.length === 0 || unused.length > 20) return 'remove it';
  return `remove it, or use one of ${unused.join(', ')}`;
}

function isMissing(root: unknown, path: Path): boolean {
  return path.length > 0 && valueAt(root, path) === undefined;
}

interface Reached {
  readonly issue: z.core.$ZodIssue;
  readonly path: Path;
}

/** The issues that say something: of a union, those of the branch that fits best, with their paths from the root. */
function reach(issue: z.core.$ZodIssue, base: Path): Reached[] {
  const path = [...base, ...issue.path];
  if (issue.code === 'invalid_union' && issue.errors.length > 0) {
    const branches = issue.errors.map((errors) => ({ errors, misfit: misfit(errors) }));
    const best = branches.reduce((a, b) => (b.misfit < a.misfit ? b : a));
    // No branch takes a value of this kind at all: then what the union itself says is clearer than any branch.
    if (best.misfit >= WRONG_KIND) return [{ issue, path }];
    return best.errors.flatMap((each) => reach(each, path));
  }
  if ((issue.code === 'invalid_key' || issue.code === 'invalid_element') && issue.issues.length > 0) {
    return issue.issues.flatMap((each) => reach(each, path));
  }
  return [{ issue, path }];
}

const WRONG_KIND = 1_000;
/** Looking for what more keys might mean costs more than it tells. */
const KEYS_COMPARED = 20;

/** How badly a branch's issues speak against it: another kind of value > unknown keys > anything else inside. */
function misfit(issues: readonly z.core.$ZodIssue[]): number {
  const faulty = new Set(issues.map(({ path }) => path[0]).filter((step) => typeof step === 'string'));
  let wrongKind = 0;
  let sum = 0;
  for (const issue of issues) {
    if (issue.code === 'invalid_type' && issue.path.length === 0) wrongKind += WRONG_KIND;
    else if (issue.code !== 'unrecognized_keys' || issue.path.length > 0) sum += 3;
    else {
      // A misspelled key speaks for the branch that has the right one.
      const compared = issue.keys.slice(0, KEYS_COMPARED);
      for (const key of compared) sum += nearest(key, faulty) === undefined ? 10 : 1;
      sum += 10 * (issue.keys.length - compared.length);
    }
  }
  return wrongKind + Math.min(sum, WRONG_KIND - 1);
}
