/** The clock of a running fleet: the machine's time, scaled for a simulated fleet. Virtual time is `virtual-clock.ts`. */
import { abortableSleep } from './abortable-sleep.ts';
import type { Clock } from './clock.ts';

export interface RealClockOptions {
  /** Fleet seconds per real second. Default 1. */
  readonly speed?: number;
  /** Wall-clock ms that is fleet time 0; all processes of a fleet must use the same. Default 0: the epoch. */
  readonly originMs?: number;
}

export class RealClock implements Clock {
  readonly #speed: number;
  readonly #originMs: number;

  constructor({ speed = 1, originMs = 0 }: RealClockOptions = {}) {
    this.#speed = speed;
    this.#originMs = originMs;
  }

  now(): number {
    return (Date.now() - this.#originMs) * this.#speed;
  }

  /** CLOCK_MONOTONIC: counts from the machine's boot, so that processes may compare it. */
  monotonic(): number {
    return Number(process.hrtime.bigint()) / 1e6;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return abortableSleep(ms / this.#speed, signal);
  }

  sleepReal(ms: number, signal?: AbortSignal): Promise<void> {
    return abortableSleep(ms, signal);
  }

  fleetMs(realMs: number): number {
    return realMs * this.#speed;
  }

  random(): number {
    return Math.random();
  }
}
