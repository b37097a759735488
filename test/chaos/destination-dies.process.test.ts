/** A destination dies while a VM is being copied to it. */
import { afterEach, expect, it } from 'vitest';
import { until } from '../support/condition.ts';
import { expectCleanEnd } from './aftermath.ts';
import { fleetText, Place } from './place.ts';

const VMS = ['vm-1', 'vm-2', 'vm-3', 'vm-4'];
// Two lanes of 128 MiB/s: each VM copies for 24 s of the fleet's time, 6 s of ours.
const FLEET = fleetText({
  speed: 4,
  bandwidth: '256MiB/s',
  memory: '64GiB',
  hosts: {
    'node-a': VMS.map((name) => ({ name, memory: '3GiB' })),
    'node-b': [],
    'node-c': [],
    'node-d': [],
  },
});

let place: Place;
afterEach(() => place.close());

it('its move is planned anew within two seconds and done elsewhere, while the siblings go on', async () => {
  place = new Place(FLEET);
  await place.startUp();
  const eyes = await place.eyes();
  const id = await place.evacuate('node-a', '--max-bandwidth', '128MiB/s');
  const copying = async () =>
    (await eyes.moves(id)).filter((move) => move.state === 'precopy' && (move.progress?.transferredBytes ?? 0) > 0);
  await until(async () => (await copying()).length >= 2, 20_000, 'two VMs being copied');
  const [victim, sibling] = await copying();
  if (victim === undefined || sibling === undefined) throw new Error('nothing is being copied any more');

  await eyes.fleet.inject({ kind: 'hostDies', host: victim.destination });
  const died = performance.now();
  const again = async () =>
    (await eyes.moves(id)).find((move) => move.vm === victim.vm && move.id !== victim.id)?.destination;
  await until(async () => (await again()) !== undefined, 10_000, 'the next attempt');
  const replannedInMs = performance.now() - died;
  expect(replannedInMs).toBeLessThan(2_000);
  expect(await again()).not.toBe(victim.destination);
  const events = await eyes.events(id);
  expect(events.filter(({ kind }) => kind === 'move.replan').map((event) => event.vm)).toContain(victim.vm);

  const ended = await place.run('watch', id, '--timeout', '90s');
  expect(ended.code, ended.stdout + ended.stderr).toBe(0);
  await expectCleanEnd(eyes, id);
  const moves = await eyes.moves(id);
  const record = (vm: string) => moves.filter((move) => move.vm === vm).map((move) => move.state);
  expect(record(victim.vm)).toEqual(['failed', 'done']);
  expect((await eyes.view()).starts[victim.vm]).toBe(2);
  // Moves to other destinations never noticed.
  for (const { vm, destination } of moves.filter((move) => move.attempt === 1)) {
    if (destination !== victim.destination) expect(record(vm), vm).toEqual(['done']);
  }
  await eyes.close();
}, 120_000);
