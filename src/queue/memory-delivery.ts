/**
 * A model of queue delivery in memory, on any clock: at least once, parked work comes back, a crashed handler's work is
 * delivered again. Tests and the simulation of the whole use it; it shares its behaviour test with the BullMQ adapter.
 */
import type { Clock } from '../clock/clock.ts';
import type { Consumer, Delivery, DeliveryConsumers, MoveHandler, MoveJob, OperationHandler } from './delivery.ts';

interface Item {
  readonly id: string;
  state: 'waiting' | 'active' | 'parked' | 'ended';
  readonly move: MoveJob | null;
  /** Ends a parked item's wait. */
  unpark: AbortController;
}

type Run = (item: Item, signal: AbortSignal) => Promise<{ readonly parkMs: number } | null>;

/** What a lost lock takes in BullMQ, about. */
const REDELIVER_MS = 10_000;

export class MemoryDelivery implements Delivery, DeliveryConsumers {
  readonly #clock: Clock;
  readonly #items = new Map<string, Map<string, Item>>();
  readonly #runners = new Map<string, Set<{ run: Run; stopping: AbortController; busy: Set<Promise<void>> }>>();
  readonly errors: unknown[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  async addOperation(operationId: string): Promise<void> {
    this.#add('operations', operationId, null);
  }

  async wakeOperation(operationId: string): Promise<void> {
    this.#items.get('operations')?.get(operationId)?.unpark.abort();
  }

  async addMove(job: MoveJob): Promise<void> {
    this.#add(`moves ${job.source}`, job.moveId, job);
  }

  async removeMove(job: MoveJob): Promise<boolean> {
    const queue = this.#items.get(`moves ${job.source}`);
    const item = queue?.get(job.moveId);
    if (item === undefined || (item.state !== 'waiting' && item.state !== 'parked')) return false;
    item.state = 'ended';
    item.unpark.abort();
    queue?.delete(job.moveId);
    return true;
  }

  async hasMove(job: MoveJob): Promise<boolean> {
    const state = this.#items.get(`moves ${job.source}`)?.get(job.moveId)?.state;
    return state !== undefined && state !== 'ended';
  }

  async consumeOperations(handler: OperationHandler): Promise<Consumer> {
    return this.#consume('operations', async (item, signal) => {
      const turn = await handler(item.id, signal);
      return turn.ended ? null : { parkMs: turn.againInRealMs };
    });
  }

  async consumeMoves(host: string, handler: MoveHandler): Promise<Consumer> {
    return this.#consume(`moves ${host}`, async (item, signal) => {
      if (item.move === null) return null;
      const turn = await handler(item.move, signal);
      return turn.kind === 'again' ? { parkMs: turn.afterRealMs } : null;
    });
  }

  /** Delivers an active or waiting item once more, beside whoever has it: a lost lock. */
  deliverAgain(queue: string, id: string): void {
    const item = this.#items.get(queue)?.get(id);
    if (item !== undefined && item.state !== 'ended') void this.#deliver(queue, { ...item, state: 'waiting' });
  }

  #add(queue: string, id: string, move: MoveJob | null): void {
    const items = this.#items.get(queue) ?? new Map<string, Item>();
    this.#items.set(queue, items);
    const known = items.get(id);
    if (known !== undefined && known.state !== 'ended') return;
    const item: Item = { id, state: 'waiting', move, unpark: new AbortController() };
    items.set(id, item);
    void this.#deliver(queue, item);
  }

  async #consume(queue: string, run: Run): Promise<Consumer> {
    const runner = { run, stopping: new AbortController(), busy: new Set<Promise<void>>() };
    const runners = this.#runners.get(queue) ?? new Set();
    this.#runners.set(queue, runners.add(runner));
    for (const item of this.#items.get(queue)?.values() ?? [])
      if (item.state === 'waiting') void this.#deliver(queue, item);
    return {
      close: async (graceRealMs) => {
        runners.delete(runner);
        runner.stopping.abort();
        await Promise.race([Promise.all(runner.busy), this.#clock.sleepReal(graceRealMs)]);
      },
    };
  }

  async #deliver(queue: string, item: Item): Promise<void> {
    const [runner] = this.#runners.get(queue) ?? [];
    if (runner === undefined || item.state !== 'waiting') return;
    item.state = 'active';
    const turn = this.#turn(queue, item, runner);
    runner.busy.add(turn);
    await turn;
    runner.busy.delete(turn);
  }

  async #turn(queue: string, item: Item, runner: { run: Run; stopping: AbortController }): Promise<void> {
    let parkMs: number;
    try {
      const park = await runner.run(item, runner.stopping.signal);
      if (park === null) {
        item.state = 'ended';
        return;
      }
      parkMs = park.parkMs;
    } catch (error) {
      this.errors.push(error);
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
