/** Streams of events, one per operation, that watchers follow from any process and resume by id. */
import type { OperationEvent } from '../domain/operation.ts';

export interface StoredEvent extends OperationEvent {
  /** Grows within a stream; give it as `after` to go on behind it. */
  readonly streamId: string;
}

export interface EventLog {
  append(event: OperationEvent): Promise<void>;
  /** Events of one operation behind `after` ('0' for all), waiting up to `waitRealMs` for the first. */
  read(operationId: string, after: string, waitRealMs: number, signal?: AbortSignal): Promise<StoredEvent[]>;
}

/** Woken (store/cell.ts `Wakeups`) when an event of the operation was appended. */
export function eventsTopic(operationId: string): string {
  return `events:${operationId}`;
}

/** Events kept per operation, about: a bound for memory, far above what a sane operation makes. */
export const EVENTS_KEPT = 5_000;
