/**
 * A model of queue delivery in memory, on any clock: at least once, parked work comes back, a crashed handler's work is
 * delivered again, and so is that of a process that does not renew its lock. Tests and the simulation of the whole use it;
 * it shares its behaviour test with the BullMQ adapter.
 */

import { setMaxListeners } from 'node:events';
import { type Clock, OVER } from '../clock/clock.ts';
import type { Consumer, Delivery, DeliveryConsumers, MoveHandler, MoveJob, OperationHandler } from './delivery.ts';

interface Item {
  readonly id: string;
  state: 'waiting' | 'active' | 'parked' | 'ended';
  readonly move: MoveJob | null;
  /** Monotonic; 0: it has not. */
  endedAtMs: number;
  /** How often it has been delivered: what a handler says counts while that is the last time. */
  deliveries: number;
  /** Who has it, or had it last. */
  runner: Runner | null;
  /** Ends a parked item's wait. */
  unpark: AbortController;
}

interface Runner {
  readonly run: Run;
  readonly stopping: AbortController;
  readonly busy: Set<Promise<void>>;
  /** null: always. */
  readonly renews: (() => boolean) | null;
}

type Run = (item: Item, signal: AbortSignal) => Promise<{ readonly parkMs: number } | null>;

/** What a lost lock takes in BullMQ, about. */
const REDELIVER_MS = 10_000;
/** A lock that is not renewed for so long is lost, and that is seen by the next look. */
const LOCK_MS = 10_000;
const STALLED_LOOK_MS = 5_000;

