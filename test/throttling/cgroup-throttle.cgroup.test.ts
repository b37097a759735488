/** The throttle port on real threads and cgroups: the promises of every throttle. */
import { expect } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { RealClock } from '../../src/clock/real-clock.ts';
import { CgroupThrottle } from '../../src/throttling/cgroup-throttle.ts';
import { GuardClient } from '../../src/throttling/guard/client.ts';
import type { Throttle } from '../../src/throttling/throttle.ts';
import { describeWith } from '../support/needs.ts';
import { GUARD_ENTRY, Place } from './place.ts';
import { type ThrottleHarness, throttleBehaviour } from './throttle-behaviour.ts';

const RENEW_MS = 500;
const LONGEST_VALID_MS = 1_800;

/** Does what a worker does at every tick: a throttle that is to last is renewed, until anybody sets or lifts it. */
class Renewals {
  readonly failures: unknown[] = [];
  #renew: (() => Promise<void>) | null = null;
  /** One after the other, as in a worker: no renewal overtakes a release. */
  #turn: Promise<void> = Promise.resolve();
  readonly #timer = setInterval(() => {
    this.#inTurn(async () => this.#renew?.()).catch((error) => this.failures.push(error));
  }, RENEW_MS);

  of(throttle: Throttle): Throttle {
    return {
      unavailable: (host) => throttle.unavailable(host),
      guestCpu: (target) => throttle.guestCpu(target),
      set: (fence, target) =>
        this.#inTurn(async () => {
          await throttle.set(fence, target);
          this.#renew = target.validForMs <= LONGEST_VALID_MS ? null : () => throttle.set(fence, target);
        }),
      release: (fence, target) =>
        this.#inTurn(async () => {
          await throttle.release(fence, target);
          this.#renew = null;
        }),
    };
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#turn;
  }

  #inTurn(act: () => Promise<void>): Promise<void> {
    const done = this.#turn.then(act);
    this.#turn = done.catch(() => undefined);
    return done;
  }
}

async function open(): Promise<ThrottleHarness> {
  const place = new Place();
  const { threads } = await place.guest();
  const clock = new RealClock();
  const renewals = new Renewals();
  const process = () => {
    const guard = new GuardClient({ stateDir: place.stateDir, log: () => undefined, entry: GUARD_ENTRY });
    const vcpuThreadsOf = async (host: string, vm: string) => (`${host}/${vm}` === 'a/busy' ? threads : null);
    return { guard, throttle: new CgroupThrottle({ guard, vcpuThreadsOf, clock, log: () => undefined }) };
  };
  const one = process();
  const other = process();
  return {
    one: renewals.of(one.throttle),
    other: renewals.of(other.throttle),
    async until(condition, limitMs) {
      const start = performance.now();
      while (!(await condition())) {
        if (performance.now() - start > limitMs) throw new Error(`not within ${limitMs} ms`);
        await abortableSleep(50);
      }
    },
    async close() {
      await renewals.stop();
      expect(renewals.failures).toEqual([]);
      await one.guard.close();
      await other.guard.close();
      await place.close();
    },
  };
}

describeWith(['root', 'cgroup'], 'on real cgroups', () => {
  throttleBehaviour('cgroups', open);
});
