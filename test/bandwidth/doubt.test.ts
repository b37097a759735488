/** A store that was replaced may have forgotten grants: until all hosts were heard nothing starts or grows, and nobody goes over. */
import { beforeEach, describe, expect, test } from 'vitest';
import type { Sent } from '../../src/bandwidth/budget.ts';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { balance, host, vm, World } from '../support/world.ts';
import { demand, fleet, MIB } from './entries.ts';

const HOSTS = ['a', 'b', 'c'];

describe('the budget on a store that lost its last writes', () => {
  let clock: VirtualClock;
  let store: MemoryCellStore;
  let budget: CellBudget;
  beforeEach(() => {
    clock = new VirtualClock();
    store = new MemoryCellStore(clock, new MemoryWakeups(clock));
    budget = new CellBudget(store, fleet(HOSTS, 100));
  });

  const generation = async (): Promise<string> => (await budget.doubt())?.generation ?? '';
  const sent = (id: string, rate: number, source = 'a'): Sent => {
    const { usesBytesPerSec: _, usefulBytesPerSec: _useful, maxBytesPerSec: _max, ...rest } = demand(id, { source });
    return { ...rest, bytesPerSec: rate * MIB };
  };

  test('a new one is not doubted, nor one that answers as before', async () => {
    expect(await budget.doubt()).toBeNull();
    expect((await budget.request(demand('1'))).bytesPerSec).toBe(100 * MIB);
    expect(await budget.doubt()).toBeNull();
  });

  test('a grant that was lost is not given again before its host was heard, and is counted then', async () => {
    await budget.request(demand('0', { source: 'c', max: 10, useful: 5 }));
    await clock.advance(1_000);
    expect((await budget.request(demand('1', { max: 90 }))).bytesPerSec).toBe(90 * MIB);
    store.forget(500);
    // Its destination is the first one's, too.
    const waits = await budget.request(demand('2', { source: 'c' }));
    expect(waits).toEqual({
      bytesPerSec: 0,
      waitingFor: expect.stringContaining('Redis was restarted or replaced'),
      isNext: false,
      givesWayTo: null,
      othersWait: false,
      isAwaited: false,
      isHeadStart: false,
      inDoubt: true,
    });
    await budget.hear('a', [sent('1', 90)], HOSTS, await generation());
    await budget.hear('b', [], HOSTS, await generation());
    expect((await budget.request(demand('2', { source: 'c' }))).bytesPerSec).toBe(0);
    await budget.hear('c', [], HOSTS, await generation());
    expect(await budget.doubt()).toBeNull();
    const ingress = (await budget.use()).find((use) => use.host === 'b')?.ingress.counted;
    expect(ingress).toBe(100 * MIB);
    expect((await budget.request(demand('2', { source: 'c' }))).bytesPerSec).toBe(0);
  });

  test('what was given up and comes back is not used: a migration keeps to what its hypervisor has', async () => {
    await budget.request(demand('1'));
    await budget.inForce('1', 100 * MIB);
    await clock.advance(1_000);
    // Lowered by hand and acknowledged; another host was given the rest.
    await budget.request(demand('1', { max: 40, usesBytesPerSec: 100 * MIB }));
    await budget.inForce('1', 40 * MIB);
    store.forget(500);
    expect((await budget.request(demand('1', { usesBytesPerSec: 40 * MIB }))).bytesPerSec).toBe(40 * MIB);
    for (const name of HOSTS) await budget.hear(name, name === 'a' ? [sent('1', 40)] : [], HOSTS, await generation());
    expect((await budget.request(demand('1', { usesBytesPerSec: 40 * MIB }))).bytesPerSec).toBe(100 * MIB);
  });

  test('one that was granted and has not begun waits; what another move of its VM had is void', async () => {
    await budget.request(demand('1'));
    await clock.advance(1_000);
    store.forget(500);
    expect((await budget.request(demand('1'))).bytesPerSec).toBe(0);
    for (const name of HOSTS) await budget.hear(name, [], HOSTS, await generation());
    expect((await budget.request(demand('1'))).bytesPerSec).toBe(100 * MIB);
    await budget.request(demand('2', { source: 'c', order: 1 }));
    expect((await budget.request(demand('1', { moveId: 'later', useful: 100 }))).bytesPerSec).toBe(100 * MIB);
  });

  test('a doubt that began anew is not ended by what was heard before', async () => {
    await budget.request(demand('1'));
    await clock.advance(1_000);
    store.forget(0);
    const first = await generation();
    store.forget(0);
    for (const name of HOSTS) await budget.hear(name, [], HOSTS, first);
    expect(await budget.doubt()).toMatchObject({ heard: [] });
  });
});

test('a fleet goes on by itself after its store lost what was written, and never goes over', async () => {
  const guests = ['v1', 'v2', 'v3'].map((name) => vm(name, { memory: '8GiB' }));
  const world = new World({ hosts: [host('a', guests), host('b'), host('c')] });
  await world.crew();
  const id = await world.request(balance(guests.map(({ name }) => ({ vm: name, to: 'b' }))));
  await world.reaches(id, 'v1', 'precopy');
  world.cells.forget(900);
  world.delivery.forget(900);
  expect(await world.ended(id)).toMatchObject({ state: 'done' });
  expect((await world.simulated.view()).overbooked.count).toBe(0);
  for (const { name } of guests) expect(await world.copies(name)).toEqual(['b:running']);
});
