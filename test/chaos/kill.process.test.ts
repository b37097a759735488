/**
 * `up` and all it started die at a random moment in the middle of an evacuation; started again, it ends as if nothing
 * had been. HOSTEVAC_KILL_ROUNDS says how often (default 5), HOSTEVAC_KILL_SEED repeats the moments of a run.
 */
import { expect, it } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { until } from '../support/condition.ts';
import { numbersFrom } from '../support/random.ts';
import { expectCleanEnd } from './aftermath.ts';
import { fleetText, Place } from './place.ts';

const ROUNDS = Number(process.env['HOSTEVAC_KILL_ROUNDS'] ?? 5);
const SEED = Number(process.env['HOSTEVAC_KILL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const AT_ONCE = 3;
/** Real ms after the request within which everything dies. The small ones take about 12 s, the big ones 26 s. */
const KILLED_WITHIN_MS = 14_000;
/** Killed before this, a big VM is still being copied when its next worker comes: locks of the dead last up to 15 s. */
const ADOPTED_BEFORE_MS = 7_000;

const BIG = ['big-1', 'big-2', 'big-3'];
const SMALL = Array.from({ length: 9 }, (_, index) => `small-${index + 1}`);
const VMS = [...BIG, ...SMALL];
// Six lanes of 160 MiB/s: three for the big ones, three in which the small ones follow one another.
const MAX_BANDWIDTH = '160MiB/s';
const FLEET = fleetText({
  speed: 10,
  bandwidth: '1GiB/s',
  memory: '192GiB',
  hosts: {
    'node-a': [...BIG.map((name) => ({ name, memory: '40GiB' })), ...SMALL.map((name) => ({ name, memory: '6GiB' }))],
    'node-b': [],
    'node-c': [{ name: 'other', memory: '4GiB' }],
    'node-d': [],
  },
});

async function round(killAfterMs: number): Promise<'in the middle' | 'too late'> {
  const place = new Place(FLEET);
  try {
    const killed = await place.startUp();
    const id = await place.evacuate('node-a', '--max-bandwidth', MAX_BANDWIDTH);
    await abortableSleep(killAfterMs);
    const before = await place.eyes();
    const early = await before.operation(id);
    const copying = (await before.view()).migrations.map((migration) => migration.vm);
    const recorded = (await before.moves(id)).filter((move) => move.state === 'precopy').map((move) => move.vm);
    await before.close();
    killed.signalGroup('SIGKILL');
    await killed.ended;
    await until(() => place.running().length === 0, 5_000, 'all that was killed is gone');

    const up = await place.startUp();
    const ended = await place.run('watch', id, '--timeout', '60s');
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    const eyes = await place.eyes();
    expect((await eyes.operation(id)).tasks.map(({ vm }) => vm).sort()).toEqual([...VMS].sort());
    await expectCleanEnd(eyes, id);
    const state = await eyes.view();
    expect(VMS.filter((vm) => state.starts[vm] !== 1)).toEqual([]);
    expect(Object.keys(state.hosts['node-a']?.copies ?? {})).toEqual([]);
    const adopted = (await eyes.events(id)).filter(({ kind }) => kind === 'move.adopted').map(({ vm }) => vm);
    if (killAfterMs < ADOPTED_BEFORE_MS) {
      const running = BIG.filter((vm) => copying.includes(vm) && recorded.includes(vm));
      expect(adopted).toEqual(expect.arrayContaining(running));
    }
    await eyes.close();

    up.child.kill('SIGTERM');
    expect((await up.ended).code).toBe(0);
    await until(() => place.running().length === 0, 5_000, 'nothing of ours is left');
    return early.endedAtMs === null ? 'in the middle' : 'too late';
  } catch (error) {
    const what = error instanceof Error ? error.message : error;
    throw new Error(`killed after ${killAfterMs} ms, seed ${SEED}: ${what}\n${place.said()}`, { cause: error });
  } finally {
    await place.close();
  }
}

it(
  `up is killed with all its processes ${ROUNDS} times, and every VM ends exactly once at its destination`,
  async () => {
    console.log(`HOSTEVAC_KILL_SEED=${SEED}`);
    const random = numbersFrom(SEED);
    const moments = Array.from({ length: ROUNDS }, () => Math.round(random() * KILLED_WITHIN_MS));
    const outcomes: string[] = [];
    const left = [...moments];
    const lane = async (): Promise<void> => {
      for (let moment = left.shift(); moment !== undefined; moment = left.shift()) outcomes.push(await round(moment));
    };
    const lanes = await Promise.allSettled(Array.from({ length: AT_ONCE }, lane));
    for (const one of lanes) if (one.status === 'rejected') throw one.reason;
    expect(outcomes).toEqual(moments.map(() => 'in the middle'));
  },
  60_000 + ROUNDS * 40_000,
);
