/**
 * Streams of events that watchers follow from any process and resume by id: one per operation, and one of the whole fleet
 * with the events of all of them.
 */
import type { OperationEvent } from '../domain/operation.ts';

export interface StoredEvent extends OperationEvent {
  /** In the stream that it was read from, within which it grows; give it as `after` to go on behind it there. */
  readonly streamId: string;
}

export interface EventLog {
  /** To its operation's stream and to the fleet's. */
  append(event: OperationEvent): Promise<void>;
  /**
   * Events of one operation behind `after` ('0' for all), at most `most`, waiting up to `waitRealMs` for the first. What
   * cannot be read as an event is passed over.
   */
  read(
    operationId: string,
    after: string,
    waitRealMs: number,
    signal?: AbortSignal,
    most?: number,
  ): Promise<StoredEvent[]>;
  /** The same of the fleet's stream: events of all operations. */
  readFleet(after: string, waitRealMs: number, signal?: AbortSignal, most?: number): Promise<StoredEvent[]>;
  /** The id of the fleet's last event; '0' where there is none. */
  lastOfFleet(): Promise<string>;
  /** The id of the fleet's first event behind `after` ('0': of all that are kept); null: there is none. */
  firstOfFleet(after: string): Promise<string | null>;
}

/** As Redis orders its streams; `0` is before everything. */
export function compareIds(a: string, b: string): number {
  const [aMs = '0', aSeq = '0'] = a.split('-');
  const [bMs = '0', bSeq = '0'] = b.split('-');
  return Number(aMs) - Number(bMs) || Number(aSeq) - Number(bSeq);
}

/** When an event was written, by the clock of its store: its id begins with that. */
export function writtenAtMs(streamId: string): number {
  return Number(streamId.split('-')[0]);
}

/** Woken (store/cell.ts `Wakeups`) when an event of the operation was appended. */
export function eventsTopic(operationId: string): string {
  return `events:${operationId}`;
}

/** Woken when an event of any operation was appended. */
export const FLEET_EVENTS_TOPIC = 'events';

/** Events kept of the whole fleet, about: who was away for longer reads what it missed from the operations. */
export const FLEET_EVENTS_KEPT = 20_000;

/** Streams end this long after their last event (real time). */
export const EVENTS_EXPIRE_MS = 7 * 86_400_000;

/** Events kept per operation, about: a bound for memory, far above what a sane operation makes. */
export const EVENTS_KEPT = 5_000;
