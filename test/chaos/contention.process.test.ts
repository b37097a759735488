/** Two evacuations asked for at once by two processes, with room for one of them. */
import { afterEach, expect, it } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { expectCleanEnd } from './aftermath.ts';
import { type Eyes, fleetText, Place } from './place.ts';

const GiB = 2 ** 30;
// node-c keeps a reserve of 5%: 61 GiB, room for one of the two.
const FLEET = fleetText({
  speed: 10,
  bandwidth: '1GiB/s',
  memory: '64GiB',
  hosts: {
    'node-a': [{ name: 'one', memory: '40GiB' }],
    'node-b': [{ name: 'other', memory: '40GiB' }],
    'node-c': [],
  },
});

let place: Place;
afterEach(() => place.close());

/** Looks until it is told to stop; whatever was too much at any time. */
async function watchMemory(eyes: Eyes, signal: AbortSignal): Promise<{ looks: number; tooMuch: string[] }> {
  const tooMuch: string[] = [];
  let looks = 0;
  for (; !signal.aborted; looks += 1) {
    const state = await eyes.view();
    for (const [host, { copies, memoryBytes }] of Object.entries(state.hosts)) {
      const used = Object.keys(copies).reduce((sum, vm) => sum + (state.guests[vm]?.memoryBytes ?? 0), 0);
      if (used > memoryBytes) tooMuch.push(`${host}: ${Object.keys(copies).join(', ')}`);
    }
    const { reservations } = await eyes.stores.claims.read();
    const kept = Object.values(reservations)
      .filter(({ host }) => host === 'node-c')
      .reduce((sum, { memoryBytes }) => sum + memoryBytes, 0);
    if (kept > 64 * GiB) tooMuch.push(`node-c: reserved ${kept}`);
    await abortableSleep(25);
  }
  return { looks, tooMuch };
}

it('one is carried out, the other says what it waits for and ends blocked; nothing is ever overcommitted', async () => {
  place = new Place(FLEET);
  await place.startUp();
  const eyes = await place.eyes();
  const stop = new AbortController();
  const watching = watchMemory(eyes, stop.signal);
  const requests = ['node-a', 'node-b'].map((host) => place.run('evacuate', host, '--wait'));
  const ended = await Promise.all(requests);
  stop.abort();
  const seen = await watching;
  expect(seen.tooMuch).toEqual([]);
  expect(seen.looks).toBeGreaterThan(20);

  expect(ended.map(({ code }) => code).sort(), place.said()).toEqual([0, 4]);
  const [done, blocked] = (ended[0]?.code === 0 ? ended : ended.toReversed()).map(({ stdout }) => stdout);
  const id = /op=(\S+)/.exec(done ?? '')?.[1] ?? '';
  expect(blocked).toMatch(new RegExp(`^\\S+Z operation\\.waiting .*waits for operation ${id}`, 'm'));
  expect(blocked).toContain('operation.blocked');
  await expectCleanEnd(eyes, id);
  const state = await eyes.view();
  expect(Object.values(state.starts)).toEqual([1]);
  await eyes.close();
}, 60_000);
