/**
 * What must be put back, on disk before it is changed: a guard that is killed leaves it to the next one. One record a
 * line, so that a damaged file still tells what can be read. Written anew each time: temporary file, fsync, rename,
 * fsync of the directory.
 */
import { closeSync, fsyncSync, linkSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { cellSchema } from '../cgroup/cells.ts';
import { errnoOf } from '../cgroup/files.ts';
import { parseJson } from './protocol.ts';

const key = { host: z.string(), vm: z.string() };

const throttleRecord = z.object({ kind: z.literal('throttle'), ...key, cells: z.array(cellSchema).min(1).readonly() });
/**
 * The largest token seen for a VM, while the VM's process lives, and the process that showed it: once that is gone a
 * smaller one is no stale one (an emptied Redis counts from one again).
 */
const tokenRecord = z.object({
  kind: z.literal('token'),
  ...key,
  token: z.number(),
  pid: z.number(),
  startTicks: z.number(),
  shownBy: z.object({ pid: z.number(), startTicks: z.number() }).optional(),
});
const gateRecord = z.object({ kind: z.literal('gate'), ...key, monitor: z.string() });
const headRecord = z.object({ kind: z.literal('head'), version: z.literal(1), boot: z.string() });
const endRecord = z.object({ kind: z.literal('end') });
const record = z.discriminatedUnion('kind', [headRecord, throttleRecord, tokenRecord, gateRecord, endRecord]);

export type ThrottleRecord = z.infer<typeof throttleRecord>;
export type TokenRecord = z.infer<typeof tokenRecord>;
export type GateRecord = z.infer<typeof gateRecord>;

export interface JournalContent {
  readonly throttles: readonly ThrottleRecord[];
  readonly tokens: readonly TokenRecord[];
  readonly gates: readonly GateRecord[];
}

export const EMPTY: JournalContent = { throttles: [], tokens: [], gates: [] };

/** `damage`: what of the file could not be read; its readable part counts all the same. */
export interface JournalRead extends JournalContent {
  readonly damage: string | null;
}

export function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

export function journalText(content: JournalContent, boot: string): string {
  const records = [
    { kind: 'head', version: 1, boot },
    ...content.throttles,
    ...content.tokens,
    ...content.gates,
    { kind: 'end' },
  ];
  return records.map((each) => `${JSON.stringify(each)}\n`).join('');
}

/** Groups, threads and tokens of an earlier boot are no more: such a journal is empty. */
export function parseJournal(text: string, boot: string): JournalRead {
  const lines = text.split('\n').filter((line) => line !== '');
  const parsed = lines.map((line) => record.safeParse(parseJson(line)));
  const records = parsed.flatMap(({ data }) => (data === undefined ? [] : [data]));
  const head = records.find(({ kind }) => kind === 'head');
  if (head?.kind === 'head' && head.boot !== boot) return { ...EMPTY, damage: null };
  const unreadable = lines.filter((_, index) => parsed[index]?.success !== true);
  const damage = [
    ...(records[0]?.kind === 'head' ? [] : ['it has no beginning']),
    ...unreadable.map((line) => `this line is no record: ${line.slice(0, 200)}`),
    ...(records.at(-1)?.kind === 'end' ? [] : ['its end is missing']),
  ];
  return {
    throttles: records.filter((each) => each.kind === 'throttle'),
    tokens: records.filter((each) => each.kind === 'token'),
    gates: records.filter((each) => each.kind === 'gate'),
    damage: damage.length === 0 ? null : damage.join('; '),
  };
}

/** A journal that is not there is empty. Throws when it cannot be read at all. */
export function readJournal(path: string): JournalRead {
  try {
    return parseJournal(readFileSync(path, 'utf8'), bootId());
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return { ...EMPTY, damage: null };
    throw error;
  }
}

/** On disk when it returns. Throws what the file system says; then the old content counts. */
export function writeJournal(path: string, content: JournalContent): void {
  const temporary = `${path}.new`;
  const file = openSync(temporary, 'w', 0o600);
  try {
    writeFileSync(file, journalText(content, bootId()));
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  const directory = openSync(dirname(path), 'r');
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/**
 * Keeps a damaged journal for whoever looks into it, and writes what could be read of it in its place; returns where it is
 * kept. At no moment is there no journal: what could be read is still to be restored.
 */
export function mendJournal(path: string, readable: JournalContent): string {
  const aside = `${path}.damaged-${Date.now()}`;
  linkSync(path, aside);
  writeJournal(path, readable);
  return aside;
}
