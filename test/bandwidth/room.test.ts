/** What a way could carry, for those who only ask. */
import { expect, test } from 'vitest';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { demand, fleet, MIB } from './entries.ts';

function budgetOf(link?: number): CellBudget {
  const clock = new VirtualClock();
  return new CellBudget(new MemoryCellStore(clock, new MemoryWakeups(clock)), fleet(['a', 'b', 'c', 'd'], 100, link));
}

test('by itself: the narrowest of what it draws on', async () => {
  expect(await budgetOf().room('a', 'b')).toEqual({ capacity: 100 * MIB, free: 100 * MIB, narrowest: 'egress of a' });
  expect(await budgetOf(60).room('a', 'b')).toEqual({ capacity: 60 * MIB, free: 60 * MIB, narrowest: 'link rack' });
});

test('beside others: less of what both draw on, all of what they do not', async () => {
  const budget = budgetOf();
  await budget.request(demand('1', { max: 70 }));
  expect(await budget.room('a', 'c')).toMatchObject({ capacity: 100 * MIB, free: 30 * MIB });
  expect(await budget.room('d', 'b')).toMatchObject({ capacity: 100 * MIB, free: 30 * MIB });
  expect(await budget.room('c', 'd')).toMatchObject({ capacity: 100 * MIB, free: 100 * MIB });
  const linked = budgetOf(80);
  await linked.request(demand('1', { max: 70 }));
  expect(await linked.room('c', 'd')).toMatchObject({ capacity: 80 * MIB, free: 10 * MIB });
});

test('asking changes nothing', async () => {
  const budget = budgetOf();
  await budget.room('a', 'b');
  expect((await budget.use()).every(({ egress, ingress }) => egress.counted + ingress.counted === 0)).toBe(true);
});

test('an uplink counts for those who leave the rack or come into it, and for nobody else', async () => {
  const clock = new VirtualClock();
  const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
  const budget = new CellBudget(cells, fleet(['a', 'b', 'c', 'd'], 100, 60, ['a', 'b']));
  const within = await budget.request(demand('1', { source: 'a', destination: 'b', max: 100 }));
  expect(within.bytesPerSec).toBe(100 * MIB);
  expect(await budget.room('a', 'b')).toMatchObject({ capacity: 100 * MIB, free: 0 });
  expect(await budget.room('c', 'b')).toMatchObject({ capacity: 60 * MIB, narrowest: 'link rack' });
  expect(await budget.room('c', 'd')).toMatchObject({ capacity: 100 * MIB, free: 100 * MIB });
});
