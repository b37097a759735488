/** The budget and a process that comes back late: it may not bring back what its successor has released. */
import { expect, it } from 'vitest';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { fleetSchema } from '../../src/domain/fleet.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { heldFence, lostFence } from '../hypervisors/hypervisor-behaviour.ts';
import { host } from '../support/world.ts';

it('a request, an acknowledgement and a release without the lease change nothing', async () => {
  const clock = new VirtualClock();
  const fleet = fleetSchema.parse({ hosts: [host('a'), host('b')] });
  const budget = new CellBudget(new MemoryCellStore(clock, new MemoryWakeups(clock)), fleet);
  const demand = {
    migrationId: 'v1',
    operationId: 'op-1',
    moveId: 'm1',
    vm: 'v1',
    source: 'a',
    destination: 'b',
    tier: 'evacuation',
    order: 1,
    usefulBytesPerSec: 1,
    maxBytesPerSec: 1_000,
    headStart: false,
    endsSoon: false,
    usesBytesPerSec: null,
  } as const;
  const counted = async (): Promise<number | undefined> => (await budget.use())[0]?.egress.counted;
  await expect(budget.request(demand, lostFence())).rejects.toMatchObject({ code: 'leaseLost' });
  expect(await counted()).toBe(0);
  await budget.request(demand, heldFence(1));
  expect(await counted()).toBe(1_000);
  await expect(budget.inForce('v1', 10, lostFence())).rejects.toMatchObject({ code: 'leaseLost' });
  await expect(budget.release('v1', lostFence())).rejects.toMatchObject({ code: 'leaseLost' });
  expect(await counted()).toBe(1_000);
  await budget.release('v1', heldFence(2));
  expect(await counted()).toBe(0);
});
