/**
 * Brings the fleet's events to the receivers of its webhooks: one process at a time (a lease), each receiver by itself with a
 * cursor of its own over the fleet's stream. At least once, in order within an operation. A receiver that is away is waited for
 * as long as the stream keeps what it has missed, at most a day; nobody else waits for it.
 */

import type { Logger } from 'pino';
import { z } from 'zod';
import type { Clock } from '../clock/clock.ts';
import { wants } from '../domain/webhook.ts';
import type { Observer } from '../runtime/observer.ts';
import { Cell, type CellStore } from '../store/cell.ts';
import type { EventLog, StoredEvent } from '../store/event-log.ts';
import { isLease, type Lease, type Leases } from '../store/lease.ts';
import type { Endpoint } from './endpoints.ts';
import { messageOf } from './message.ts';
import { post } from './post.ts';

export interface CourierDeps {
  readonly fleetName: string;
  readonly endpoints: readonly Endpoint[];
  readonly events: Pick<EventLog, 'readFleet' | 'lastOfFleet'>;
  readonly cells: CellStore;
  readonly leases: Leases;
  readonly clock: Clock;
  readonly observer: Required<Pick<Observer, 'delivery'>>;
  readonly log: Pick<Logger, 'warn' | 'info'>;
  readonly times?: Partial<CourierTimes>;
}

/** Real ms. */
export interface CourierTimes {
  /** Doubled with each try. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  readonly requestMs: number;
  /** An event that is older is given up: nobody wants yesterday's notice. */
  readonly keptMs: number;
}
const TIMES: CourierTimes = { firstRetryMs: 1_000, longestRetryMs: 300_000, requestMs: 10_000, keptMs: 86_400_000 };

const LEASE = 'webhooks';
const KEEP_EVERY_MS = 500;
const LOOK_AGAIN_MS = 2_000;
/** A courier that Redis has left alone tries again after this. */
const AFTER_FAULT_MS = 2_000;
const READ_WAIT_MS = 5_000;
/** Events between two writes of the cursor: what a successor may send again. */
const BATCH = 50;
/** Operations whose events are sent beside each other. */
const BESIDE = 8;
/** A receiver that refuses an event (4xx) is asked this often. */
const REFUSALS = 5;
/** A receiver that fails with one event while it takes others is asked this often. */
const FAILURES = 12;

/** The last event that is done with; null: not begun. A cursor that nobody moves for this long is forgotten. */
const cursorSchema = z.object({ after: z.string() }).nullable();
const CURSOR_EXPIRES_MS = 30 * 86_400_000;

/** Goes on until `signal` aborts; never rejects. */
export async function runCourier(deps: CourierDeps, signal: AbortSignal): Promise<void> {
  if (deps.endpoints.length === 0) return;
  while (!signal.aborted) {
    try {
      const lease = await deps.leases.acquire(LEASE);
      if (isLease(lease)) await withLease(deps, lease, signal);
      else await deps.clock.sleepReal(Math.min(Math.max(lease.forMs, 100), LOOK_AGAIN_MS), signal);
    } catch (error) {
      deps.log.warn({ err: error }, 'webhooks are not delivered now; it is tried again');
      await deps.clock.sleepReal(AFTER_FAULT_MS, signal);
    }
  }
}

async function withLease(deps: CourierDeps, lease: Lease, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const going = AbortSignal.any([signal, over.signal]);
  const keeping = (async (): Promise<void> => {
    while (!going.aborted && (await lease.keep())) await deps.clock.sleepReal(KEEP_EVERY_MS, going);
    over.abort();
  })();
  try {
    const rounds = deps.endpoints.map((endpoint) => new Round(deps, endpoint, lease, going).run());
    await Promise.all(rounds.map((round) => round.finally(() => over.abort())));
  } finally {
    over.abort();
    await keeping;
    await lease.release();
  }
}

/** One receiver, as long as this process has the lease. */
class Round {
  readonly #deps: CourierDeps;
  readonly #endpoint: Endpoint;
  readonly #lease: Lease;
  readonly #signal: AbortSignal;
  readonly #times: CourierTimes;
  readonly #cursor: Cell<z.infer<typeof cursorSchema>>;
  /** Real monotonic time at which it took an event last. */
  #tookAt = Number.NEGATIVE_INFINITY;
  #isAway = false;

