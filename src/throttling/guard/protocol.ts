/**
 * What is said over the guard's socket: one JSON object a line, checked on both sides. A client asks, the guard answers
 * with the same `id`; beats are not answered. The first line of each side tells the version.
 */
import { z } from 'zod';
import { ERROR_CATALOGUE, type ErrorCode } from '../../domain/errors.ts';
import { entityName } from '../../domain/names.ts';

/** Both ends of a connection may be of different releases of hostevac: they must know the same words. */
export const PROTOCOL_VERSION = 2;

/** A VM with 1,000 vCPUs takes a third of it. */
export const MAX_LINE_BYTES = 128 * 1024;

/** A throttle lasts no longer than this without a renewal: the promise is 2 s, the rest is for carrying it out. */
export const LONGEST_VALID_MS = 1_800;
export const BEAT_MS = 100;
/**
 * A client that has not beaten for so long may have stopped; its connection may well be there. A guest may be standing
 * still all the while, and one that was only slow loses no more than its last word.
 */
export const STALE_MS = 400;

const pid = z.number().int().positive();
const token = z.number().int().nonnegative();
const vmKey = z.object({ host: entityName, vm: entityName });
const processId = z.object({ pid, startTicks: z.number().int().nonnegative() });

const setSchema = vmKey.extend({
  type: z.literal('set'),
  token,
  validForMs: z.number().positive(),
  process: processId,
  /** The vCPU threads and the cores each may use. */
  threads: z
    .array(z.object({ tid: pid, cores: z.number().nonnegative() }))
    .min(1)
    .max(4_096),
  /** What this is of the guest's demand; for those who ask later. */
  share: z.number().min(0).max(1),
  demandCores: z.number().nonnegative(),
  /** No busy thread may wait longer than this for its next turn: bounds the period. */
  longestStretchMs: z.number().positive(),
});
export type SetRequest = z.infer<typeof setSchema>;

const requests = [
  /** `process`: the client's own, so that a token that it has shown counts only as long as it lives. */
  z.object({ type: z.literal('hello'), version: z.number(), process: processId.optional() }),
  z.object({ type: z.literal('beat') }),
  setSchema,
  /** `process`: the VM's, when it is known; then a later write with a smaller token is refused. */
  vmKey.extend({ type: z.literal('release'), token, process: processId.optional() }),
  vmKey.extend({ type: z.literal('look') }),
  /** Can threads like these be throttled? Without any: threads like the guard's own. */
  z.object({ type: z.literal('probe'), tids: z.array(pid).max(4_096) }),
  /** Lifts all throttles of a host (null: of every host) whatever their tokens. */
  z.object({ type: z.literal('releaseAll'), host: entityName.nullable() }),
  z.object({ type: z.literal('status') }),
  vmKey.extend({ type: z.literal('gate'), monitor: z.string().startsWith('/').max(4_096) }),
  /** Whoever opened it beats but waits no longer for the last word: to be given by the guard until it is opened again. */
  vmKey.extend({ type: z.literal('abandon') }),
  vmKey.extend({ type: z.literal('ungate') }),
] as const;

const requestBody = z.discriminatedUnion('type', requests);
export type RequestBody = z.infer<typeof requestBody>;

export const requestSchema = z.object({ id: z.number().int().nonnegative(), body: requestBody });

export const doneSchema = z.object({});

export const welcomeSchema = z.object({ version: z.number(), pid });

export const lookSchema = z.object({
  /** null: not throttled. */
  throttle: z.object({ share: z.number(), demandCores: z.number(), cores: z.number() }).nullable(),
  /** Since when it is throttled or not, on the machine's monotonic clock; null: since before this guard. */
  sinceMs: z.number().nullable(),
});
export type Look = z.infer<typeof lookSchema>;

export const releasedSchema = z.object({
  released: z.array(vmKey),
  /** Could not be lifted yet; the guard goes on trying. */
  failed: z.array(vmKey.extend({ message: z.string() })),
});
export type Released = z.infer<typeof releasedSchema>;

export const statusSchema = z.object({
  throttles: z.array(
    vmKey.extend({
      state: z.enum(['inForce', 'restoring']),
      share: z.number(),
      cores: z.number(),
      /** Until it lifts itself; 0 when it is being lifted. */
      forMs: z.number(),
      groups: z.array(z.string()),
    }),
  ),
  gates: z.array(vmKey.extend({ monitor: z.string(), watching: z.boolean() })),
});
export type GuardStatus = z.infer<typeof statusSchema>;

const codes = Object.keys(ERROR_CATALOGUE);
const errorSchema = z.object({
  code: z.custom<ErrorCode>((value) => typeof value === 'string' && codes.includes(value)),
  message: z.string(),
});

/** `error`, or else `ok` with what the request's own schema says. */
export const answerSchema = z.object({ id: z.number(), ok: z.unknown().optional(), error: errorSchema.optional() });

/** Cuts a stream into lines; `onTooLong` when one is longer than the protocol has any. */
export class Lines {
  #rest = '';
  readonly #onLine: (line: string) => void;
  readonly #onTooLong: () => void;

  constructor(onLine: (line: string) => void, onTooLong: () => void) {
    this.#onLine = onLine;
    this.#onTooLong = onTooLong;
  }

  push(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#onLine(line);
    if (this.#rest.length > MAX_LINE_BYTES) {
      this.#rest = '';
      this.#onTooLong();
    }
  }
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // No schema takes it: whoever parses says what was sent.
    return undefined;
  }
}
