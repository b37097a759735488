/**
 * Follows an operation to its end: events as they come, the state of everything twice a second, both to a view. Redis may
 * be away for a while (its owner starts it again); a watcher says so and goes on. Nothing here changes an operation.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { HostevacError } from '../../domain/errors.ts';
import type { OperationRecord, OperationResult } from '../../domain/operation.ts';
import type { OperationHandle, Producer } from '../../queue/producer.ts';
import type { StoredEvent } from '../../store/event-log.ts';
import { hostsIfKnown } from '../session.ts';
import type { ProgressView } from './view.ts';

export interface FollowOptions {
  readonly handle: Pick<OperationHandle, 'id' | 'record' | 'moves' | 'events' | 'result'>;
  readonly producer: Pick<Producer, 'hosts' | 'now' | 'hasWorkers'>;
  readonly view: ProgressView;
  /** Aborts to stop following; `follow` then rejects with the signal's reason. */
  readonly signal: AbortSignal;
  /** Real time; then `timeout` is thrown. null: as long as it takes. */
  readonly timeoutMs: number | null;
  /** How to start a worker, for the notice that none is alive. */
  readonly startHint: string;
  readonly times?: Partial<FollowTimes>;
}

/** Real time, ms. */
interface FollowTimes {
  readonly poll: number;
  readonly workerCheck: number;
  readonly retry: number;
  /** Redis may be away this long before the watcher gives up. */
  readonly patience: number;
  /** For the last events, after the result. */
  readonly drain: number;
}
const TIMES: FollowTimes = { poll: 500, workerCheck: 5_000, retry: 500, patience: 60_000, drain: 1_500 };

export interface Followed {
  readonly result: OperationResult;
  readonly record: OperationRecord;
}

export async function follow(options: FollowOptions): Promise<Followed> {
  const times = { ...TIMES, ...options.times };
  const { handle, view } = options;
  const watching = new AbortController();
  const signal = AbortSignal.any([options.signal, watching.signal]);
  const absence = new Absence(view, times.patience);
  const events = showEvents(options, signal, absence, times);
  const states = showStates(options, signal, absence, times);
  try {
    const result = await awaitResult(options, absence, times);
    await Promise.race([events, sleep(times.drain, undefined, { signal }).catch(() => undefined)]);
    const record = await handle.record();
    await showState(options, record);
    return { result, record };
  } finally {
    watching.abort();
    // Bounded: whoever pressed Ctrl-C does not wait for a Redis that hangs.
    await Promise.race([Promise.allSettled([events, states]), sleep(times.drain)]);
    view.close();
  }
}

/** Redis away, told once when it begins and once when it ends; after `patience` it is an error. */
class Absence {
  readonly #view: ProgressView;
  readonly #patience: number;
  #since: number | null = null;

  constructor(view: ProgressView, patience: number) {
    this.#view = view;
    this.#patience = patience;
  }

  /** Rethrows what is not an absence, and an absence that has lasted too long. */
  began(error: unknown): void {
    if (!(error instanceof HostevacError) || error.code !== 'redisAway') throw error;
    if (this.#since === null) {
      this.#since = performance.now();
      this.#view.notice(`${error.message}; the operation is kept, waiting for Redis to come back`);
    } else if (performance.now() - this.#since > this.#patience) throw error;
  }

  over(): void {
    if (this.#since === null) return;
    this.#since = null;
    this.#view.notice('Redis answers again');
  }
}

function rejectsWith(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

async function awaitResult(options: FollowOptions, absence: Absence, times: FollowTimes): Promise<OperationResult> {
  const { handle, signal, timeoutMs } = options;
  const interrupted = rejectsWith(signal);
  interrupted.catch(() => undefined);
  const until = timeoutMs === null ? null : performance.now() + timeoutMs;
  for (;;) {
    try {
      const limit = until === null ? {} : { timeoutMs: Math.max(1, until - performance.now()) };
      return await Promise.race([handle.result({ signal, ...limit }), interrupted]);
    } catch (error) {
      signal.throwIfAborted();
      absence.began(error);
      await sleep(times.retry, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

/** Ends with the operation, with the signal, or when Redis stays away (then `awaitResult` says so). */
async function showEvents(
  options: FollowOptions,
  signal: AbortSignal,
  absence: Absence,
  times: FollowTimes,
): Promise<void> {
  let after = '0';
  for (;;) {
    try {
      for await (const event of options.handle.events({ after, signal })) {
        after = event.streamId;
        options.view.event(event, writtenAt(event) ?? Date.now());
      }
      return;
    } catch (error) {
      if (!(await mayGoOn(error, signal, absence, times.retry))) return;
    }
  }
}

/** Real time, ms since 1970: Redis begins the ids of a stream with it. The event's own time is the fleet's. */
export function writtenAt({ streamId }: Pick<StoredEvent, 'streamId'>): number | null {
  const match = /^(\d{12,15})-\d+$/.exec(streamId);
  return match === null ? null : Number(match[1]);
}

async function showStates(
  options: FollowOptions,
  signal: AbortSignal,
  absence: Absence,
  times: FollowTimes,
): Promise<void> {
  let checkedAt = Number.NEGATIVE_INFINITY;
  let alive: boolean | null = null;
  while (!signal.aborted) {
    try {
      await showState(options, await options.handle.record());
      absence.over();
      if (performance.now() - checkedAt >= times.workerCheck) {
        checkedAt = performance.now();
        const now = await options.producer.hasWorkers();
        if (!now && alive !== false)
          options.view.notice(
            `no worker is running: the operation is kept and is carried out when one starts (${options.startHint})`,
          );
        if (now && alive === false) options.view.notice('a worker is running now');
        alive = now;
      }
    } catch (error) {
      if (!(await mayGoOn(error, signal, absence, times.retry))) return;
    }
    await sleep(times.poll, undefined, { signal }).catch(() => undefined);
  }
}

async function mayGoOn(error: unknown, signal: AbortSignal, absence: Absence, retry: number): Promise<boolean> {
  if (signal.aborted) return false;
  try {
    absence.began(error);
  } catch {
    return false;
  }
  await sleep(retry, undefined, { signal }).catch(() => undefined);
  return !signal.aborted;
}

async function showState({ handle, producer, view }: FollowOptions, record: OperationRecord): Promise<void> {
  const [moves, hosts, nowMs] = await Promise.all([handle.moves(), hostsIfKnown(producer), producer.now()]);
  view.snapshot({ nowMs, record, moves, hosts });
}
