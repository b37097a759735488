/** The in-memory stores behave as the Redis ones do. */
import { expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryLeases, MemoryLeaseTable } from '../../src/store/memory-leases.ts';
import { MemoryCellStore, MemoryEventLog, MemoryWakeups } from '../../src/store/memory-store.ts';
import { leaseBehaviour } from './lease-behaviour.ts';
import { storeBehaviour } from './store-behaviour.ts';

const STEP_MS = 10;

async function until(clock: VirtualClock, condition: () => boolean | Promise<boolean>, limitMs: number): Promise<void> {
  for (let passed = 0; passed <= limitMs; passed += STEP_MS) {
    await clock.settle();
    if (await condition()) return;
    await clock.advance(STEP_MS);
  }
  throw new Error(`not within ${limitMs} ms`);
}

storeBehaviour('memory', async () => {
  const clock = new VirtualClock();
  const wakeups = new MemoryWakeups(clock);
  const cells = new MemoryCellStore(clock, wakeups);
  const events = new MemoryEventLog(clock, wakeups);
  return {
    cells: [cells, cells],
    wakeups: [wakeups, wakeups],
    events: [events, events],
    until: (condition, limitMs) => until(clock, condition, limitMs),
    monotonic: () => clock.monotonic(),
    // Whoever still sleeps here leaked a waiter.
    close: async () => expect(clock.sleeping).toBe(0),
  };
});

leaseBehaviour('memory', async () => {
  const clock = new VirtualClock();
  const table = new MemoryLeaseTable();
  return {
    process: (owner, options) => new MemoryLeases(clock, owner, { table, ...options }),
    until: (condition, limitMs) => until(clock, condition, limitMs),
    skip: (ms) => clock.advance(ms),
    away: async (away) => {
      table.away = away;
    },
    close: async () => undefined,
  };
});

test('a lease in a fleet that runs 50 times faster still counts real time', async () => {
  const clock = new VirtualClock({ speed: 50 });
  const leases = new MemoryLeases(clock, { id: 'a', machine: 'm', pid: 1, startTicks: 1 }, { ttlMs: 1_000 });
  const lease = await leases.acquire('vm');
  await clock.advance(899 * 50);
  expect('held' in lease && lease.held()).toBe(true);
  await clock.advance(2 * 50);
  expect('held' in lease && lease.held()).toBe(false);
});
