/**
 * A VM's definition: `vm.json`, and `incoming.json` as long as it has not arrived. What it must be, reading it with every
 * problem at once, and the uuid that it is given when it has none. Other keys in it are somebody's, and kept.
 */
import { randomUUID } from 'node:crypto';
import { accessSync, constants, rmSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { z } from 'zod';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import { entityName } from '../../domain/names.ts';
import { badInput, parseInput } from '../../domain/problems.ts';
import { sizeText } from '../../domain/units.ts';
import { createDurably, errorCode, readSmallFile, writeDurably } from './durable-file.ts';
import type { VmDir } from './vm-dir.ts';

const DEFAULT_BINARY = 'qemu-system-x86_64';

/** What hostevac adds itself, or what would take QEMU out of its hands. */
const OURS = ['pidfile', 'incoming', 'daemonize', 'qmp', 'qmp-pretty', 'qmp_pretty'];

const argument = z.string({ error: 'expected text' }).refine((text) => !text.includes('\0'), {
  error: 'expected text without a zero byte',
});

const argvSchema = z.array(argument, { error: 'expected a list of QEMU arguments' }).superRefine((argv, context) => {
  for (const [index, text] of argv.entries()) {
    if (!/^--?/.test(text) || !OURS.includes(text.replace(/^--?/, ''))) continue;
    const remedy = text.endsWith('daemonize') ? 'remove it' : 'remove it with its value';
    context.addIssue({ code: 'custom', path: [index], message: 'hostevac gives QEMU this itself', params: { remedy } });
  }
});

/** Where a copy came from, or is to come from. */
const incomingSchema = z.object({
  migrationId: z.string().min(1),
  source: z.string().min(1),
  /** null: it does not listen yet. */
  port: z.int().min(1).max(65_535).nullable(),
  /** The source's QEMU that it was made for; earlier versions did not write it. */
  of: z.object({ pid: z.int(), startTicks: z.number() }).optional(),
});
export type Incoming = z.output<typeof incomingSchema>;

const absolutePath = z.string().regex(/^\/[^\0]*$/, { error: 'expected an absolute path such as /var/lib/vms/web-1' });

const vmSchema = z.looseObject({
  name: entityName,
  uuid: z
    .uuid({ error: 'expected a uuid such as 0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de' })
    .transform((uuid) => uuid.toLowerCase())
    .optional(),
  memory: sizeText,
  cpus: z.int({ error: 'expected a whole number of vCPUs such as 2' }).min(1).max(4_096),
  argv: argvSchema,
  binary: argument.min(1).optional(),
  cwd: absolutePath.optional(),
  incoming: incomingSchema.optional(),
  labels: z.record(z.string(), z.string({ error: 'expected text' }), { error: 'expected names with texts' }).optional(),
});

export interface VmDefinition {
  readonly name: string;
  /** null: none was given yet. */
  readonly uuid: string | null;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Without the program. */
  readonly argv: readonly string[];
  readonly binary: string;
  /** null: not stated. */
  readonly cwd: string | null;
  readonly incoming: Incoming | null;
  /** null: it has none. */
  readonly labels: Readonly<Record<string, string>> | null;
  /** As it stands in the file. */
  readonly raw: Readonly<Record<string, unknown>>;
}

/** Whoever looks for a VM reads every definition of its host, several times a second. */
const known = new Map<string, { readonly stamp: string; readonly contents: Contents }>();
const MOST_KNOWN = 4_000;
const LARGEST_KNOWN_BYTES = 2 ** 14;
/** A file may change again without a new time stamp as long as the clock of the file system stands (some ms). */
const SETTLED_MS = 1_000;

/** undefined: there is no such file. Throws `badInput` with every problem. */
export function readDefinition(path: string): VmDefinition | undefined {
  // Before it is read: of a change in between the next stamp tells.
  const status = statSync(path, { bigint: true, throwIfNoEntry: false });
  if (status === undefined) return undefined;
  const stamp = [status.dev, status.ino, status.size, status.mtimeNs, status.ctimeNs].join('/');
  const before = known.get(path);
  if (before?.stamp === stamp) return definitionOf(before.contents);
  known.delete(path);
  const text = readSmallFile(path);
  if (text === undefined) return undefined;
  const contents = parseContents(text, path);
  if (Date.now() - Number(status.ctimeMs) > SETTLED_MS && status.size <= LARGEST_KNOWN_BYTES) {
    const [oldest] = known.keys();
    if (known.size >= MOST_KNOWN && oldest !== undefined) known.delete(oldest);
    known.set(path, { stamp, contents });
  }
  return definitionOf(contents);
}

export function parseDefinition(text: string, path: string): VmDefinition {
  return definitionOf(parseContents(text, path));
}

interface Contents {
  readonly parsed: z.output<typeof vmSchema>;
  readonly raw: VmDefinition['raw'];
}

function parseContents(text: string, path: string): Contents {
  const raw = parseJson(text, path);
  return { parsed: parseInput(vmSchema, raw, { what: path }), raw: z.record(z.string(), z.unknown()).parse(raw) };
}

function definitionOf({ parsed, raw }: Contents): VmDefinition {
  const { name, uuid, memory, cpus, argv, binary, cwd, incoming, labels } = parsed;
  const [first] = argv;
  const program = first !== undefined && isProgram(first) ? first : undefined;
  return {
    name,
    uuid: uuid ?? null,
    memoryBytes: memory,
    cpus,
    argv: program === undefined ? argv : argv.slice(1),
    binary: binary ?? program ?? DEFAULT_BINARY,
    cwd: cwd ?? null,
    incoming: incoming ?? null,
    labels: labels ?? null,
    raw,
  };
}

/** What can still be said of a definition that is faulty: enough to list its VM. */
export function nameIn(path: string): string | undefined {
  try {
    const text = readSmallFile(path);
    return text === undefined ? undefined : z.looseObject({ name: entityName }).parse(JSON.parse(text)).name;
  } catch {
    // Faulty in its name too, or no JSON: whoever asked has the problems from `readDefinition`.
    return undefined;
  }
}

/** What is read here is written again: reading takes any depth, writing as much as the stack has left. */
const DEEPEST = 64;

function parseJson(text: string, path: string): unknown {
  const faulty = (message: string): HostevacError =>
    badInput([{ path: '(root)', value: '', message, remedy: 'correct it' }], { what: path });
  let raw: unknown;
  try {
    raw = JSON.parse(text);
  } catch (error) {
    throw faulty(`is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (isDeeper(raw, DEEPEST)) throw faulty(`has lists or objects more than ${DEEPEST} deep in one another`);
  return raw;
}

function isDeeper(value: unknown, levels: number): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeper(inner, levels - 1));
}

/** People write a whole command line: an executable file named qemu... in front is the program. */
function isProgram(text: string): boolean {
  if (text.startsWith('-') || !/^qemu/.test(basename(text))) return false;
  if (!text.includes('/')) return true;
  try {
    accessSync(text, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export function definitionText(raw: Readonly<Record<string, unknown>>): string {
  return `${JSON.stringify(raw, null, 2)}\n`;
}

/** How old a lock must be to be a dead process's: holding it takes milliseconds. */
const LOCK_STALE_MS = 5_000;
const LOCK_LIMIT_MS = 10_000;

/**
 * The VM's uuid. One that its definition lacks is written into it: `known` (QEMU's), else a new one. Of several processes
 * that do this at once all get the same.
 */
export async function ensureUuid(dir: VmDir, path: string, known: string | null): Promise<string> {
  const lock = `${path}.lock`;
  for (const since = performance.now(); ; ) {
    const uuid = reread(path).uuid;
    if (uuid !== null) return uuid;
    if (createDurably(lock, `${process.pid}\n`)) {
      try {
        const { uuid: meanwhile, raw } = reread(path);
        if (meanwhile !== null) return meanwhile;
        const given = known ?? randomUUID();
        writeDurably(path, definitionText({ ...raw, uuid: given }));
        return given;
      } finally {
        rmSync(lock, { force: true });
      }
    }
    if (performance.now() - since > LOCK_LIMIT_MS) {
      throw new HostevacError('hostUnreachable', `${lock} is held by another process; remove it if none is running`);
    }
    if (ageMs(lock) > LOCK_STALE_MS) rmSync(lock, { force: true });
    await abortableSleep(20);
  }

  function reread(file: string): VmDefinition {
    const definition = readDefinition(file);
    if (definition === undefined)
      throw new HostevacError('hostUnreachable', `${dir.path}: its definition has just gone`);
    return definition;
  }
}

function ageMs(path: string): number {
  try {
    return Date.now() - statSync(path).mtimeMs;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return 0;
    throw error;
  }
}
