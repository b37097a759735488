/** What whoever asked for an operation holds of it: reads its record, follows it, sets its flags. */
import { HostevacError } from '../domain/errors.ts';
import {
  currentMoveIds,
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationRecord,
  type OperationResult,
} from '../domain/operation.ts';
import { approve, cancel, known, pause, resume } from '../operations/control.ts';
import { operationResult } from '../operations/result.ts';
import type { Stores } from '../runtime/stores.ts';
import type { StoredEvent } from '../store/event-log.ts';
import { operationTopic } from '../store/records.ts';
import type { Acceptance, ControlOutcome, OperationHandle } from './producer.ts';

/** Records are looked at this often even when nobody wakes us (real ms). */
const LOOK_AGAIN_MS = 1_000;
const EVENTS_WAIT_MS = 2_000;

export class Handle implements OperationHandle {
  readonly id: string;
  readonly acceptance: Acceptance;
  readonly warnings: readonly string[];
  readonly #stores: Stores;

  constructor(stores: Stores, id: string, taken: Pick<OperationHandle, 'acceptance' | 'warnings'>) {
    this.#stores = stores;
    this.id = id;
    this.acceptance = taken.acceptance;
    this.warnings = taken.warnings;
  }

  record(): Promise<OperationRecord> {
    return known(this.#stores, this.id);
  }

  async moves(): Promise<MoveRecord[]> {
    const record = await this.record();
    return (await this.#stores.records.moves(currentMoveIds(record))).filter((move) => move !== null);
  }

  async result(options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}): Promise<OperationResult> {
    const until = options.timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + options.timeoutMs;
    const listener = await this.#stores.wakeups.listen(operationTopic(this.id));
    try {
      for (;;) {
        options.signal?.throwIfAborted();
        const record = await this.record();
        if (ENDED_OPERATION_STATES.has(record.state))
          return operationResult(record, await this.moves(), this.#stores.clock.now());
        const left = until - performance.now();
        if (left <= 0)
          throw new HostevacError(
            'timeout',
            `${this.id} has not ended yet (${record.state}); it goes on: hostevac watch ${this.id}`,
          );
        await listener.next(Math.min(LOOK_AGAIN_MS, left), options.signal);
      }
    } finally {
      await listener.close();
    }
  }

  async *events(options: { readonly after?: string; readonly signal?: AbortSignal } = {}): AsyncIterable<StoredEvent> {
    let after = options.after ?? '0';
    for (;;) {
      // The state first: what was written before it ended is then surely in what is read next.
      const ended = ENDED_OPERATION_STATES.has((await this.record()).state);
      const events = await this.#stores.events.read(this.id, after, ended ? 0 : EVENTS_WAIT_MS, options.signal);
      if (options.signal?.aborted === true) return;
      for (const event of events) {
        after = event.streamId;
        yield event;
        if (CLOSING_KINDS.has(event.kind)) return;
      }
      if (ended && events.length === 0) return;
    }
  }

  cancel(): Promise<ControlOutcome> {
    return cancel(this.#stores, this.id);
  }

  pause(options: { readonly now?: boolean } = {}): Promise<ControlOutcome> {
    return pause(this.#stores, this.id, options.now ?? false);
  }

  resume(): Promise<ControlOutcome> {
    return resume(this.#stores, this.id);
  }

  approve(hash?: string): Promise<ControlOutcome> {
    return approve(this.#stores, this.id, hash ?? null);
  }
}

const CLOSING_KINDS: ReadonlySet<string> = new Set([...ENDED_OPERATION_STATES].map((state) => `operation.${state}`));
