/** Records over the in-memory store: what a crash between two writes leaves behind. */
import { expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { initialRecord, Records } from '../../src/store/records.ts';
import { evacuate } from '../support/world.ts';

function setup(): { records: Records; cells: MemoryCellStore; clock: VirtualClock } {
  const clock = new VirtualClock();
  const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
  return { records: new Records(cells), cells, clock };
}
const ask = (id: string) => ({ id, request: evacuate('a'), createdAtMs: 1, idempotencyKey: null });

it('an operation that ended in a crash is retired, and does not swallow the next evacuation of its host', async () => {
  const { records, cells } = setup();
  await records.create(ask('op-1'));
  // The record was written as ended, the index was not.
  const ended = { ...initialRecord('op-1', evacuate('a'), 1), state: 'done' as const, token: 1 };
  const { version } = await cells.read('operation:op-1');
  await cells.compareAndSet('operation:op-1', version, JSON.stringify(ended));
  expect(await records.create(ask('op-2'))).toEqual({ id: 'op-1', acceptance: 'joined' });
  await records.retire('op-1');
  await records.retire('op-1');
  expect(await records.activeOperations()).toEqual([]);
  expect(await records.create(ask('op-2'))).toEqual({ id: 'op-2', acceptance: 'created' });
});

it('flags of an active operation never expire, those of an ended one do', async () => {
  const { records, clock } = setup();
  await records.create(ask('op-1'));
  await records.setControl('op-1', { pause: true });
  await clock.advance(60 * 86_400_000);
  expect((await records.control('op-1')).pause).toBe(true);
  await records.retire('op-1');
  await clock.advance(8 * 86_400_000);
  expect((await records.control('op-1')).pause).toBe(false);
});
