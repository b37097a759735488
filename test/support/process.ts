/**
 * A process in virtual time that can be stopped, go on and be killed, as SIGSTOP, SIGCONT and kill -9 would: what it awaits
 * reaches it only while it runs. Everything that it does goes through the ports and the clock that are made here.
 */
import type { Clock } from '../../src/clock/clock.ts';

/** The way from a process to something else and back: carries out what is asked for there, and brings the answer. */
export type Link = <T>(effect: () => T | Promise<T>) => Promise<T>;

/** At once, and never broken. */
export const direct: Link = async (effect) => effect();

export class VirtualProcess {
  #state: 'running' | 'stopped' | 'dead' = 'running';
  #waiting: (() => void)[] = [];

  get running(): boolean {
    return this.#state === 'running';
  }

  get dead(): boolean {
    return this.#state === 'dead';
  }

  /** It does nothing any more until it goes on, and nobody can know that. */
  stop(): void {
    if (this.#state === 'running') this.#state = 'stopped';
  }

  goOn(): void {
    if (this.#state !== 'stopped') return;
    this.#state = 'running';
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** What it was doing never goes on. */
  kill(): void {
    this.#state = 'dead';
    this.#waiting = [];
  }

  /** The same port, whose answers wait for this process. What hangs below it (leases, listeners) is treated alike. */
  port<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (from, key) => {
        const value: unknown = Reflect.get(from, key, from);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]): unknown => {
          if (this.dead) return new Promise(() => undefined);
          const answer: unknown = Reflect.apply(value, from, args);
          return answer instanceof Promise ? this.#reaching(answer) : answer;
        };
      },
    });
  }

  /** Sleeps end only while it runs; time goes on all the while. */
  clock(clock: Clock): Clock {
    return {
      now: () => clock.now(),
      monotonic: () => clock.monotonic(),
      sleep: (ms, signal) => this.#reaching(clock.sleep(ms, signal)),
      sleepReal: (ms, signal) => this.#reaching(clock.sleepReal(ms, signal)),
      fleetMs: (ms) => clock.fleetMs(ms),
      random: () => clock.random(),
    };
  }

  async #reaching<T>(answer: Promise<T>): Promise<T> {
    try {
      return await answer;
    } finally {
      while (this.#state !== 'running') {
        await new Promise<void>((resolve) => {
          if (this.#state === 'stopped') this.#waiting.push(resolve);
        });
      }
    }
  }
}

/** Every call of the port goes over the link. */
export function linked<T extends object>(target: T, link: Link): T {
  return new Proxy(target, {
    get: (from, key) => {
      const value: unknown = Reflect.get(from, key, from);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => link(() => Reflect.apply(value, from, args));
    },
  });
}
