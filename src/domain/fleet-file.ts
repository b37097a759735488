/**
 * The text of a fleet file becomes a fleet, or a list of everything that is wrong with it: syntax with line and column,
 * each value, and what must hold between the parts (`fleet-checks.ts`). Finding and reading files is
 * `src/runtime/fleet-source.ts`.
 */
import { type Document, isNode, LineCounter, parseDocument, type YAMLError } from 'yaml';
import type { Problem } from './errors.ts';
import { type Fleet, fleetSchema } from './fleet.ts';
import { fleetFaults } from './fleet-checks.ts';
import { badInput, type LocatedProblem, printPath, printValue, problemsOf } from './problems.ts';

export type FleetFormat = 'yaml' | 'json';

/** Far above 10,000 hosts with their VMs; more text than this is some other file. */
const MAX_TEXT = 64 * 1024 * 1024;

/** `name` is what the message calls the file. Throws `badInput` with every problem. */
export function parseFleet(
  text: string,
  { format, name }: { readonly format: FleetFormat; readonly name: string },
): Fleet {
  if (text.length > MAX_TEXT) throw badInput([tooLong(text)], { what: name });
  const { value, problems, lineOf } = readText(text.replace(/^\uFEFF/, ''), format);
  if (value === undefined) throw badInput(problems, { what: name });
  const parsed = fleetSchema.safeParse(value);
  const schemaProblems = parsed.success ? [] : problemsOf(fleetSchema, value, parsed.error);
  const places = new Set(schemaProblems.map(({ path }) => path));
  // Under a key that must go anyway, what else is wrong is no second fault.
  const faults = fleetFaults(value).filter(({ at }) =>
    at.every((_, index) => !places.has(printPath(at.slice(0, index + 1)))),
  );
  const all = [...problems, ...[...schemaProblems, ...faults].map((problem) => withLine(problem, lineOf))];
  if (parsed.success && all.length === 0) return parsed.data;
  throw badInput(
    all.sort((a, b) => (a.line ?? 0) - (b.line ?? 0)),
    { what: name },
  );
}

function withLine(
  { at, ...problem }: LocatedProblem,
  lineOf: (path: readonly PropertyKey[]) => number | undefined,
): Problem {
  const line = lineOf(at);
  return line === undefined ? problem : { ...problem, line };
}

interface ReadText {
  /** undefined: the text could not be read at all. */
  readonly value: unknown;
  readonly problems: readonly Problem[];
  readonly lineOf: (path: readonly PropertyKey[]) => number | undefined;
}

function readText(text: string, format: FleetFormat): ReadText {
  const lineCounter = new LineCounter();
  // YAML holds JSON, so one parser knows the lines and the repeated keys of both.
  const document = parseDocument(text, { lineCounter, prettyErrors: false });
  const lineOf = (path: readonly PropertyKey[]) => lineIn(document, lineCounter, path);
  const faults = [...document.errors, ...document.warnings].map((error) => syntaxProblem(error, lineCounter, text));
  const repeated = document.errors.every((error) => error.code === 'DUPLICATE_KEY');

  if (format === 'json') {
    try {
      const value: unknown = JSON.parse(text);
      return {
        value: withoutSchemaKey(value),
        problems: repeated ? faults : [],
        lineOf: repeated ? lineOf : () => undefined,
      };
    } catch (error) {
      return { value: undefined, problems: [jsonProblem(error, text)], lineOf };
    }
  }
  if (!repeated) return { value: undefined, problems: faults, lineOf };
  try {
    const value: unknown = document.toJS();
    if (value !== null && value !== undefined) return { value: withoutSchemaKey(value), problems: faults, lineOf };
    return { value: undefined, problems: [...faults, EMPTY], lineOf };
  } catch (error) {
    // Aliases that do not resolve, or that would unfold into more than a machine holds.
    const message = error instanceof Error ? error.message : String(error);
    return {
      value: undefined,
      problems: [
        ...faults,
        { path: '(root)', value: '', message, remedy: 'write the values out instead of * aliases' },
      ],
      lineOf,
    };
  }
}

const EMPTY: Problem = {
  path: '(root)',
  value: '',
  message: 'the file is empty',
  remedy: 'list at least one host under hosts: (docs/examples/fleet.yaml shows one)',
};

function tooLong(text: string): Problem {
  return {
    path: '(root)',
    value: `${text.length} characters`,
    message: 'too long for a fleet file',
    remedy: 'name the right file',
  };
}

/** `$schema` is how a JSON file tells an editor its schema; it says nothing about the fleet. */
function withoutSchemaKey(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => key !== '$schema'));
}

/** The line of the nearest thing on the path that is written down. */
function lineIn(document: Document, lines: LineCounter, path: readonly PropertyKey[]): number | undefined {
  for (let length = path.length; length >= 0; length -= 1) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) return lines.linePos(node.range[0]).line;
  }
  return undefined;
}

const YAML_REMEDIES: Readonly<Record<string, string>> = {
  DUPLICATE_KEY: 'keep one of the two',
  TAB_AS_INDENT: 'indent with spaces',
  BAD_INDENT: 'line it up with the entries around it',
  BLOCK_AS_IMPLICIT_KEY: 'put the text in quotes, or the key on a line of its own',
  MULTIPLE_DOCS: 'keep one document per file',
  TAG_RESOLVE_FAILED: 'remove the ! tag',
};

function syntaxProblem(error: YAMLError, lines: LineCounter, text: string): Problem {
  const { line, col } = lines.linePos(error.pos[0]);
  const source = text.split('\n')[line - 1]?.trim() ?? '';
  return {
    path: `line ${line}, column ${col}`,
    value: source === '' ? '' : printValue(source),
    message: error.code === 'DUPLICATE_KEY' ? 'this key stands here twice' : `not valid YAML: ${error.message}`,
    remedy: YAML_REMEDIES[error.code] ?? 'correct the YAML here; text with : or # in it needs quotes',
  };
}

/** V8 gives a position in most of its messages, and the text around it in the others. */
function jsonProblem(error: unknown, text: string): Problem {
  const message = error instanceof Error ? error.message : String(error);
  const position =
    /at position (\d+)/.exec(message)?.[1] ?? (/end of JSON/.test(message) ? String(text.length) : undefined);
  const before = position === undefined ? undefined : text.slice(0, Number(position)).split('\n');
  return {
    path: before === undefined ? '(root)' : `line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`,
    value: '',
    message: `not valid JSON: ${message.replace(/ (in JSON )?at position .*/s, '')}`,
    remedy: 'correct the JSON here: double quotes, no comments, no comma after the last entry',
  };
}
