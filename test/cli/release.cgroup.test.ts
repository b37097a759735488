/** `hostevac release` as an operator uses it: beside a worker that throttles a real guest. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ownGroupName } from '../../src/throttling/cgroup/cells.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { CPU, type Guest, Place } from '../throttling/place.ts';
import { Command, type Ended, userEnv } from './spawn.ts';

const VM = { host: 'a', vm: 'busy' };

describeWith(['root', 'cgroup'], 'hostevac release', () => {
  let place: Place;
  let guest: Guest;
  let home: string;
  beforeEach(async () => {
    place = new Place();
    guest = await place.guest(1, 0.2);
    home = guest.group();
  });
  afterEach(() => place.close());

  const release = (...args: string[]): Promise<Ended> =>
    new Command(['release', ...args], { env: userEnv(place.stateDir), cwd: place.stateDir }).ended;

  test('where nothing was ever throttled it says so, and starts no guard', async () => {
    expect(await release()).toMatchObject({ code: 0, stdout: 'nothing is throttled\n' });
    expect(place.guards()).toEqual([]);
  });

  test('a throttled guest has its CPU back at once, and is named', async () => {
    const worker = place.worker({ 'a/busy': guest.threads });
    let said: unknown;
    // On a busy machine a throttle may have run out by itself before the command has started: then once more.
    await until(
      async () => {
        await worker.call('set', 1, { ...VM, share: 0.5, validForMs: 1_800, longestStretchMs: 300 });
        expect(guest.group()).not.toBe(home);
        const ended = await release('-o', 'json');
        expect(ended.code).toBe(0);
        expect(guest.group()).toBe(home);
        said = JSON.parse(ended.stdout);
        return !ended.stdout.includes('"released":[]');
      },
      30_000,
      'a throttle that was still in force',
    );
    expect(said).toEqual({ released: [VM], failed: [] });
    expect(existsSync(join(CPU, home, ownGroupName('a', 'busy', guest.threads.pid)))).toBe(false);
  });

  test('a host that the fleet does not have is no host to release', async () => {
    expect(await release('nowhere')).toMatchObject({ code: 2 });
  });
});
