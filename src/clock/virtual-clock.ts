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
  /**
   * The event loop gets a turn at every so many steps (1): a turn costs as much as a step's own work. In between only promises
   * settle, which is all that a program on ports in memory has; a rejection that nobody handles is told at the next turn.
   */
  readonly turnEvery?: number;
}

interface Sleeper {
  readonly dueMs: number;
  readonly wake: () => void;
}

export class VirtualClock implements Clock {
  readonly #startMs: number;
  readonly #speed: number;
  readonly #turnEvery: number;
  readonly #random: () => number;
  /** Sorted by due time, then by insertion. */
  readonly #sleepers: Sleeper[] = [];
  #nowMs: number;
  /** Sleeps asked for so far: also shows whether the program did anything since the last look. */
  #sleeps = 0;
  #settled = 0;

  constructor({ startMs = 0, speed = 1, seed = 1, turnEvery = 1 }: VirtualClockOptions = {}) {
    this.#turnEvery = turnEvery;
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
      this.#sleeps += 1;
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

  /** Lets promise chains run until they sleep or end. A chain through real I/O may need more: wait for that itself. */
  async settle(): Promise<void> {
    this.#settled += 1;
    if (this.#settled % this.#turnEvery !== 0) {
      // Queued now, and called when no microtask is left.
      await new Promise<void>((resolve) => process.nextTick(resolve));
      return;
    }
    let before: number;
    do {
      before = this.#sleeps;
      // Each turn of the event loop runs every microtask that is ready; the second catches what setImmediate queued.
      await turn();
      await turn();
    } while (before !== this.#sleeps);
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

function turn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
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
