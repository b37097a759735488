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

export interface GuardedText extends VersionedText {
  /** Of the store when it answered; see `CellStore.readGuarded`. */
  readonly generation: string;
}

/** What a cell was written as; null: not known, for the reply got lost and somebody may have written since. */
export interface Written {
  readonly version: number | null;
}

export interface CellStore {
  read(key: string): Promise<VersionedText>;
  readMany(keys: readonly string[]): Promise<VersionedText[]>;
  /**
   * With the store's generation, which is another one after a restart or a failover: then what was written last may have
   * been lost.
   */
  readGuarded(key: string): Promise<GuardedText>;
  /**
   * Writes `text` if the cell still has `version` and, where that is given, the store is still of `generation`; wakes those who `wait` on `topic`, and sets an expiry in real ms where
   * `expireMs` is given (none otherwise). null: somebody else wrote first. `text` null deletes.
   */
  compareAndSet(
    key: string,
    version: number,
    text: string | null,
    options?: { readonly topic?: string; readonly expireMs?: number; readonly generation?: string },
  ): Promise<Written | null>;
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

interface Found<T> {
  readonly version: number;
  readonly value: T;
  readonly guard: { readonly generation?: string };
}

export class Cell<T> {
  readonly key: string;
  readonly #store: CellStore;
  readonly #schema: z.ZodType<T>;
  readonly #initial: T;
  readonly #options: { readonly topic?: string; readonly expireMs?: (value: T) => number | undefined };
  #queue: Promise<unknown> = Promise.resolve();
  #last: { readonly text: string; readonly value: T } | null = null;

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
    return { version, value: this.#valueOf(text) };
  }

  /** Most reads find what the last one found: that is not parsed again. Nobody may change a value that was handed out. */
  #valueOf(text: string | null): T {
    if (text === null) return this.#initial;
    if (this.#last?.text !== text) this.#last = { text, value: this.#schema.parse(JSON.parse(text)) };
    return this.#last.value;
  }

  /**
   * Applies a pure change until it lands. `change` may run several times and must not have effects of its own; throwing
   * from it changes nothing.
   */
  update<R>(change: (value: T, version: number) => CellChange<T, R>): Promise<R> {
    return this.#inTurn(change, () => this.#found());
  }

  /**
   * An update that also sees whether the store may have lost what was written, and lands only where it was seen. `first` looks
   * at something else, anew for each try: the update lands only where the store has lost nothing since.
   */
  updateGuarded<R>(
    change: (value: T, generation: string) => CellChange<T, R>,
    first: () => Promise<void> = async () => undefined,
  ): Promise<R> {
    let generation = '';
    return this.#inTurn(
      (value) => change(value, generation),
      async () => {
        const read = await this.#store.readGuarded(this.key);
        generation = read.generation;
        await first();
        return { version: read.version, value: this.#valueOf(read.text), guard: { generation } };
      },
    );
  }

  #inTurn<R>(change: (value: T, version: number) => CellChange<T, R>, read: () => Promise<Found<T>>): Promise<R> {
    const run = this.#queue.then(() => this.#update(change, read));
    this.#queue = run.catch(() => undefined);
    return run.then(({ result }) => result);
  }

  async #found(): Promise<Found<T>> {
    return { ...(await this.readVersioned()), guard: {} };
  }

  async #update<R>(
    change: (value: T, version: number) => CellChange<T, R>,
    read: () => Promise<Found<T>>,
  ): Promise<Written & { readonly result: R }> {
    for (let conflicts = 0; conflicts < MAX_CONFLICTS; conflicts += 1) {
      const { version, value, guard } = await read();
      const outcome = change(value, version);
      if ('unchanged' in outcome) return { version, result: outcome.result };
      const written = await this.#write(version, outcome.value, guard);
      if (written !== null) return { ...written, result: outcome.result };
    }
    throw new HostevacError('internal', `${this.key}: ${MAX_CONFLICTS} conflicting writes in a row`);
  }

  /**
   * Writes `next` without reading where the cell is still what was written as version `known`. Else it is read, and `allow`
   * may throw for what it has become. The version that was written; null: not known.
   */
  async replace(next: T, known: number | null, allow: (current: T) => void): Promise<number | null> {
    const over = known === null ? null : await this.#write(known, next);
    if (over !== null) return over.version;
    const change = (current: T): CellChange<T, undefined> => {
      allow(current);
      return { value: next, result: undefined };
    };
    return (await this.#update(change, () => this.#found())).version;
  }

  #write(version: number, value: T, guard: Found<T>['guard'] = {}): Promise<Written | null> {
    const expireMs = this.#options.expireMs?.(value);
    return this.#store.compareAndSet(this.key, version, JSON.stringify(value), {
      ...(this.#options.topic === undefined ? {} : { topic: this.#options.topic }),
      ...(expireMs === undefined ? {} : { expireMs }),
      ...guard,
    });
  }
}
