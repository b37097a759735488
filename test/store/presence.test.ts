/** Inventories as they are read: parsed once as long as nothing but their time changes. */
import { expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { Presence, type PublishedInventory } from '../../src/store/presence.ts';

function empty(): Presence {
  const clock = new VirtualClock();
  return new Presence(new MemoryCellStore(clock, new MemoryWakeups(clock)));
}

const vm = (name: string): PublishedInventory['vms'][number] => ({
  name,
  uuid: 'u',
  state: 'running',
  memoryBytes: 1,
  touchedBytes: 1,
  cpus: 1,
  demandCores: 0.5,
  notMigratable: null,
});

test('each read has the time of its look and what was seen then, whatever VMs are called', async () => {
  const presence = empty();
  const hostile = vm('"takenAtMs":5, "takenAtMs":6');
  const looks: PublishedInventory[] = [
    { host: 'a', takenAtMs: 1.5, unreachable: null, vms: [hostile] },
    { host: 'a', takenAtMs: 2e21, unreachable: null, vms: [hostile] },
    { host: 'a', takenAtMs: 3e21, unreachable: null, vms: [{ ...hostile, state: 'paused' }] },
    { host: 'a', takenAtMs: 4e21, unreachable: 'silent', vms: [{ ...hostile, state: 'paused' }] },
    { host: 'a', takenAtMs: 5e21, unreachable: 'silent', vms: [] },
  ];
  for (const look of looks) {
    await presence.publish(look);
    expect(await presence.inventories(['a', 'b'])).toEqual([look, null]);
    expect(await presence.inventories(['a'])).toEqual([look]);
  }
});

test('what has not changed is the same object', async () => {
  const presence = empty();
  await presence.publish({ host: 'a', takenAtMs: 1, unreachable: null, vms: [vm('x')] });
  const [first] = await presence.inventories(['a']);
  await presence.publish({ host: 'a', takenAtMs: 2, unreachable: null, vms: [vm('x')] });
  const [second] = await presence.inventories(['a']);
  expect(second?.takenAtMs).toBe(2);
  expect(second?.vms).toBe(first?.vms);
});