  constructor(deps: CourierDeps, endpoint: Endpoint, lease: Lease, signal: AbortSignal) {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#lease = lease;
    this.#signal = signal;
    this.#times = { ...TIMES, ...deps.times };
    this.#cursor = new Cell(deps.cells, `webhook:${endpoint.webhook.name}`, cursorSchema, null, {
      expireMs: () => CURSOR_EXPIRES_MS,
    });
  }

  async run(): Promise<void> {
    const { events } = this.#deps;
    // A receiver that is new is told of what happens from now on.
    let after = (await this.#cursor.read())?.after ?? (await this.#begin(await events.lastOfFleet()));
    while (!this.#signal.aborted) {
      const found = await events.readFleet(after, READ_WAIT_MS, this.#signal);
      for (let at = 0; at < found.length && !this.#signal.aborted; at += BATCH) {
        const batch = found.slice(at, at + BATCH);
        await this.#deliver(batch.filter(({ kind }) => wants(this.#endpoint.webhook, kind)));
        if (this.#signal.aborted) return;
        after = batch.at(-1)?.streamId ?? after;
        await this.#save(after);
      }
    }
  }

  async #begin(after: string): Promise<string> {
    await this.#save(after);
    return after;
  }

  async #save(after: string): Promise<void> {
    await this.#cursor.update(() => {
      // A predecessor that comes back late moves nothing.
      this.#lease.assertHeld();
      return { value: { after }, result: undefined };
    });
  }

  /** Those of one operation one after the other, operations beside each other. */
  async #deliver(batch: readonly StoredEvent[]): Promise<void> {
    const byOperation = new Map<string, StoredEvent[]>();
    for (const event of batch) {
      byOperation.set(event.operationId, [...(byOperation.get(event.operationId) ?? []), event]);
    }
    const queues = [...byOperation.values()];
    const take = async (): Promise<void> => {
      for (let queue = queues.shift(); queue !== undefined; queue = queues.shift()) {
        for (const event of queue) await this.#bring(event);
      }
    };
    await Promise.all(Array.from({ length: Math.min(BESIDE, queues.length) }, take));
  }

  /** Until it is taken, given up, or this process has to stop. */
  async #bring(event: StoredEvent): Promise<void> {
    const { clock, fleetName, log, observer } = this.#deps;
    const { name: endpoint } = this.#endpoint.webhook;
    const message = messageOf(fleetName, event);
    const begunAt = clock.monotonic();
    let refusals = 0;
    for (let tries = 1; !this.#signal.aborted; tries += 1) {
      const signal = this.#signal;
      const answer = await post(this.#endpoint, message, { signal, timeoutMs: this.#times.requestMs });
      if (signal.aborted) return;
      if (answer.kind === 'taken') {
        this.#tookAt = clock.monotonic();
        if (this.#isAway) log.info({ webhook: endpoint }, `webhook ${endpoint}: its receiver takes events again`);
        this.#isAway = false;
        observer.delivery({ endpoint, outcome: 'delivered' });
        return;
      }
      if (answer.kind === 'refused') refusals += 1;
      // One that takes nothing at all is waited for: it is not this event's fault.
      const isItsFault = tries >= FAILURES && this.#tookAt > begunAt;
      if (refusals >= REFUSALS || isItsFault || ageMs(event) > this.#times.keptMs) {
        observer.delivery({ endpoint, outcome: 'dropped' });
        log.warn(
          { webhook: endpoint, event: message.id, kind: event.kind, operation: event.operationId, vm: event.vm, tries },
          `webhook ${endpoint}: an event was given up (${answer.why})`,
        );
        return;
      }
      observer.delivery({ endpoint, outcome: 'retried' });
      if (!this.#isAway)
        log.warn(
          { webhook: endpoint, event: message.id },
          `webhook ${endpoint}: not taken (${answer.why}); it is tried again`,
        );
      this.#isAway = true;
      const { firstRetryMs, longestRetryMs } = this.#times;
      await clock.sleepReal(Math.min(firstRetryMs * 2 ** (tries - 1), longestRetryMs), signal);
    }
  }
}

/** Since it was written, by Redis's clock (a stream id begins with it) and ours. */
function ageMs({ streamId }: StoredEvent): number {
  const atMs = Number(streamId.split('-')[0]);
  return Number.isFinite(atMs) ? Date.now() - atMs : 0;
}
