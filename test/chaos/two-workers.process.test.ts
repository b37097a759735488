/** Two workers serve the same hosts; one stands still longer than its locks last, and then goes on as if nothing were. */
import { afterEach, expect, it } from 'vitest';
import { QUEUE_TIMES } from '../../src/queue/bullmq-delivery.ts';
import { LEASE_TTL_MS } from '../../src/store/held-lease.ts';
import { until } from '../support/condition.ts';
import { expectCleanEnd } from './aftermath.ts';
import { fleetText, Place } from './place.ts';

// Each of the big ones copies for 250 s of the fleet's time: 25 s, longer than any lock lasts.
const BIG = ['big-1', 'big-2'];
const SMALL = ['small-1', 'small-2', 'small-3'];
const FLEET = fleetText({
  speed: 10,
  bandwidth: '512MiB/s',
  memory: '256GiB',
  hosts: {
    'node-a': [...BIG.map((name) => ({ name, memory: '62GiB' })), ...SMALL.map((name) => ({ name, memory: '2GiB' }))],
    'node-b': [],
    'node-c': [],
  },
});

let place: Place;
afterEach(() => place.close());

it('a worker stopped past its lock and continued drives no VM that another has taken over', async () => {
  place = new Place(FLEET);
  const args = ['worker', '--hosts', 'node-a,node-b,node-c', '--operations'];
  const first = place.start(...args);
  await first.says('serving');
  const second = place.start(...args);
  await second.says('serving');
  const eyes = await place.eyes();
  const id = await place.evacuate('node-a', '--max-bandwidth', '256MiB/s');
  const copying = async (): Promise<string | undefined> =>
    (await eyes.moves(id)).find((move) => move.state === 'precopy' && BIG.includes(move.vm))?.vm;
  await until(async () => (await copying()) !== undefined, 20_000, 'a big VM being copied');
  const vm = (await copying()) ?? '';
  const stopped = (await eyes.driverOf(vm)) === first.pid ? first : second;
  const other = stopped === first ? second : first;
  const token = (await eyes.view()).tokens[vm] ?? 0;

  stopped.child.kill('SIGSTOP');
  const stoppedAt = performance.now();
  const past = Math.max(LEASE_TTL_MS, QUEUE_TIMES.lockMs) + 1_000;
  try {
    await until(async () => (await eyes.driverOf(vm)) === other.pid, 25_000, `${vm} taken over`);
    await until(() => performance.now() - stoppedAt > past, past + 1_000, 'longer than the lock lasts');
    expect((await eyes.view()).migrations.map((one) => one.vm)).toContain(vm);
  } finally {
    stopped.child.kill('SIGCONT');
  }

  const ended = await place.run('watch', id, '--timeout', '90s');
  expect(ended.code, ended.stdout + ended.stderr).toBe(0);
  await expectCleanEnd(eyes, id);
  const state = await eyes.view();
  for (const one of [...BIG, ...SMALL]) expect(state.starts[one], one).toBe(1);
  expect(state.tokens[vm]).toBeGreaterThan(token);
  // One write may have been on its way when its worker was stopped, and was refused; who noticed sends no second one.
  for (const one of [...BIG, ...SMALL]) {
    const stale = state.history.filter(
      ({ command, refusal }) => command.kind !== 'fault' && command.vm === one && refusal?.code === 'leaseLost',
    );
    expect(stale.length, one).toBeLessThanOrEqual(1);
  }
  // What was carried out came from one driver after another, never from a former one again.
  for (const one of [...BIG, ...SMALL]) {
    const tokens = state.history.flatMap(({ command, refusal }) =>
      command.kind !== 'fault' && command.vm === one && refusal === null ? [command.token] : [],
    );
    expect(tokens, one).toEqual(tokens.toSorted((a, b) => a - b));
    expect(tokens.length, one).toBeGreaterThan(0);
  }
  expect((await eyes.events(id)).filter(({ kind }) => kind === 'move.adopted').map((event) => event.vm)).toContain(vm);
  await eyes.close();

  // Both are fit for service afterwards and end when asked; the owner of the Redis last, so that nobody starts another.
  const owner = first;
  for (const worker of [second, owner]) {
    worker.child.kill('SIGTERM');
    expect((await worker.ended).code, worker.stderr).toBe(0);
  }
  await until(() => place.running().length === 0, 5_000, 'nothing of ours is left');
}, 150_000);
