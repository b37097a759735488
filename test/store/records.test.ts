/** Records over the in-memory store: what a crash between two writes leaves behind. */
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { newTask } from '../../src/domain/operation.ts';
import { operationId } from '../../src/domain/operation-id.ts';
import { PRESET_CATALOGUE } from '../../src/domain/policy.ts';
import { evacuation } from '../../src/operations/intake.ts';
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

describe('pages of operations', () => {
  const idAt = (ms: number): string => operationId('ev', 1_700_000_000_000 + ms, 'abcdef');

  async function kept(): Promise<{ records: Records; cells: MemoryCellStore }> {
    const { records, cells } = setup();
    for (const n of [1, 2, 3, 4, 5, 6]) await records.create({ ...ask(idAt(n)), request: evacuate(`h${n}`) });
    // The eldest is the last to end.
    for (const n of [5, 3, 1]) {
      await end(cells, idAt(n));
      await records.retire(idAt(n));
    }
    return { records, cells };
  }
  const ids = (page: readonly { readonly id: string }[]): string[] => page.map(({ id }) => id);

  it('are newest first by when they were asked for, whatever has ended, each once', async () => {
    const { records } = await kept();
    const first = await records.operationsPage({ limit: 4 });
    expect(ids(first)).toEqual([6, 5, 4, 3].map(idAt));
    expect(ids(await records.operationsPage({ limit: 4, before: idAt(3) }))).toEqual([2, 1].map(idAt));
    expect(await records.operationsPage({ limit: 4, before: idAt(1) })).toEqual([]);
    // As a screen shows them: what goes on first.
    const shown = ids(await records.recentOperations(4));
    expect([shown.slice(0, 3).sort(), shown[3]]).toEqual([[2, 4, 6].map(idAt), idAt(1)]);
  });

  it('what is asked for or ends between two pages moves no other to another page', async () => {
    const { records, cells } = await kept();
    await records.operationsPage({ limit: 3 });
    await records.create({ ...ask(idAt(7)), request: evacuate('h7') });
    await end(cells, idAt(4));
    await records.retire(idAt(4));
    expect(ids(await records.operationsPage({ limit: 3, before: idAt(4) }))).toEqual([3, 2, 1].map(idAt));
  });

  it('go on behind one that has expired, leave out those that have, and only those in the states asked for', async () => {
    const { records, cells } = await kept();
    const { version } = await cells.read(`operation:${idAt(5)}`);
    await cells.compareAndSet(`operation:${idAt(5)}`, version, null);
    expect(ids(await records.operationsPage({ limit: 2, before: idAt(5) }))).toEqual([4, 3].map(idAt));
    expect(
      ids(await records.operationsPage({ limit: 2, before: operationId('lb', 1_700_000_000_005, '000000') })),
    ).toEqual([4, 3].map(idAt));
    expect(ids(await records.operationsPage({ limit: 3 }))).toEqual([6, 4, 3].map(idAt));
    expect(ids(await records.operationsPage({ limit: 3, states: ['done'] }))).toEqual([3, 1].map(idAt));
  });
});

it('an approval is forgotten only if it is the one that is void', async () => {
  const { records } = setup();
  await records.create(ask('op-1'));
  expect((await records.control('op-1')).approved).toBeNull();
  await records.setControl('op-1', { approved: 'b' });
  expect(await records.forgetApproval('op-1', 'a')).toBe(false);
  expect((await records.control('op-1')).approved).toBe('b');
  expect(await records.forgetApproval('op-1', 'b')).toBe(true);
  expect((await records.control('op-1')).approved).toBeNull();
});

it('what is not asked for is not written: a version that does not know it reads the request', async () => {
  const { request } = evacuation(
    { host: 'node-a' },
    { hosts: null, vms: null, vmsOn: new Map(), policies: PRESET_CATALOGUE },
  );
  const clock = new VirtualClock();
  const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
  const records = new Records(cells);
  const lease = { token: 1, assertHeld: () => undefined, held: () => true };
  await records.create({ id: 'op-1', request, createdAtMs: 1, idempotencyKey: 'key' });
  const record = await records.operation('op-1');
  if (record === null) throw new Error('it is not there');
  await records.saveOperation(lease, record);
  for (const key of ['index', 'operation:op-1']) expect((await cells.read(key)).text).not.toContain('approveFirst');
  // One that an earlier process kept with it is the same request.
  const again = { id: 'op-2', request: { ...request, approveFirst: false }, createdAtMs: 2, idempotencyKey: 'key' };
  expect(await records.create(again)).toEqual({ id: 'op-1', acceptance: 'repeated' });
});
