/** A guest that is held until all is sent: its standstill lasts as long as that takes. */
import { expect, test } from 'vitest';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { evacuate, host, vm, World } from '../support/world.ts';

test('forceComplete: a standstill of more than ten seconds is not called stuck while bytes move', async () => {
  const wild = vm('v1', { memory: '32GiB', dirtyRate: '40GiB/s', workingSet: '20GiB', cpuUse: 1 });
  const world = new World({ hosts: [host('a', [wild]), host('b')] });
  const crew = await world.crew();
  const id = await world.request(evacuate('a', { ...POLICY_PRESETS.emergency, maxTimeMs: 45_000 }));
  const record = await world.ended(id);
  const move = await world.move(id, 'v1');
  expect([record.state, move?.attempt, move?.reason]).toEqual(['done', 1, null]);
  expect(move?.figures.downtimeMs).toBeGreaterThan(10_000);
  expect(move?.relaxed.map(({ requirement }) => requirement)).toContain('maxStall');
  await crew.close();
});

test('a migration whose policy its new worker does not know goes on, and that is told', async () => {
  const world = new World({ hosts: [host('a', [vm('v1', { memory: '32GiB' })]), host('b')] });
  const behaviour = {
    name: 'ours',
    what: '',
    choose: () => {
      throw new Error('not asked');
    },
  };
  const crew = await world.crew({ behaviours: new Map([['ours', behaviour]]) });
  const id = await world.request(evacuate('a', { name: 'ours' }));
  await world.clock.runUntil(async () => (await world.move(id, 'v1'))?.step === 'precopy', 60_000);
  crew.kill();
  const successor = await world.crew();
  world.delivery.deliverAgain('operations', id);
  for (const { id: move } of await world.moves(id)) world.delivery.deliverAgain('moves a', move);
  expect((await world.ended(id)).state).toBe('done');
  expect((await world.told(id)).map(({ message }) => message).join()).toMatch(/does not know the policy ours/);
  await successor.close();
});
