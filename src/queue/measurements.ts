/**
 * Asking the worker that serves a host to look at a guest there, now: a request and its reply share one cell, which expires
 * by itself; a list of the open ones is all that workers watch. Nothing is queued: who asks waits for seconds, and an asker
 * that goes away takes its request with it. How a guest is looked at is src/runtime/measure.ts.
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { reasonSchema } from '../domain/operation.ts';
import { dirtyWindowSchema } from '../domain/prediction.ts';
import { Cell, type CellStore } from '../store/cell.ts';

/** Wakes workers for a new request, and who asked for what became of it. */
export const MEASURING_TOPIC = 'measuring';

/** A request that nobody has touched for so long (real ms) is gone, whatever became of who asked. */
const EXPIRES_MS = 60_000;

const seenSchema = z.object({
  uuid: z.string(),
  state: z.enum(['running', 'paused', 'incoming', 'postMigrate', 'shutOff']),
  guest: z.object({
    memoryBytes: z.number(),
    touchedBytes: z.number(),
    demandCores: z.number(),
    handoverMs: z.number().optional(),
  }),
  /** Where to, when it is being migrated now; then, and unless it runs, nothing was measured. */
  migratingTo: z.string().nullable(),
  windows: z.array(dirtyWindowSchema),
  /** Fleet time of the end, and how long all looks took. */
  atMs: z.number(),
  tookMs: z.number(),
});
export type GuestSeen = z.infer<typeof seenSchema>;

const measurementSchema = z.object({
  id: z.string(),
  host: z.string(),
  vm: z.string(),
  /** Who looks; null: nobody has begun. */
  takenBy: z.string().nullable(),
  /** null: not yet. */
  reply: z.union([z.object({ seen: seenSchema }), z.object({ refused: reasonSchema })]).nullable(),
});
export type Measurement = z.infer<typeof measurementSchema>;

export class Measurements {
  readonly #store: CellStore;
  readonly #open: Cell<string[]>;

  constructor(store: CellStore) {
    this.#store = store;
    this.#open = new Cell(store, 'measuring', z.array(z.string()), [], {
      topic: MEASURING_TOPIC,
      expireMs: () => EXPIRES_MS,
    });
  }

  async ask(host: string, vm: string): Promise<string> {
    const id = randomBytes(9).toString('base64url');
    await this.#cell(id).update(() => ({ value: { id, host, vm, takenBy: null, reply: null }, result: undefined }));
    // Those whose asker died have expired: whoever asks next tidies the list.
    const gone = (await this.#all()).filter(({ measurement }) => measurement === null).map((entry) => entry.id);
    await this.#open.update((ids) => ({ value: [...ids.filter((one) => !gone.includes(one)), id], result: undefined }));
    return id;
  }

  /** null: it was withdrawn, or has expired. */
  read(id: string): Promise<Measurement | null> {
    return this.#cell(id).read();
  }

  /** Those that nobody has begun, oldest first. */
  async waiting(): Promise<Measurement[]> {
    const open = await this.#all();
    return open.flatMap(({ measurement }) => (measurement?.takenBy === null ? [measurement] : []));
  }

  /** False: somebody else was first, or it is gone. */
  take(id: string, by: string): Promise<boolean> {
    return this.#cell(id).update<boolean>((known) =>
      known === null || known.takenBy !== null
        ? { unchanged: true, result: false }
        : { value: { ...known, takenBy: by }, result: true },
    );
  }

  async reply(id: string, reply: NonNullable<Measurement['reply']>): Promise<void> {
    await this.#cell(id).update((known) =>
      known === null ? { unchanged: true, result: undefined } : { value: { ...known, reply }, result: undefined },
    );
  }

  /** Leaves nothing; a worker that looks right now sees that nobody waits for it. */
  async withdraw(id: string): Promise<void> {
    await this.#open.update((ids) => ({ value: ids.filter((one) => one !== id), result: undefined }));
    const { version, text } = await this.#store.read(key(id));
    // A reply that lands in between stays until it expires.
    if (text !== null) await this.#store.compareAndSet(key(id), version, null, { topic: MEASURING_TOPIC });
  }

  async #all(): Promise<{ readonly id: string; readonly measurement: Measurement | null }[]> {
    const ids = await this.#open.read();
    const texts = ids.length === 0 ? [] : await this.#store.readMany(ids.map(key));
    return ids.map((id, index) => {
      const text = texts[index]?.text ?? null;
      return { id, measurement: text === null ? null : measurementSchema.nullable().parse(JSON.parse(text)) };
    });
  }

  #cell(id: string): Cell<Measurement | null> {
    return new Cell(this.#store, key(id), measurementSchema.nullable(), null, {
      topic: MEASURING_TOPIC,
      expireMs: () => EXPIRES_MS,
    });
  }
}

function key(id: string): string {
  return `measuring:${id}`;
}
