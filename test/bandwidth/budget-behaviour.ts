/** What the budget promises to processes that share it, whatever keeps its cell. Two budgets stand for two processes. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BUDGET_TOPIC, type HostUse } from '../../src/bandwidth/budget.ts';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import type { CellStore, Wakeups } from '../../src/store/cell.ts';
import { demand, fleet, MIB } from './entries.ts';

export interface BudgetHarness {
  readonly cells: readonly [CellStore, CellStore];
  readonly wakeups: Wakeups;
  close(): Promise<void>;
}

const LONG_MS = 10_000;
const SHARED = fleet(['a', 'b', 'c', 'd'], 100);
const BY_HAND = { by: 'operator', atMs: 0 };

export function budgetBehaviour(name: string, open: () => Promise<BudgetHarness>): void {
  describe(`${name}: the budget`, () => {
    let harness: BudgetHarness;
    let one: CellBudget;
    let other: CellBudget;
    beforeEach(async () => {
      harness = await open();
      one = new CellBudget(harness.cells[0], SHARED);
      other = new CellBudget(harness.cells[1], SHARED);
    });
    afterEach(() => harness.close());

    const counted = async (host: string): Promise<[egress: number, ingress: number]> => {
      const use: readonly HostUse[] = await one.use();
      const found = use.find((each) => each.host === host);
      return [(found?.egress.counted ?? 0) / MIB, (found?.ingress.counted ?? 0) / MIB];
    };

    test('a grant counts at both ends from the moment it is given', async () => {
      expect(await one.request(demand('1'))).toEqual({
        bytesPerSec: 100 * MIB,
        waitingFor: null,
        isNext: false,
        givesWayTo: null,
        othersWait: false,
        isAwaited: false,
        isHeadStart: false,
        inDoubt: false,
      });
      expect(await counted('a')).toEqual([100, 0]);
      expect(await counted('b')).toEqual([0, 100]);
    });

    test('of two processes that ask at once, one gets the path and the other is told who has it', async () => {
      const [first, second] = await Promise.all([one.request(demand('1')), other.request(demand('2'))]);
      expect([first.bytesPerSec, second.bytesPerSec].sort((a, b) => a - b)).toEqual([0, 100 * MIB]);
      const [waiting, holder] = first.bytesPerSec === 0 ? [first, 'vm-2'] : [second, 'vm-1'];
      expect(waiting.waitingFor).toContain(
        `egress of a: 0B/s of 100MiB/s free, needs 40MiB/s; held by ${holder} (op-1)`,
      );
      expect(waiting.waitingFor).toContain('ingress of b');
    });

    test('who has it is told whether others wait for something on its path', async () => {
      const holds = demand('1', { usesBytesPerSec: 100 * MIB });
      await one.request(demand('1'));
      await one.inForce('1', 100 * MIB);
      expect((await one.request(holds)).othersWait).toBe(false);
      expect((await other.request(demand('2', { source: 'c', destination: 'd' }))).bytesPerSec).toBe(100 * MIB);
      expect((await one.request(holds)).othersWait).toBe(false);
      // For its ingress alone.
      expect((await other.request(demand('3', { source: 'd' }))).bytesPerSec).toBe(0);
      expect((await one.request(holds)).othersWait).toBe(true);
      await other.release('3');
      expect((await one.request(holds)).othersWait).toBe(false);
      // A rebalance has time.
      expect((await other.request(demand('4', { tier: 'rebalance' }))).bytesPerSec).toBe(0);
      expect((await one.request(holds)).othersWait).toBe(false);
    });

    test('the next in turn connects with what one that ends has stepped back from, and has its bandwidth after it', async () => {
      const holds = demand('1', { usesBytesPerSec: 100 * MIB });
      const ready = demand('2', { headStart: true });
      await one.request(demand('1'));
      await one.inForce('1', 100 * MIB);
      expect(await other.request(ready)).toMatchObject({ bytesPerSec: 0, isNext: true, isHeadStart: false });
      expect(await one.request(holds)).toMatchObject({ bytesPerSec: 100 * MIB, isAwaited: true });
      const steppedBack = { ...holds, endsSoon: true, maxBytesPerSec: 99 * MIB };
      expect(await one.request(steppedBack)).toMatchObject({ bytesPerSec: 99 * MIB });
      // Its hypervisor may still use all of it.
      expect(await other.request(ready)).toMatchObject({ bytesPerSec: 0 });
      await one.inForce('1', 99 * MIB);
      expect(await other.request(ready)).toMatchObject({ bytesPerSec: MIB, isHeadStart: true });
      await other.inForce('2', MIB);
      expect(await one.request({ ...steppedBack, usesBytesPerSec: 99 * MIB })).toMatchObject({ othersWait: true });
      // Whoever gives it up keeps what it sends, and no more.
      await other.endHeadStart('2');
      expect(await other.request(demand('2', { usesBytesPerSec: MIB }))).toMatchObject({ isHeadStart: false });
      expect(await other.request(demand('2', { usesBytesPerSec: MIB, headStart: true }))).toMatchObject({
        isHeadStart: true,
      });
      await one.release('1');
      // A successor that does not know of it is told as well.
      const sent = demand('2', { usesBytesPerSec: MIB });
      expect(await other.request(sent)).toMatchObject({ bytesPerSec: 100 * MIB, isHeadStart: false });
      expect((await other.entries()).map(({ headStart }) => headStart)).toEqual([false]);
    });

    test('what one releases the other has, and it is woken', async () => {
      await one.request(demand('1'));
      expect((await other.request(demand('2'))).bytesPerSec).toBe(0);
      const listener = await harness.wakeups.listen(BUDGET_TOPIC);
      const woken = listener.next(LONG_MS).then(() => other.request(demand('2')));
      await one.release('1');
      expect((await woken).bytesPerSec).toBe(100 * MIB);
      await listener.close();
    });

    test('a grant whose worker died stays counted until it is released', async () => {
      await one.request(demand('1'));
      await one.inForce('1', 100 * MIB);
      // The process of `one` is gone; others come and go.
      for (let tick = 0; tick < 5; tick += 1) {
        expect((await other.request(demand('2'))).bytesPerSec).toBe(0);
      }
      await other.release('1');
      expect((await other.request(demand('2'))).bytesPerSec).toBe(100 * MIB);
    });

    test('its successor finds the same grant', async () => {
      await one.request(demand('1', { max: 60 }));
      await one.inForce('1', 60 * MIB);
      await one.request(demand('2'));
      expect((await other.request(demand('1', { max: 60 }))).bytesPerSec).toBe(60 * MIB);
    });

    test('what shrinks is free only when the hypervisor is known to use less', async () => {
      await one.request(demand('1'));
      await one.inForce('1', 100 * MIB);
      expect((await one.request(demand('1', { max: 30 }))).bytesPerSec).toBe(30 * MIB);
      expect(await counted('a')).toEqual([100, 0]);
      expect((await other.request(demand('2'))).bytesPerSec).toBe(0);
      await one.inForce('1', 30 * MIB);
      expect((await other.request(demand('2'))).bytesPerSec).toBe(70 * MIB);
    });

    test('a larger grant that was read, then taken back before it was acknowledged, stays counted', async () => {
      await one.request(demand('1', { max: 40, useful: 10 }));
      await one.inForce('1', 40 * MIB);
      // Its worker reads 100 and is about to set it, when the link is lowered.
      expect((await one.request(demand('1'))).bytesPerSec).toBe(100 * MIB);
      await other.override({ kind: 'egress', host: 'a' }, { bytesPerSec: 40 * MIB, ...BY_HAND });
      await other.override({ kind: 'egress', host: 'a' }, null);
      await other.override({ kind: 'egress', host: 'a' }, { bytesPerSec: 90 * MIB, ...BY_HAND });
      expect(await counted('a')).toEqual([100, 0]);
      expect((await one.request(demand('1'))).bytesPerSec).toBe(90 * MIB);
      await one.inForce('1', 90 * MIB);
      expect(await counted('a')).toEqual([90, 0]);
    });

    test('what was never read is no debt: a target that rose and fell unseen counts no more', async () => {
      await one.request(demand('1', { useful: 10, max: 60 }));
      await one.inForce('1', 60 * MIB);
      await other.request(demand('2', { useful: 10 }));
      await other.inForce('2', 40 * MIB);
      await one.release('1');
      expect(await counted('a')).toEqual([100, 0]);
      await one.override({ kind: 'egress', host: 'a' }, { bytesPerSec: 40 * MIB, ...BY_HAND });
      expect(await counted('a')).toEqual([40, 0]);
    });

    test('a lowered capacity lowers the targets at once and starts nobody before it fits', async () => {
      await one.request(demand('1'));
      await one.inForce('1', 100 * MIB);
      await other.override({ kind: 'egress', host: 'a' }, { bytesPerSec: 50 * MIB, ...BY_HAND });
      expect((await one.request(demand('1'))).bytesPerSec).toBe(50 * MIB);
      expect((await one.use()).find(({ host }) => host === 'a')?.egress).toEqual({
        capacity: 50 * MIB,
        counted: 100 * MIB,
      });
      const low = demand('2', { destination: 'c', useful: 1 });
      expect((await other.request(low)).waitingFor).toContain('egress of a: 0B/s of 50MiB/s free');
      await other.override({ kind: 'egress', host: 'a' }, null);
      expect((await one.request(demand('1'))).bytesPerSec).toBe(100 * MIB);
    });

    test('one whose need a lowered capacity cannot meet says so and holds nobody up', async () => {
      await other.override({ kind: 'ingress', host: 'b' }, { bytesPerSec: 10 * MIB, ...BY_HAND });
      expect((await one.request(demand('1'))).waitingFor).toBe(
        'ingress of b carries 10MiB/s, needs 40MiB/s: it cannot start before the capacity is raised',
      );
      expect((await one.request(demand('2', { order: 2, destination: 'c' }))).bytesPerSec).toBe(100 * MIB);
    });

    test('one that wants more than its path ever carries starts at what it carries', async () => {
      expect((await one.request(demand('1', { useful: 500, max: 900 }))).bytesPerSec).toBe(100 * MIB);
    });

    test('an unlimited demand is one', async () => {
      const unlimited = { ...demand('1'), maxBytesPerSec: Number.POSITIVE_INFINITY };
      expect((await one.request(unlimited)).bytesPerSec).toBe(100 * MIB);
      expect((await other.request(unlimited)).bytesPerSec).toBe(100 * MIB);
    });

    test('one that stands behind another is told behind whom', async () => {
      await one.request(demand('big', { source: 'd', max: 70, useful: 70 }));
      await one.request(demand('first', { order: 1 }));
      const { waitingFor } = await other.request(demand('second', { order: 2, useful: 10 }));
      expect(waitingFor).toBe('behind vm-first (op-1), which waits for ingress of b');
    });

    test('an adopted migration that only its hypervisor knew counts as soon as it is said', async () => {
      await one.request(demand('1'));
      await one.release('1');
      await one.request(demand('2', { order: 0, max: 60, useful: 60 }));
      await other.request(demand('1', { order: 5, useful: 60 }));
      await other.inForce('1', 40 * MIB);
      expect(await counted('a')).toEqual([100, 0]);
      expect((await other.request(demand('1', { order: 5, useful: 60 }))).bytesPerSec).toBe(40 * MIB);
    });

    test('releasing twice, releasing or acknowledging what never was: nothing happens', async () => {
      await one.request(demand('1'));
      await one.release('1');
      await one.release('1');
      await other.release('never');
      await other.inForce('never', 5 * MIB);
      expect(await counted('a')).toEqual([0, 0]);
    });

    test('an idle tick reads once and writes nothing', async () => {
      const calls: string[] = [];
      const store = harness.cells[0];
      const counting: CellStore = {
        read: (key) => store.read(key),
        readGuarded: (key) => {
          calls.push('read');
          return store.readGuarded(key);
        },
        readMany: (keys) => store.readMany(keys),
        compareAndSet: (key, version, text, options) => {
          calls.push('write');
          return store.compareAndSet(key, version, text, options);
        },
      };
      const budget = new CellBudget(counting, SHARED);
      await budget.request(demand('1', { max: 60 }));
      await budget.inForce('1', 60 * MIB);
      await budget.request(demand('2', { order: 1, useful: 50 }));
      calls.length = 0;
      await budget.request(demand('1', { max: 60 }));
      await budget.request(demand('2', { order: 1, useful: 50 }));
      await budget.inForce('1', 60 * MIB);
      expect(calls).toEqual(['read', 'read', 'read']);
    });

    test('a host that the fleet does not have is refused', async () => {
      await expect(one.request(demand('1', { destination: 'z' }))).rejects.toMatchObject({ code: 'unknownHost' });
      expect(await counted('a')).toEqual([0, 0]);
    });
  });
}
