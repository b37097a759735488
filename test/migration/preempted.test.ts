/** A rebalance that runs when an evacuation needs what it uses. */
import { expect, test } from 'vitest';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

const EGRESS = '200MiB/s';

function world(memory: string): World {
  return new World({
    hosts: [
      host('a', [vm('moved', { memory }), vm('urgent', { memory: '4GiB' })], { egress: EGRESS }),
      host('b', [], { ingress: EGRESS }),
    ],
  });
}

test('ends its attempt, lets the evacuation go first, and is carried out after it', async () => {
  const fleet = world('32GiB');
  await fleet.crew();
  const rebalance = await fleet.request(balance([{ vm: 'moved', to: 'b' }]));
  await fleet.reaches(rebalance, 'moved', 'precopy');
  await fleet.clock.advance(20_000);
  const evacuation = await fleet.request(evacuate('a'));
  await fleet.reaches(evacuation, 'urgent', 'precopy', 30_000);
  // It is the next in turn again: its copy waits, and it runs where it was.
  await fleet.reaches(rebalance, 'moved', 'standby', 30_000);
  expect((await fleet.copies('moved'))[0]).toBe('a:running');
  expect(await fleet.move(rebalance, 'moved')).toMatchObject({ state: 'queued', attempt: 1 });
  const ends = (await fleet.told(rebalance)).filter(({ kind }) => kind === 'move.cleaning');
  expect(ends.map(({ message }) => message)).toEqual([
    expect.stringContaining('gives way to the evacuation of urgent'),
  ]);

  expect(await fleet.ended(evacuation)).toMatchObject({ state: 'done' });
  expect(await fleet.ended(rebalance)).toMatchObject({ state: 'done' });
  expect(await fleet.copies('moved')).toEqual(['b:running']);
  expect(await fleet.copies('urgent')).toEqual(['b:running']);
});

test('gives way to nobody when it is almost done', async () => {
  const fleet = world('4GiB');
  await fleet.crew();
  const rebalance = await fleet.request(balance([{ vm: 'moved', to: 'b' }]));
  await fleet.reaches(rebalance, 'moved', 'precopy');
  await fleet.clock.runUntil(async () => {
    const etaMs = (await fleet.move(rebalance, 'moved'))?.progress?.etaMs;
    return etaMs != null && etaMs < 9_000;
  }, 60_000);
  const evacuation = await fleet.request(evacuate('a'));
  expect(await fleet.ended(rebalance)).toMatchObject({ state: 'done' });
  expect((await fleet.told(rebalance)).filter(({ message }) => message.includes('gives way'))).toEqual([]);
  expect(await fleet.ended(evacuation)).toMatchObject({ state: 'done' });
});
