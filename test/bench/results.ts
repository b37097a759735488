/**
 * What was measured, one JSON line for each run, appended as soon as it is known: a benchmark that was interrupted goes on
 * where it stopped.
 */
import { appendFileSync, mkdirSync, readFileSync, truncateSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { migrationFiguresSchema } from '../../src/domain/operation.ts';
import { predictionSchema } from '../../src/domain/prediction.ts';
import { errorCode } from '../../src/hypervisors/qemu/durable-file.ts';

/** [ms since `migrate`, bytes that remain, bytes transferred, share of its demand that the guest gets] */
const pointSchema = z.tuple([z.number(), z.number(), z.number(), z.number()]);

export const resultSchema = z.object({
  profile: z.string(),
  contender: z.string(),
  /** From 1. */
  run: z.int(),
  at: z.string(),
  terms: z.object({ bandwidthBytesPerSec: z.number(), maxStallMs: z.number(), limitMs: z.number() }),
  machine: z.object({ qemu: z.string(), cpus: z.number(), loopsPerCpuSec: z.number() }),
  done: z.boolean(),
  /** From `migrate` to completed: by QEMU, and by the clock. */
  totalMs: z.number().nullable(),
  wallMs: z.number(),
  /** CPU time that the guest would have used and did not get, until it had its CPU back. */
  harmCpuMs: z.number(),
  /** Of each phase; what harm is reckoned from. */
  demandCores: z.array(z.number().nullable()),
  /** What it wrote before, every write counted, bytes/s; null: it changes. */
  writtenBytesPerSec: z.number().nullable(),
  /** The longest time without any CPU: from `migrate` on, and of the same guest before. */
  longestStretchMs: z.number(),
  longestStretchBeforeMs: z.number(),
  /** When it began, since `migrate`. */
  longestStretchAtMs: z.number().nullable().default(null),
  downtimeMs: z.number().nullable(),
  observedDowntimeMs: z.number().nullable(),
  transferredBytes: z.number(),
  passes: z.number(),
  /** Between two samples of CPU time: median, and what 99 of 100 do not exceed. */
  resolutionMs: z.object({ median: z.number(), most: z.number() }),
  /** Cores that others on this machine used meanwhile. */
  othersCores: z.number(),
  /** So much that the figures are theirs as well: it is done again. */
  disturbed: z.boolean(),
  /** What is wrong with the guest's memory; empty: nothing. */
  memoryFaults: z.array(z.string()),
  note: z.string().nullable(),
  /** Its own: what it predicted before the start, what it says that it came to. Measured is the rest. */
  claims: z.object({ predicted: predictionSchema.nullable(), figures: migrationFiguresSchema }).nullable(),
  trace: z.array(pointSchema).nullable(),
});
export type Result = z.infer<typeof resultSchema>;

export interface Order {
  readonly profile: string;
  readonly contender: string;
  readonly run: number;
}

/** A run that others disturb is done again so often; then the last one stays marked. */
const ATTEMPTS = 3;

/** Empty where there is no such file. Throws for a line that is no result; a torn last line (a crash) is passed over. */
export function readResults(path: string): Result[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
  // Every whole line ends; what follows the last end was cut short.
  const lines = text.split('\n').slice(0, -1);
  return lines.filter((line) => line !== '').map((line, index) => parseLine(line, `${path}:${index + 1}`));
}

function parseLine(line: string, where: string): Result {
  try {
    return resultSchema.parse(JSON.parse(line));
  } catch (error) {
    throw new Error(`${where} is no result of this benchmark: move the file away, or name another with --results`, {
      cause: error,
    });
  }
}

export function appendResult(path: string, result: Result): void {
  mkdirSync(dirname(path), { recursive: true });
  cutTornLine(path);
  // What cannot be read again is not written.
  appendFileSync(path, `${JSON.stringify(resultSchema.parse(result))}\n`);
}

/** What a crash has left of a line would make one broken line with the next. */
function cutTornLine(path: string): void {
  try {
    const bytes = readFileSync(path);
    const whole = bytes.lastIndexOf('\n') + 1;
    if (whole < bytes.length) truncateSync(path, whole);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  }
}

/** The runs that are still to be done: contenders one after the other on each profile, and all that again for each run. */
export function stillToDo(
  wanted: {
    readonly profiles: readonly string[];
    readonly contenders: readonly string[];
    readonly runs: number;
    readonly howeverBusy: boolean;
  },
  results: readonly Result[],
): Order[] {
  const all = Array.from({ length: wanted.runs }, (_, index) =>
    wanted.profiles.flatMap((profile) =>
      wanted.contenders.map((contender) => ({ profile, contender, run: index + 1 })),
    ),
  ).flat();
  return stillToDoOf(all, wanted.howeverBusy, results);
}

/** Of these, in their order, what has not been done yet. */
export function stillToDoOf(all: readonly Order[], howeverBusy: boolean, results: readonly Result[]): Order[] {
  return all.filter((order) => {
    const done = results.filter(
      ({ profile, contender, run }) => profile === order.profile && contender === order.contender && run === order.run,
    );
    return !done.some(({ disturbed }) => !disturbed) && done.length < (howeverBusy ? 1 : ATTEMPTS);
  });
}

/** The one result of each run that counts: the first that nobody disturbed, else the last. */
export function counted(results: readonly Result[]): Result[] {
  const byRun = new Map<string, Result>();
  for (const result of results) {
    const key = JSON.stringify([result.profile, result.contender, result.run]);
    const known = byRun.get(key);
    if (known === undefined || known.disturbed) byRun.set(key, result);
  }
  return [...byRun.values()];
}
