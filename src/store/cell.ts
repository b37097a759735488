/**
 * A cell is one small JSON document with a version, shared by all processes. It changes only by compare-and-set: read,
 * compute in TypeScript, write if nobody else did. So every decision is pure code, and the Redis step is one short script.
 * `CellStore` is the port; `Cell` adds a schema, the retry loop and an in-process queue that keeps one process from
 * racing itself.
 */
import type { z } from 'zod';
import { HostevacError } from '../domain/errors.ts';

export interface VersionedText {
  /** 0: the cell does not exist. */
  readonly version: number;
  readonly text: string | null;
}

export interface CellStore {
  read(key: string): Promise<VersionedText>;
  readMany(keys: readonly string[]): Promise<VersionedText[]>;
  /**
   * Writes `text` if the cell still has `version`, wakes those who `wait` on `topic`, and sets an expiry in real ms where
   * `expireMs` is given (none otherwise). False: somebody else wrote first. `text` null deletes.
   */
  compareAndSet(
    key: string,
    version: number,
    text: string | null,
    options?: { readonly topic?: string; readonly expireMs?: number },
  ): Promise<boolean>;
}

/** Wake-ups between processes. Never the only way to learn something: waiters also look from time to time. */
export interface Wakeups {
  wake(topic: string): Promise<void>;
  /**
   * A listener from now on. `next(realMs, signal)` resolves at the first wake since the last `next` (or since the call),
   * after `realMs`, or when the signal aborts. `close()` frees it.
   */
  listen(topic: string): Promise<WakeupListener>;
}
export interface WakeupListener {
  next(realMs: number, signal?: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** What an update wants: a new value with a result for the caller, or to leave the cell as it is. */
export type CellChange<T, R> =
  | { readonly value: T; readonly result: R }
  | { readonly unchanged: true; readonly result: R };

/** More conflicts in a row than any sane load gives: then something else is wrong. */
const MAX_CONFLICTS = 200;

export class Cell<T> {
  readonly key: string;
  readonly #store: CellStore;
  readonly #schema: z.ZodType<T>;
  readonly #initial: T;
  readonly #options: { readonly topic?: string; readonly expireMs?: (value: T) => number | undefined };
  #queue: Promise<unknown> = Promise.resolve();

  constructor(
    store: CellStore,
    key: string,
    schema: z.ZodType<T>,
    initial: T,
    options: { readonly topic?: string; readonly expireMs?: (value: T) => number | undefined } = {},
  ) {
    this.#store = store;
    this.key = key;
    this.#schema = schema;
    this.#initial = initial;
    this.#options = options;
  }

  async read(): Promise<T> {
    return (await this.readVersioned()).value;
  }

  async readVersioned(): Promise<{ version: number; value: T }> {
    const { version, text } = await this.#store.read(this.key);
    return { version, value: text === null ? this.#initial : this.#schema.parse(JSON.parse(text)) };
  }

  /**
   * Applies a pure change until it lands. `change` may run several times and must not have effects of its own; throwing
   * from it changes nothing.
   */
  update<R>(change: (value: T, version: number) => CellChange<T, R>): Promise<R> {
    const run = this.#queue.then(() => this.#update(change));
    this.#queue = run.catch(() => undefined);
    return run;
  }

  async #update<R>(change: (value: T, version: number) => CellChange<T, R>): Promise<R> {
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts += 1) {
      const { version, value } = await this.readVersioned();
      const outcome = change(value, version);
      if ('unchanged' in outcome) return outcome.result;
      const expireMs = this.#options.expireMs?.(outcome.value);
      const written = await this.#store.compareAndSet(this.key, version, JSON.stringify(outcome.value), {
        ...(this.#options.topic === undefined ? {} : { topic: this.#options.topic }),
        ...(expireMs === undefined ? {} : { expireMs }),
      });
      if (written) return outcome.result;
    }
    throw new HostevacError('internal', `${this.key}: ${MAX_CONFLICTS} conflicting writes in a row`);
  }
}
