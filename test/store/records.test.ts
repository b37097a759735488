/** Records over the in-memory store: what a crash between two writes leaves behind. */
import { expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { newTask } from '../../src/domain/operation.ts';
import { newMove } from '../../src/operations/standing.ts';
import type { CellStore } from '../../src/store/cell.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { initialRecord, Records } from '../../src/store/records.ts';
import { evacuate } from '../support/world.ts';

function setup(): { records: Records; cells: MemoryCellStore; clock: VirtualClock } {
  const clock = new VirtualClock();
  const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
  return { records: new Records(cells), cells, clock };
}
const ask = (id: string) => ({ id, request: evacuate('a'), createdAtMs: 1, idempotencyKey: null });

async function end(cells: CellStore, id: string): Promise<void> {
  const ended = { ...initialRecord(id, evacuate('a'), 1), state: 'done' as const, token: 1 };
  const { version } = await cells.read(`operation:${id}`);
  await cells.compareAndSet(`operation:${id}`, version, JSON.stringify(ended));
}

it('an operation whose end the store has lost stays among the active ones, so that it is taken up again (seed 18622)', async () => {
  const { cells, clock } = setup();
  let failsOver = true;
  const between: CellStore = {
    read: (key) => cells.read(key),
    readMany: (keys) => cells.readMany(keys),
    readGuarded: (key) => cells.readGuarded(key),
    compareAndSet: async (key, version, text, options) => {
      if (key === 'index' && failsOver && version > 1) {
        failsOver = false;
        cells.forget(100);
      }
      return cells.compareAndSet(key, version, text, options);
    },
  };
  const records = new Records(between);
  await records.create(ask('op-1'));
  await records.create({ ...ask('op-2'), request: evacuate('b') });
  failsOver = true;
  await clock.advance(1_000);
  const record = { ...initialRecord('op-1', evacuate('a'), 1), state: 'done' as const };
  await records.saveOperation({ token: 1, assertHeld: () => undefined }, record);
  expect(await records.activeOperations()).toEqual(['op-1', 'op-2']);
  expect((await records.operation('op-1'))?.state).toBe('queued');
});

it('an operation that ended in a crash is retired, and does not swallow the next evacuation of its host', async () => {
  const { records, cells } = setup();
  await records.create(ask('op-1'));
  // The record was written as ended, the index was not.
  await end(cells, 'op-1');
  expect(await records.create(ask('op-2'))).toEqual({ id: 'op-1', acceptance: 'joined' });
  await records.retire('op-1');
  await records.retire('op-1');
  expect(await records.activeOperations()).toEqual([]);
  expect(await records.create(ask('op-2'))).toEqual({ id: 'op-2', acceptance: 'created' });
});

it('flags of an active operation never expire, those of an ended one do', async () => {
  const { records, cells, clock } = setup();
  await records.create(ask('op-1'));
  await records.setControl('op-1', { pause: true });
  await clock.advance(60 * 86_400_000);
  await records.retire('op-1');
  expect((await records.control('op-1')).pause).toBe(true);
  await end(cells, 'op-1');
  await records.retire('op-1');
  await clock.advance(8 * 86_400_000);
  expect((await records.control('op-1')).pause).toBe(false);
});

const fence = (token: number) => ({ token, assertHeld: () => undefined });
const move = newMove('op-1', newTask('web-1', 'a'), { id: 'op-1-1-1', destination: 'b', nowMs: 1 });

it('a worker that saves its move again does not read it first', async () => {
  const { cells } = setup();
  let reads = 0;
  const counting: CellStore = {
    read: (key) => {
      reads += 1;
      return cells.read(key);
    },
    readMany: (keys) => cells.readMany(keys),
    readGuarded: (key) => cells.readGuarded(key),
    compareAndSet: (key, version, text, options) => cells.compareAndSet(key, version, text, options),
  };
  const records = new Records(counting);
  const mine = fence(7);
  await records.saveMove(mine, { ...move, step: 'admitting' });
  reads = 0;
  await records.saveMove(mine, { ...move, step: 'preparing' });
  await records.saveMove(mine, { ...move, step: 'precopy' });
  expect(reads).toBe(0);
  expect(await records.move(move.id)).toMatchObject({ step: 'precopy', token: 7 });
});

it('a worker whose move was written by others goes on, one whose move a successor has is refused', async () => {
  const { records, cells } = setup();
  const mine = fence(7);
  await records.saveMove(mine, { ...move, step: 'admitting' });
  const { version, text } = await cells.read(`move:${move.id}`);
  await cells.compareAndSet(`move:${move.id}`, version, text);
  await records.saveMove(mine, { ...move, step: 'preparing' });
  expect(await records.move(move.id)).toMatchObject({ step: 'preparing', token: 7 });

  await records.saveMove(fence(8), { ...move, step: 'reconciling' });
  await expect(records.saveMove(mine, { ...move, step: 'precopy' })).rejects.toMatchObject({ code: 'leaseLost' });
  expect(await records.move(move.id)).toMatchObject({ step: 'reconciling', token: 8 });
});
