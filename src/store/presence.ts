/**
 * Who is alive and what their hosts hold: each worker process keeps a heartbeat that expires by itself, and publishes
 * the inventory of every host it serves. Nothing here infers that a VM or a host died from silence.
 */
import { z } from 'zod';
import { Cell, type CellStore } from './cell.ts';

/** A process that has not renewed for this long (real ms) serves nothing. */
export const HEARTBEAT_EXPIRES_MS = 6_000;

const workerSchema = z.object({
  id: z.string(),
  pid: z.int(),
  hosts: z.array(z.string()),
  operations: z.boolean(),
  fleetHash: z.string(),
  /** What other processes compare themselves with; workers of an earlier version do not tell it. */
  about: z
    .object({
      version: z.string(),
      hostname: z.string(),
      /** Its machine's clock when it wrote this. */
      beatAtMs: z.number(),
    })
    .optional(),
});
export type WorkerPresence = z.infer<typeof workerSchema>;

export const publishedInventorySchema = z.object({
  host: z.string(),
  /** Fleet time at which it was true. */
  takenAtMs: z.number(),
  /** Why the host could not be asked; then `vms` is what was last known. */
  unreachable: z.string().nullable(),
  vms: z.array(
    z.object({
      name: z.string(),
      uuid: z.string(),
      state: z.enum(['running', 'paused', 'incoming', 'postMigrate', 'shutOff']),
      memoryBytes: z.number(),
      touchedBytes: z.number(),
      cpus: z.number(),
      demandCores: z.number(),
      notMigratable: z.string().nullable(),
      labels: z.record(z.string(), z.string()).optional(),
    }),
  ),
});
export type PublishedInventory = z.infer<typeof publishedInventorySchema>;

const LIVE: ReadonlySet<string> = new Set(['running', 'paused']);

const storedWorker = workerSchema.nullable();
const storedInventory = publishedInventorySchema.nullable();

/** Wakes those who publish: somebody needs to see what has just changed. */
export const INVENTORY_TOPIC = 'inventory';

/** In no name: there its quotes are escaped. */
const TAKEN_AT = /"takenAtMs":(-?[\d.e+]+)/;

/** Inventories that are read at once. */
const READ_AT_ONCE = 50;

export class Presence {
  readonly #store: CellStore;
  readonly #directory: Cell<string[]>;
  readonly #parsed = new Map<string, { readonly content: string; readonly inventory: PublishedInventory | null }>();

  constructor(store: CellStore) {
    this.#store = store;
    this.#directory = new Cell(store, 'workers', z.array(z.string()), []);
  }

  /** Renews the heartbeat; the first one also enters the process in the directory. */
  async beat(worker: WorkerPresence): Promise<void> {
    await this.#cell(worker.id).update(() => ({ value: worker, result: undefined }));
    await this.#directory.update((ids) =>
      ids.includes(worker.id)
        ? { unchanged: true, result: undefined }
        : { value: [...ids, worker.id], result: undefined },
    );
  }

  async leave(id: string): Promise<void> {
    await this.#cell(id).update((worker) =>
      worker === null ? { unchanged: true, result: undefined } : { value: null, result: undefined },
    );
    await this.#forget([id]);
  }

  async alive(): Promise<WorkerPresence[]> {
    const ids = await this.#directory.read();
    if (ids.length === 0) return [];
    const texts = await this.#store.readMany(ids.map((id) => `worker:${id}`));
    const workers = texts.map(({ text }) => (text === null ? null : storedWorker.parse(JSON.parse(text))));
    const gone = ids.filter((_, index) => workers[index] === null);
    if (gone.length > 0) await this.#forget(gone);
    return workers.filter((worker) => worker !== null && worker !== undefined);
  }

  async publish(inventory: PublishedInventory): Promise<void> {
    const cell = new Cell(this.#store, `inventory:${inventory.host}`, storedInventory, null);
    await cell.update((known) =>
      // Two workers may serve one host; the later truth stays.
      known !== null && known.takenAtMs > inventory.takenAtMs
        ? { unchanged: true, result: undefined }
        : { value: inventory, result: undefined },
    );
  }

  /** In the order of `hosts`; null where nothing was ever published. Nobody may change what is handed out. */
  async inventories(hosts: readonly string[]): Promise<(PublishedInventory | null)[]> {
    const found: (PublishedInventory | null)[] = [];
    // A fleet of a thousand hosts is megabytes: read in one go it would hold up everything else in the process.
    for (let at = 0; at < hosts.length; at += READ_AT_ONCE) {
      const names = hosts.slice(at, at + READ_AT_ONCE);
      const texts = await this.#store.readMany(names.map((host) => `inventory:${host}`));
      for (const [index, { text }] of texts.entries()) found.push(this.#inventoryOf(names[index] ?? '', text));
    }
    return found;
  }

  /** What was read before is not parsed again; mostly nothing has changed but when it was looked at. */
  #inventoryOf(host: string, text: string | null): PublishedInventory | null {
    if (text === null) return null;
    const [taken, atMs] = TAKEN_AT.exec(text) ?? [];
    const content = taken === undefined ? text : text.replace(taken, '');
    const known = this.#parsed.get(host);
    if (known?.content === content && known.inventory !== null && atMs !== undefined) {
      return { ...known.inventory, takenAtMs: Number(atMs) };
    }
    const inventory = storedInventory.parse(JSON.parse(text));
    this.#parsed.set(host, { content, inventory });
    return inventory;
  }

  /** Of these, the hosts that were last seen to run a VM (or to hold it paused). To be looked at before anything is believed. */
  async runningAt(hosts: readonly string[], vm: string, uuid: string): Promise<string[]> {
    const live = (await this.inventories(hosts)).filter((inventory) =>
      inventory?.vms.some((one) => one.name === vm && one.uuid === uuid && LIVE.has(one.state)),
    );
    return live.flatMap((inventory) => inventory?.host ?? []);
  }

  #cell(id: string): Cell<WorkerPresence | null> {
    return new Cell(this.#store, `worker:${id}`, storedWorker, null, {
      expireMs: () => HEARTBEAT_EXPIRES_MS,
    });
  }

  async #forget(gone: readonly string[]): Promise<void> {
    await this.#directory.update((ids) => {
      const value = ids.filter((id) => !gone.includes(id));
      return value.length === ids.length ? { unchanged: true, result: undefined } : { value, result: undefined };
    });
  }
}
