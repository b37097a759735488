/** What a lost operation held is given back by whoever plans next. */
import { expect, test } from 'vitest';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

test('claims of an operation that the store has lost stand in the way of nobody', async () => {
  const world = new World({ hosts: [host('a', [vm('v1')]), host('b', [vm('v2')]), host('c', [], { memory: '8GiB' })] });
  // Its record was lost, and what was written for it has arrived: it holds the VM, the only room, and the host.
  const item = { moveId: 'op-9-1-1', vm: 'v1', host: 'c', memoryBytes: 6 * 2 ** 30, cpus: 2 };
  await world.claims.claim('op-9', [item]);
  await world.claims.cordon('c', 'op-9');
  await world.claims.cordon('b', 'operator');
  await world.crew();
  const id = await world.request(evacuate('a'));
  expect(await world.ended(id)).toMatchObject({ state: 'done' });
  expect(await world.copies('v1')).toEqual(['c:running']);
  const { vms, reservations, cordons } = await world.claims.read();
  expect({ vms, reservations, cordons: Object.keys(cordons).sort() }).toEqual({
    vms: {},
    reservations: {},
    cordons: ['a', 'b'],
  });
});

test('what has left a host in a move that the store has lost is tidied once the store is doubted', async () => {
  const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
  const crew = await world.crew();
  const id = await world.request(evacuate('a'));
  await world.reaches(id, 'v1', 'precopy');
  crew.kill();
  // All of it: the operation, its move, its claims.
  world.cells.forget(world.clock.monotonic());
  await world.crew();
  await world.clock.runUntil(async () => (await world.copies('v1')).includes('b:running'), 60_000);
  await world.clock.advance(15_000);
  expect(await world.copies('v1')).toEqual(['a:postMigrate', 'b:running']);
  world.cells.forget(0);
  await world.clock.runUntil(async () => (await world.copies('v1')).length === 1, 120_000);
  expect(await world.copies('v1')).toEqual(['b:running']);
  await world.clock.advance(10_000);
  expect((await world.abandoned.read()).moves).toEqual({});
});

test('a copy that waits for a move that the store has lost is discarded once the store is doubted', async () => {
  const world = new World({ hosts: [host('a', [vm('v1'), vm('v2')]), host('b')] });
  const crew = await world.crew();
  const id = await world.request(evacuate('a'));
  await world.clock.runUntil(async () => (await world.moves(id)).some(({ step }) => step === 'standby'), 60_000);
  const waits = (await world.moves(id)).find(({ step }) => step === 'standby')?.vm ?? '';
  await world.clock.runUntil(async () => (await world.copies(waits)).includes('b:incoming'), 10_000);
  crew.kill();
  world.cells.forget(world.clock.monotonic());
  await world.crew();
  await world.clock.advance(15_000);
  expect(await world.copies(waits)).toEqual(['a:running', 'b:incoming']);
  world.cells.forget(0);
  await world.clock.runUntil(async () => (await world.copies(waits)).length === 1, 120_000);
  expect(await world.copies(waits)).toEqual(['a:running']);
});

test('so is what it left behind where its VM has gone on to a third host before anybody looked', async () => {
  const world = new World({ hosts: [host('a', [vm('v1')]), host('b'), host('c', [], { memory: '8GiB' })] });
  const crew = await world.crew();
  const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
  await world.reaches(id, 'v1', 'precopy');
  crew.kill();
  world.cells.forget(world.clock.monotonic());
  await world.crew();
  await world.clock.runUntil(async () => (await world.copies('v1')).includes('b:running'), 60_000);
  await world.claims.cordon('a', 'operator');
  // Until it is published that it has arrived: nobody expects it there.
  await world.clock.advance(5_000);
  const on = await world.request(evacuate('b'));
  expect(await world.ended(on)).toMatchObject({ state: 'done' });
  expect(await world.copies('v1')).toEqual(['a:postMigrate', 'c:running']);
  world.cells.forget(0);
  await world.clock.runUntil(async () => (await world.copies('v1')).length === 1, 120_000);
  expect(await world.copies('v1')).toEqual(['c:running']);
});
