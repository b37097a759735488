/** A real clock that learns the fleet's origin and speed after it was made: a producer may be there before any worker. */
import type { Clock } from './clock.ts';
import { RealClock, type RealClockOptions } from './real-clock.ts';

export class AdoptedClock implements Clock {
  #clock = new RealClock();

  adopt(fleet: RealClockOptions): void {
    this.#clock = new RealClock(fleet);
  }

  now(): number {
    return this.#clock.now();
  }

  monotonic(): number {
    return this.#clock.monotonic();
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return this.#clock.sleep(ms, signal);
  }

  sleepReal(ms: number, signal?: AbortSignal): Promise<void> {
    return this.#clock.sleepReal(ms, signal);
  }

  fleetMs(realMs: number): number {
    return this.#clock.fleetMs(realMs);
  }

  random(): number {
    return this.#clock.random();
  }
}
