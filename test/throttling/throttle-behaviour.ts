/**
 * What every throttle promises through its port. The harness brings a running VM `busy` on host `a` that always wants one
 * core. `one` and `other` stand for two processes.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { GuestCpu, Throttle } from '../../src/throttling/throttle.ts';
import { heldFence, lostFence } from '../hypervisors/hypervisor-behaviour.ts';

export interface ThrottleHarness {
  readonly one: Throttle;
  readonly other: Throttle;
  /** Lets time pass until the condition holds; throws when it does not within `limitMs` of fleet time. */
  until(condition: () => Promise<boolean>, limitMs: number): Promise<void>;
  close(): Promise<void>;
}

const target = { host: 'a', vm: 'busy', longestStretchMs: 300 };
const LONG_MS = 3_600_000;
const BUSY_CORES = 1;

export function throttleBehaviour(name: string, open: () => Promise<ThrottleHarness>): void {
  describe(`${name}: the throttle port`, () => {
    let harness: ThrottleHarness;
    let one: Throttle;
    let other: Throttle;
    beforeEach(async () => {
      harness = await open();
      ({ one, other } = harness);
    });
    afterEach(() => harness.close());

    /**
     * The share of its demand that the guest gets over the next two seconds or more: of what it is known to want, for what
     * the throttle believes is less where a neighbour on the machine has taken CPU from it.
     */
    const gotShare = async (): Promise<number> => {
      const from = await one.guestCpu(target);
      let to: GuestCpu = from;
      await harness.until(async () => {
        to = await one.guestCpu(target);
        return to.atMs - from.atMs >= 2_000;
      }, 60_000);
      return (to.gotCpuMs - from.gotCpuMs) / ((to.atMs - from.atMs) * BUSY_CORES);
    };

    /**
     * The guest gets `share` of its demand, never more. It may get less for a while, since a neighbour takes CPU from it as
     * well; that passes, a quota does not.
     */
    const expectShare = async (share: number): Promise<void> => {
      const seen: number[] = [];
      for (let stretch = 0; stretch < 10 && (seen.at(-1) ?? 0) < share - 0.05; stretch += 1) {
        seen.push(await gotShare());
      }
      expect(Math.max(...seen), `shares: ${seen.join(', ')}`).toBeLessThan(share + 0.05);
      expect(seen.at(-1), `shares: ${seen.join(', ')}`).toBeGreaterThan(share - 0.05);
    };

    test('an unthrottled guest gets what it demands', async () => {
      expect(await one.unavailable('a')).toBeNull();
      expect(await one.guestCpu(target)).toMatchObject({ share: 1 });
      await expectShare(1);
    });

    test('a throttle is in force for everybody, and slows the guest to its share of what it demands', async () => {
      await one.set(heldFence(), { ...target, share: 0.25, validForMs: LONG_MS });
      expect(await other.guestCpu(target)).toMatchObject({ share: 0.25 });
      await expectShare(0.25);
    });

    test('a throttle that nobody renews lifts itself', async () => {
      await one.set(heldFence(), { ...target, share: 0.25, validForMs: 300 });
      await harness.until(async () => (await other.guestCpu(target)).share === 1, 60_000);
      await expectShare(1);
    });

    test('a released guest has back what it had, and a second release is harmless', async () => {
      await one.set(heldFence(), { ...target, share: 0, validForMs: LONG_MS });
      await other.release(heldFence(), target);
      expect(await one.guestCpu(target)).toMatchObject({ share: 1 });
      await one.release(heldFence(), target);
      await expectShare(1);
    });

    test('a later share takes the place of an earlier one', async () => {
      await one.set(heldFence(), { ...target, share: 0.25, validForMs: LONG_MS });
      await one.set(heldFence(), { ...target, share: 0.75, validForMs: LONG_MS });
      await expectShare(0.75);
    });

    test('a stale token neither throttles nor lifts', async () => {
      await one.set(heldFence(8), { ...target, share: 0.5, validForMs: LONG_MS });
      const stale = heldFence(7);
      await expect(other.set(stale, { ...target, share: 0, validForMs: 1 })).rejects.toMatchObject({
        code: 'leaseLost',
      });
      await expect(other.release(stale, target)).rejects.toMatchObject({ code: 'leaseLost' });
      expect(await one.guestCpu(target)).toMatchObject({ share: 0.5 });
    });

    test('whoever lost the lease writes nothing', async () => {
      const lost = { ...target, share: 0, validForMs: LONG_MS };
      await expect(one.set(lostFence(), lost)).rejects.toMatchObject({ code: 'leaseLost' });
      await expect(one.release(lostFence(), target)).rejects.toMatchObject({ code: 'leaseLost' });
      expect(await one.guestCpu(target)).toMatchObject({ share: 1 });
    });
  });
}
