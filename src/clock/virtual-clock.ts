/**
 * Time that passes only when it is told to: a whole fleet with its workers runs in one process, as fast as it computes,
 * and the same seed gives the same run. Nothing here reads the machine's time.
 */
import type { Clock } from './clock.ts';

export interface VirtualClockOptions {
  readonly startMs?: number;
  /** Fleet seconds per (virtual) real second. */
  readonly speed?: number;
  readonly seed?: number;
}

/** A turn of the event loop costs as much as a tick's work: what lives there (messages, finalizers) gets one of so many. */
const TICKS_A_TURN = 200;

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class VirtualClock implements Clock {
  readonly #startMs: number;
  readonly #speed: number;
  readonly #random: () => number;
  /** Sorted by due time, then by insertion. */
  readonly #sleepers: Sleeper[] = [];
  #nowMs: number;
  #settled = 0;

  constructor({ startMs = 0, speed = 1, seed = 1 }: VirtualClockOptions = {}) {
    this.#startMs = startMs;
    this.#nowMs = startMs;
    this.#speed = speed;
    this.#random = mulberry32(seed);
  }

  now(): number {
    return this.#nowMs;
  }

  /** Counts from 0 at the clock's start. */
  monotonic(): number {
    return (this.#nowMs - this.#startMs) / this.#speed;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true || !(ms > 0)) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        signal?.removeEventListener('abort', abort);
        resolve();
      };
      const sleeper: Sleeper = { dueMs: this.#nowMs + ms, wake: done };
      const abort = (): void => {
        const index = this.#sleepers.indexOf(sleeper);
        if (index >= 0) this.#sleepers.splice(index, 1);
        done();
      };
      signal?.addEventListener('abort', abort, { once: true });
      this.#insert(sleeper);
    });
  }

  sleepReal(ms: number, signal?: AbortSignal): Promise<void> {
    return this.sleep(this.fleetMs(ms), signal);
  }

  fleetMs(realMs: number): number {
    return realMs * this.#speed;
  }

  random(): number {
    return this.#random();
  }

  /** How many sleep now; 0 after a clean shutdown. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Lets `ms` of fleet time pass: wakes each sleeper at its time, in order, and lets what it does settle before the next. */
  async advance(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    await this.settle();
    while (await this.#wakeNext(untilMs));
    this.#nowMs = Math.max(this.#nowMs, untilMs);
    await this.settle();
  }

  /**
   * Goes from sleeper to sleeper until the predicate is true. Throws when it is still false after `limitMs` of fleet time
   * or when nobody sleeps any more (then nothing can ever make it true).
   */
  async runUntil(predicate: () => boolean | Promise<boolean>, limitMs: number): Promise<void> {
    const untilMs = this.#nowMs + limitMs;
    await this.settle();
    while (!(await predicate())) {
      if (this.#sleepers.length === 0) {
        throw new Error(`virtual clock: at ${this.#nowMs} ms nobody sleeps and the condition is still false`);
      }
      if (!(await this.#wakeNext(untilMs))) {
        throw new Error(`virtual clock: the condition is still false after ${limitMs} ms`);
      }
    }
  }

  /**
   * Lets promise chains run until they sleep or end: a tick comes when no microtask is left. A chain through the event loop
   * (real I/O, setImmediate) needs more: it gets a turn now and then, and whoever must have it waits for that itself.
   */
  async settle(): Promise<void> {
    this.#settled += 1;
    if (this.#settled % TICKS_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
    await new Promise<void>((resolve) => process.nextTick(resolve));
  }

  async #wakeNext(untilMs: number): Promise<boolean> {
    const first = this.#sleepers[0];
    if (first === undefined || first.dueMs > untilMs) return false;
    this.#sleepers.shift();
    this.#nowMs = Math.max(this.#nowMs, first.dueMs);
    first.wake();
    await this.settle();
    return true;
  }

  #insert(sleeper: Sleeper): void {
    let low = 0;
    let high = this.#sleepers.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = this.#sleepers[middle];
      if (other !== undefined && other.dueMs <= sleeper.dueMs) low = middle + 1;
      else high = middle;
    }
    this.#sleepers.splice(low, 0, sleeper);
  }
}

/** Tommy Ettinger's mulberry32: 32 bits of state, good enough to vary a run, the same on every machine. */
export function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