export class MemoryDelivery implements Delivery, DeliveryConsumers {
  readonly #clock: Clock;
  readonly #items = new Map<string, Map<string, Item>>();
  readonly #runners = new Map<string, Set<Runner>>();
  readonly errors: unknown[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async addOperation(operationId: string): Promise<void> {
    this.#add('operations', operationId, null);
  }

  async hasOperation(operationId: string): Promise<boolean> {
    const state = this.#items.get('operations')?.get(operationId)?.state;
    return state !== undefined && state !== 'ended';
  }

  async wakeOperation(operationId: string): Promise<void> {
    this.#items.get('operations')?.get(operationId)?.unpark.abort(OVER);
  }

  async addMove(job: MoveJob): Promise<void> {
    this.#add(`moves ${job.source}`, job.moveId, job);
  }

  async removeMove(job: MoveJob): Promise<boolean> {
    const queue = this.#items.get(`moves ${job.source}`);
    const item = queue?.get(job.moveId);
    if (item === undefined || (item.state !== 'waiting' && item.state !== 'parked')) return false;
    item.state = 'ended';
    item.unpark.abort(OVER);
    queue?.delete(job.moveId);
    return true;
  }

  async hasMove(job: MoveJob): Promise<boolean> {
    const state = this.#items.get(`moves ${job.source}`)?.get(job.moveId)?.state;
    return state !== undefined && state !== 'ended';
  }

  async consumeOperations(handler: OperationHandler): Promise<Consumer> {
    return this.consumersOf(null).consumeOperations(handler);
  }

  async consumeMoves(host: string, handler: MoveHandler): Promise<Consumer> {
    return this.consumersOf(null).consumeMoves(host, handler);
  }

  /** Consumers of a process that renews the locks of what it works on, and takes new work, as long as that is true. */
  consumersOf(renews: (() => boolean) | null): DeliveryConsumers {
    return {
      consumeOperations: async (handler) =>
        this.#consume('operations', renews, async (item, signal) => {
          const turn = await handler(item.id, signal);
          return turn.ended ? null : { parkMs: turn.againInRealMs };
        }),
      consumeMoves: async (host, handler) =>
        this.#consume(`moves ${host}`, renews, async (item, signal) => {
          if (item.move === null) return null;
          const turn = await handler(item.move, signal);
          return turn.kind === 'again' ? { parkMs: turn.afterRealMs } : null;
        }),
    };
  }

  /** Delivers an active or waiting item once more, beside whoever has it, to another consumer if there is one: a lost lock. */
  deliverAgain(queue: string, id: string): void {
    const item = this.#items.get(queue)?.get(id);
    if (item !== undefined && item.state !== 'ended') {
      void this.#deliver(queue, { ...item, state: 'waiting' }, item.runner);
    }
  }

  /** As a failover to a replica that lags would: what has ended in the last `ms` is delivered again. */
  forget(ms: number): void {
    const sinceMs = this.#clock.monotonic() - ms;
    for (const items of this.#items.values()) {
      for (const item of items.values()) {
        if (item.state === 'ended' && item.endedAtMs > 0 && item.endedAtMs >= sinceMs) item.state = 'waiting';
      }
    }
    this.deliverWaiting();
  }

  /** A process can take work again: what waits is delivered. */
  deliverWaiting(): void {
    for (const [queue, items] of this.#items) {
      for (const item of items.values()) if (item.state === 'waiting') void this.#deliver(queue, item);
    }
  }

  /** What has not ended, `queue id`. */
  get pending(): readonly string[] {
    return [...this.#items].flatMap(([queue, items]) =>
      [...items.values()].filter(({ state }) => state !== 'ended').map(({ id }) => `${queue} ${id}`),
    );
  }

  #add(queue: string, id: string, move: MoveJob | null): void {
    const items = this.#items.get(queue) ?? new Map<string, Item>();
    this.#items.set(queue, items);
    const known = items.get(id);
    if (known !== undefined && known.state !== 'ended') return;
    const item: Item = {
      id,
      state: 'waiting',
      move,
      endedAtMs: 0,
      deliveries: 0,
      runner: null,
      unpark: new AbortController(),
    };
    items.set(id, item);
    void this.#deliver(queue, item);
  }

  async #consume(queue: string, renews: Runner['renews'], run: Run): Promise<Consumer> {
    const runner: Runner = { run, stopping: new AbortController(), busy: new Set(), renews };
    // All its work listens to it.
    setMaxListeners(0, runner.stopping.signal);
    const runners = this.#runners.get(queue) ?? new Set();
    this.#runners.set(queue, runners.add(runner));
    for (const item of this.#items.get(queue)?.values() ?? [])
      if (item.state === 'waiting') void this.#deliver(queue, item);
    return {
      close: async (graceRealMs) => {
        runners.delete(runner);
        runner.stopping.abort(OVER);
        await Promise.race([Promise.all(runner.busy), this.#clock.sleepReal(graceRealMs)]);
      },
    };
  }

  /** To whoever has waited longest for work. */
  async #deliver(queue: string, item: Item, rather: Runner | null = null): Promise<void> {
    const runners = this.#runners.get(queue) ?? new Set();
    const able = [...runners].filter(({ renews }) => renews?.() !== false);
    const runner = able.find((one) => one !== rather) ?? able[0];
    if (runner === undefined || item.state !== 'waiting') return;
    runners.delete(runner);
    runners.add(runner);
    item.state = 'active';
    item.runner = runner;
    item.deliveries += 1;
    if (runner.renews !== null) void this.#watch(queue, item, runner.renews);
    const turn = this.#turn(queue, item, runner);
    runner.busy.add(turn);
    await turn;
    runner.busy.delete(turn);
  }

  /** As long as it is active: when its lock has not been renewed for too long it waits for another consumer. */
  async #watch(queue: string, item: Item, renews: () => boolean): Promise<void> {
    const { deliveries } = item;
    let renewedAtMs = this.#clock.monotonic();
    const isSame = (): boolean => item.state === 'active' && item.deliveries === deliveries;
    while (isSame()) {
      if (renews()) renewedAtMs = this.#clock.monotonic();
      else if (this.#clock.monotonic() - renewedAtMs >= LOCK_MS) {
        item.state = 'waiting';
        await this.#deliver(queue, item);
        return;
      }
      await this.#clock.sleepReal(STALLED_LOOK_MS);
    }
  }

  async #turn(queue: string, item: Item, runner: Runner): Promise<void> {
    const { deliveries } = item;
    let parkMs: number;
    try {
      const park = await runner.run(item, runner.stopping.signal);
      // Somebody else's by now.
      if (item.deliveries !== deliveries) return;
      if (park === null) {
        item.state = 'ended';
        item.endedAtMs = this.#clock.monotonic();
        return;
      }
      parkMs = park.parkMs;
    } catch (error) {
      this.errors.push(error);
      if (item.deliveries !== deliveries) return;
      parkMs = REDELIVER_MS;
    }
    // Without waiting for it here: a parked item holds no slot.
    void this.#park(queue, item, parkMs);
  }

  async #park(queue: string, item: Item, parkMs: number): Promise<void> {
    item.state = 'parked';
    item.unpark = new AbortController();
    await this.#clock.sleepReal(parkMs, item.unpark.signal);
    if (item.state !== 'parked') return;
    item.state = 'waiting';
    await this.#deliver(queue, item);
  }
}
