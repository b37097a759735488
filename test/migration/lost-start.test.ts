/** A running migration whose beginning the store has lost still has only its max time. */
import { expect, test } from 'vitest';
import { evacuate, host, vm, World } from '../support/world.ts';

test('its time counts from when it was adopted, so that one that never converges ends', async () => {
  const endless = vm('v1', { memory: '2GiB', dirtyRate: '2GiB/s', workingSet: '2GiB', cpuUse: 1 });
  const world = new World({ hosts: [host('a', [endless], { egress: '200MiB/s' }), host('b')] });
  const crew = await world.crew();
  const policy = { controller: 'rfc2011', maxTimeMs: 30_000, minCpuShare: 0.9, maxAttempts: 1 } as const;
  const id = await world.request(evacuate('a', policy));
  const move = await world.reaches(id, 'v1', 'precopy');
  crew.kill();
  const fence = { token: move.token, assertHeld: () => undefined };
  await world.records.saveMove(fence, { ...move, startedAtMs: null, migrateSent: false });
  const adoptedAtMs = world.clock.now();
  await world.crew();
  world.delivery.deliverAgain('operations', id);
  world.delivery.deliverAgain('moves a', move.id);
  expect((await world.ended(id, 300_000)).tasks).toMatchObject([{ reason: { code: 'maxTimeExceeded' } }]);
  const ended = await world.move(id, 'v1');
  expect(ended?.startedAtMs).toBeGreaterThanOrEqual(adoptedAtMs);
  expect(await world.copies('v1')).toEqual(['a:running']);
});
