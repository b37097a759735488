/**
 * Consumes the queues of many hosts, each only while it holds jobs: connections grow with running operations, not with
 * the fleet.
 */

import type { Clock } from '../clock/clock.ts';
import type { Wakeups } from '../store/cell.ts';
import type { Consumer, DeliveryConsumers, MoveHandler } from './delivery.ts';

/** Woken when a move was put into a queue. */
export const MOVES_TOPIC = 'moves';

/** The net under the wake-ups (real ms). */
const LOOK_AGAIN_MS = 2_000;
/** A queue that has been empty for this long is closed. */
const IDLE_MS = 15_000;
/** A job that arrived while its queue was being closed is handed back within this. */
const CLOSE_GRACE_MS = 2_000;

export interface HostQueuesOptions {
  readonly hosts: readonly string[];
  readonly consumers: Pick<DeliveryConsumers, 'consumeMoves'>;
  readonly hostsWithWork: (hosts: readonly string[]) => Promise<ReadonlySet<string>>;
  readonly handler: MoveHandler;
  readonly wakeups: Wakeups;
  readonly clock: Clock;
  readonly onError: (error: unknown) => void;
}

export class HostQueues {
  readonly #options: HostQueuesOptions;
  readonly #open = new Map<string, { readonly consumer: Consumer; lastWorkAt: number }>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(options: HostQueuesOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  get openHosts(): readonly string[] {
    return [...this.#open.keys()];
  }

  async close(graceRealMs: number): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await Promise.all([...this.#open.values()].map(({ consumer }) => consumer.close(graceRealMs)));
    this.#open.clear();
  }

  async #run(): Promise<void> {
    const { wakeups, onError } = this.#options;
    const { signal } = this.#stop;
    const listener = await wakeups.listen(MOVES_TOPIC);
    while (!signal.aborted) {
      try {
        await this.#look();
      } catch (error) {
        onError(error);
      }
      await listener.next(LOOK_AGAIN_MS, signal);
    }
    await listener.close();
  }

  async #look(): Promise<void> {
    const { hosts, consumers, hostsWithWork, handler, clock } = this.#options;
    const busy = await hostsWithWork(hosts);
    const now = clock.monotonic();
    for (const host of busy) {
      const open = this.#open.get(host);
      if (open !== undefined) open.lastWorkAt = now;
      else this.#open.set(host, { consumer: await consumers.consumeMoves(host, handler), lastWorkAt: now });
    }
    for (const [host, open] of this.#open) {
      if (now - open.lastWorkAt < IDLE_MS) continue;
      this.#open.delete(host);
      await open.consumer.close(CLOSE_GRACE_MS);
    }
  }
}
