/**
 * Brings the fleet's events to the receivers of its webhooks: one process at a time (a lease), each receiver by itself with a
 * cursor of its own over the fleet's stream. At least once, in order within an operation. A receiver that is away is waited for
 * as long as the stream keeps what it has missed, at most a day; nobody else waits for it.
 */

import type { Logger } from 'pino';
import type { Clock } from '../clock/clock.ts';
import { formatDuration } from '../domain/units.ts';
import { wants } from '../domain/webhook.ts';
import type { Observer } from '../runtime/observer.ts';
import { compareIds, EVENTS_EXPIRE_MS, type EventLog, type StoredEvent, writtenAtMs } from '../store/event-log.ts';
import { isLease, type Lease, type Leases } from '../store/lease.ts';
import type { WebhookCursors } from '../store/webhook-cursors.ts';
import type { Endpoint } from './endpoints.ts';
import { eventId, messageOf } from './message.ts';
import { type Answer, post } from './post.ts';

export interface CourierDeps {
  readonly fleetName: string;
  readonly endpoints: readonly Endpoint[];
  readonly events: Pick<EventLog, 'readFleet' | 'lastOfFleet' | 'firstOfFleet'>;
  readonly cursors: WebhookCursors;
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
/**
 * A receiver that refuses an event (3xx, 4xx), or fails with it (5xx), is asked this often. Then it depends on whether it takes
 * others: if so the event is given up, else the receiver is waited for.
 */
const REFUSALS = 5;
const FAILURES = 12;

/** Whoever is new is told of what happens from now on: to be called before anything can happen that it should hear of. */
export async function beginCursors({
  endpoints,
  events,
  cursors,
}: Pick<CourierDeps, 'endpoints' | 'events' | 'cursors'>): Promise<void> {
  if (endpoints.length === 0) return;
  const last = await events.lastOfFleet();
  for (const { webhook } of endpoints) await cursors.begin(webhook.name, last);
}

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
    await Promise.all(deps.endpoints.map((endpoint) => keptUp(deps, endpoint, lease, going)));
  } finally {
    over.abort();
    await keeping;
    await lease.release();
  }
}

/** What breaks one receiver's round is no other's: it is begun again. */
async function keptUp(deps: CourierDeps, endpoint: Endpoint, lease: Lease, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await new Round(deps, endpoint, lease, signal).run();
    } catch (error) {
      if (signal.aborted) return;
      const { name } = endpoint.webhook;
      deps.log.warn({ err: error, webhook: name }, `webhook ${name}: nothing is delivered now; it is tried again`);
      await deps.clock.sleepReal(AFTER_FAULT_MS, signal);
    }
  }
}

/** One receiver, as long as this process has the lease. */
class Round {
  readonly #deps: CourierDeps;
  readonly #endpoint: Endpoint;
  readonly #lease: Lease;
  readonly #signal: AbortSignal;
  readonly #times: CourierTimes;
  readonly #name: string;
  /** Real monotonic time at which it took an event last. */
  #tookAt = Number.NEGATIVE_INFINITY;
  #isAway = false;
  /** Behind one that it does not take. */
  readonly #takenBefore = new Set<string>();

  constructor(deps: CourierDeps, endpoint: Endpoint, lease: Lease, signal: AbortSignal) {
    this.#deps = deps;
    this.#endpoint = endpoint;
    this.#lease = lease;
    this.#signal = signal;
    this.#times = { ...TIMES, ...deps.times };
    this.#name = endpoint.webhook.name;
  }

