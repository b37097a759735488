/**
 * Cells, wake-ups and event logs in one process's memory: what tests and virtual-time runs use in Redis's place. Behaves
 * as `redis-store.ts` does (one behaviour test runs on both).
 */
import type { Clock } from '../clock/clock.ts';
import type { OperationEvent } from '../domain/operation.ts';
import type { CellStore, GuardedText, VersionedText, WakeupListener, Wakeups, Written } from './cell.ts';
import {
  EVENTS_KEPT,
  type EventLog,
  eventsTopic,
  FLEET_EVENTS_KEPT,
  FLEET_EVENTS_TOPIC,
  type StoredEvent,
} from './event-log.ts';
import { WakeupListeners } from './wakeup-listeners.ts';

/** No replica lags longer. */
const REMEMBERED_MS = 10_000;

interface MemoryCell {
  readonly version: number;
  readonly text: string;
  /** Monotonic ms. */
  readonly expiresAtMs: number;
}

export class MemoryWakeups implements Wakeups {
  readonly #listeners: WakeupListeners;

  constructor(clock: Clock) {
    this.#listeners = new WakeupListeners(clock);
  }

  async wake(topic: string): Promise<void> {
    this.#listeners.wake(topic);
  }

  async listen(topic: string): Promise<WakeupListener> {
    return this.#listeners.add(topic, async () => undefined);
  }
}

export class MemoryCellStore implements CellStore {
  readonly #clock: Clock;
  readonly #wakeups: Wakeups;
  readonly #cells = new Map<string, MemoryCell>();
  /** One counter for all cells, so that no version ever returns, not even in a cell that was deleted or expired. */
  #lastVersion = 0;
  #generation = 1;
  /** What was there before each write of the last `REMEMBERED_MS`, oldest first. */
  #before: { readonly atMs: number; readonly key: string; readonly cell: MemoryCell | undefined }[] = [];

  constructor(clock: Clock, wakeups: Wakeups) {
    this.#clock = clock;
    this.#wakeups = wakeups;
  }

  async read(key: string): Promise<VersionedText> {
    return this.#current(key);
  }

  readMany(keys: readonly string[]): Promise<VersionedText[]> {
    return Promise.all(keys.map((key) => this.read(key)));
  }

  async readGuarded(key: string): Promise<GuardedText> {
    return { ...this.#current(key), generation: String(this.#generation) };
  }

  /** As a failover to a replica that lags would: what was written in the last `ms` is gone. */
  forget(ms: number): void {
    const sinceMs = this.#clock.monotonic() - ms;
    for (const { atMs, key, cell } of this.#before.toReversed()) {
      if (atMs < sinceMs) break;
      if (cell === undefined) this.#cells.delete(key);
      else this.#cells.set(key, cell);
    }
    this.#before = [];
    this.#generation += 1;
  }

  async compareAndSet(
    key: string,
    version: number,
    text: string | null,
    options: { readonly topic?: string; readonly expireMs?: number; readonly generation?: string } = {},
  ): Promise<Written | null> {
    // Compares and sets in one tick, as the script does.
    if (this.#current(key).version !== version) return null;
    if (options.generation !== undefined && options.generation !== String(this.#generation)) return null;
    this.#remember(key);
    if (text === null) this.#cells.delete(key);
    else {
      this.#lastVersion += 1;
      const expiresAtMs = this.#clock.monotonic() + (options.expireMs ?? Number.POSITIVE_INFINITY);
      this.#cells.set(key, { version: this.#lastVersion, text, expiresAtMs });
    }
    const written = { version: this.#current(key).version };
    if (options.topic !== undefined) await this.#wakeups.wake(options.topic);
    return written;
  }

  #remember(key: string): void {
    const atMs = this.#clock.monotonic();
    this.#before.push({ atMs, key, cell: this.#cells.get(key) });
    if ((this.#before[0]?.atMs ?? atMs) < atMs - 2 * REMEMBERED_MS) {
      this.#before = this.#before.filter((one) => one.atMs >= atMs - REMEMBERED_MS);
    }
  }

  #current(key: string): VersionedText {
    const cell = this.#cells.get(key);
    if (cell === undefined) return { version: 0, text: null };
    if (cell.expiresAtMs <= this.#clock.monotonic()) {
      this.#cells.delete(key);
      return { version: 0, text: null };
    }
    return { version: cell.version, text: cell.text };
  }
}

export class MemoryEventLog implements EventLog {
  readonly #clock: Clock;
  readonly #wakeups: Wakeups;
  readonly #streams = new Map<string, StoredEvent[]>();
  #lastId = 0;

  constructor(clock: Clock, wakeups: Wakeups) {
    this.#clock = clock;
    this.#wakeups = wakeups;
  }

  async append(event: OperationEvent): Promise<void> {
    this.#lastId += 1;
    const stored = { ...event, streamId: `${this.#lastId}-0` };
    const own = eventsTopic(event.operationId);
    this.#push(own, stored, EVENTS_KEPT);
    this.#push(FLEET_EVENTS_TOPIC, stored, FLEET_EVENTS_KEPT);
    // Nothing is waited for here: in virtual time the turn of every promise counts.
    void this.#wakeups.wake(FLEET_EVENTS_TOPIC);
    await this.#wakeups.wake(own);
  }

  #push(topic: string, event: StoredEvent, kept: number): void {
    const stream = this.#streams.get(topic) ?? [];
    this.#streams.set(topic, stream);
    stream.push(event);
    if (stream.length > kept) stream.shift();
  }

  async read(
    operationId: string,
    after: string,
    waitRealMs: number,
    signal?: AbortSignal,
    most?: number,
  ): Promise<StoredEvent[]> {
    return (await this.#read(eventsTopic(operationId), after, waitRealMs, signal)).slice(0, most);
  }

  async readFleet(after: string, waitRealMs: number, signal?: AbortSignal, most?: number): Promise<StoredEvent[]> {
    return (await this.#read(FLEET_EVENTS_TOPIC, after, waitRealMs, signal)).slice(0, most);
  }

  async lastOfFleet(): Promise<string> {
    return this.#streams.get(FLEET_EVENTS_TOPIC)?.at(-1)?.streamId ?? '0';
  }

  async firstOfFleet(after: string): Promise<string | null> {
    const stream = this.#streams.get(FLEET_EVENTS_TOPIC) ?? [];
    return stream.find(({ streamId }) => sequence(streamId) > sequence(after))?.streamId ?? null;
  }

  async #read(topic: string, after: string, waitRealMs: number, signal?: AbortSignal): Promise<StoredEvent[]> {
    const behind = (): StoredEvent[] =>
      (this.#streams.get(topic) ?? []).filter((event) => sequence(event.streamId) > sequence(after));
    const there = behind();
    if (there.length > 0 || waitRealMs <= 0) return there;
    const untilMs = this.#clock.monotonic() + waitRealMs;
    const aborted = (): boolean => signal?.aborted === true;
    const listener = await this.#wakeups.listen(topic);
    try {
      for (;;) {
        const events = behind();
        const leftMs = untilMs - this.#clock.monotonic();
        if (events.length > 0 || leftMs <= 0 || aborted()) return events;
        await listener.next(leftMs, signal);
      }
    } finally {
      await listener.close();
    }
  }
}

function sequence(streamId: string): number {
  return Number(streamId.split('-')[0]);
}