  async run(): Promise<void> {
    const { cursors, events } = this.#deps;
    let after = (await cursors.read(this.#name)) ?? (await cursors.begin(this.#name, await events.lastOfFleet()));
    while (!this.#signal.aborted) {
      await this.#missed(after);
      const found = await events.readFleet(after, READ_WAIT_MS, this.#signal);
      for (let at = 0; at < found.length && !this.#signal.aborted; at += BATCH) {
        const batch = found.slice(at, at + BATCH);
        await this.#deliver(batch.filter(({ kind }) => wants(this.#endpoint.webhook, kind)));
        if (this.#signal.aborted) return;
        after = batch.at(-1)?.streamId ?? after;
        await cursors.save(this.#name, after, this.#lease);
      }
    }
  }

  /** Says what the stream has let go of before it could be delivered. */
  async #missed(after: string): Promise<void> {
    const first = await this.#deps.events.firstOfFleet('0');
    if (first === null || compareIds(after, first) >= 0) return;
    // Begun before there was anything, or nothing has happened for so long that the stream itself went.
    const betweenMs = writtenAtMs(first) - writtenAtMs(after);
    if (after === '0' || betweenMs >= EVENTS_EXPIRE_MS) return;
    const name = this.#name;
    this.#deps.observer.delivery({ endpoint: name, outcome: 'dropped' });
    const span = `${formatDuration(betweenMs)} from ${new Date(writtenAtMs(after)).toISOString()} on`;
    this.#deps.log.warn(
      { webhook: name, after, first },
      `webhook ${name}: events of ${span} are lost to it: it was away for longer than they are kept`,
    );
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
    if (this.#takenBefore.delete(event.streamId)) return;
    const { clock, observer } = this.#deps;
    const { firstRetryMs, longestRetryMs } = this.#times;
    let [refusals, failedAt] = [0, clock.monotonic()];
    for (let tries = 1; !this.#signal.aborted; tries += 1) {
      const isProven = this.#tookAt > failedAt;
      const answer = await this.#post(event);
      if (this.#signal.aborted || answer.kind === 'taken') return;
      if (answer.kind === 'refused') refusals += 1;
      const isSuspect = refusals >= REFUSALS || tries >= FAILURES;
      // One that takes nothing at all is waited for: it is not this event's fault.
      if ((isSuspect && isProven) || ageMs(event) > this.#times.keptMs) {
        this.#giveUp(event, tries, answer.why);
        return;
      }
      failedAt = clock.monotonic();
      observer.delivery({ endpoint: this.#name, outcome: 'retried' });
      this.#away(event, answer.why);
      // Where it takes another one this one is tried once more at once: it may have come back in between.
      if (isSuspect && answer.kind !== 'away' && (await this.#takesAnother(event, tries))) continue;
      await clock.sleepReal(Math.min(firstRetryMs * 2 ** (tries - 1), longestRetryMs), this.#signal);
    }
  }

  async #post(event: StoredEvent): Promise<Answer> {
    const { clock, fleetName, log, observer } = this.#deps;
    const signal = this.#signal;
    const answer = await post(this.#endpoint, messageOf(fleetName, event), {
      signal,
      timeoutMs: this.#times.requestMs,
    });
    if (signal.aborted || answer.kind !== 'taken') return answer;
    this.#tookAt = clock.monotonic();
    if (this.#isAway) log.info({ webhook: this.#name }, `webhook ${this.#name}: its receiver takes events again`);
    this.#isAway = false;
    observer.delivery({ endpoint: this.#name, outcome: 'delivered' });
    return answer;
  }

  /** Whether it takes one of those behind, another one each time: then what it does not take is to blame. */
  async #takesAnother(event: StoredEvent, turn: number): Promise<boolean> {
    const { webhook } = this.#endpoint;
    const behind = (await this.#deps.events.readFleet(event.streamId, 0).catch(() => []))
      .filter(({ kind, streamId }) => wants(webhook, kind) && !this.#takenBefore.has(streamId))
      .slice(0, BATCH);
    // The next of each operation keeps the order within them; where all of those are like this one, any.
    const isNext = ({ operationId }: StoredEvent, at: number): boolean =>
      behind.findIndex((one) => one.operationId === operationId) === at;
    const asked = turn < 2 * FAILURES ? behind.filter(isNext) : behind;
    const other = asked[turn % asked.length];
    if (other === undefined || this.#signal.aborted) return false;
    if ((await this.#post(other)).kind !== 'taken') return false;
    this.#takenBefore.add(other.streamId);
    return true;
  }

  #away(event: StoredEvent, why: string): void {
    const about = { webhook: this.#name, event: eventId(event) };
    if (!this.#isAway) this.#deps.log.warn(about, `webhook ${this.#name}: not taken (${why}); it is tried again`);
    this.#isAway = true;
  }

  #giveUp(event: StoredEvent, tries: number, why: string): void {
    const { kind, operationId: operation, vm } = event;
    this.#deps.observer.delivery({ endpoint: this.#name, outcome: 'dropped' });
    this.#deps.log.warn(
      { webhook: this.#name, event: eventId(event), kind, operation, vm, tries },
      `webhook ${this.#name}: an event was given up (${why})`,
    );
  }
}

/** Since it was written, by Redis's clock (a stream id begins with it) and ours. */
function ageMs({ streamId }: StoredEvent): number {
  const atMs = writtenAtMs(streamId);
  return Number.isFinite(atMs) ? Date.now() - atMs : 0;
}
