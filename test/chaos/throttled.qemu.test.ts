/**
 * Workers and guards that die, or stand still, while they throttle a real guest. HOSTEVAC_KILL_ROUNDS says how often each
 * (default 2), HOSTEVAC_KILL_SEED repeats the moments of a run.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { migrateAnswer } from '../../src/hypervisors/qemu/answers.ts';
import type { ProfileName } from '../../src/lab/profiles.ts';
import type { Command } from '../cli/spawn.ts';
import { asking } from '../lab/place.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { numbersFrom } from '../support/random.ts';
import type { HeldBack } from './held-back.ts';
import { standstillMs, steering, tracedOf, traceQemus } from './qmp-log.ts';
import { SOURCE, ThrottledPlace } from './throttled-place.ts';

const ROUNDS = Number(process.env['HOSTEVAC_KILL_ROUNDS'] ?? 2);
const SEED = Number(process.env['HOSTEVAC_KILL_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const AT_ONCE = 2;
/** The promise. */
const BACK_WITHIN_MS = 2_000;
/** Unthrottled it never ends at this rate, also on a machine so busy that it gets a tenth; throttled within some seconds. */
const LIMITS = ['--max-bandwidth', '14MiB/s', '--min-cpu', '0.05'];
const HOT = 'hot-1';
const MIB = 2 ** 20;
/**
 * Max stall, what the guard takes to see that a worker has gone and to say the word on a busy machine, and QEMU's backlog of
 * zero pages: 149 to 674 ms seen.
 */
const STANDSTILL_MS = 1_000;
const LIMIT_MS = 30_000 + Math.ceil(ROUNDS / AT_ONCE) * 120_000;

interface Round {
  readonly place: ThrottledPlace;
  /** Every other round. */
  readonly odd: boolean;
  readonly random: () => number;
}

/** All rounds of one kind; their figures are told, and every failure. */
async function rounds(what: string, profiles: readonly ProfileName[], play: (round: Round) => Promise<number>) {
  console.log(`${what}: HOSTEVAC_KILL_SEED=${SEED}`);
  const figures: { readonly even: number[]; readonly odd: number[] } = { even: [], odd: [] };
  const failures: string[] = [];
  const left = Array.from({ length: ROUNDS }, (_, index) => index);
  const lane = async (): Promise<void> => {
    for (let index = left.shift(); index !== undefined; index = left.shift()) {
      const place = new ThrottledPlace();
      const odd = index % 2 === 1;
      try {
        await place.begin(profiles);
        figures[odd ? 'odd' : 'even'].push(Math.round(await play({ place, odd, random: numbersFrom(SEED + index) })));
      } catch (error) {
        const told = error instanceof Error ? error.stack : error;
        failures.push(`${what}, round ${index}, seed ${SEED}: ${told}\n${place.said()}`);
        console.error(failures.at(-1));
      } finally {
        await place.close();
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: AT_ONCE }, lane));
  const [even, odd] = [figures.even, figures.odd].map((each) => each.sort((one, other) => one - other));
  console.log(`${what}: ms, even rounds ${even?.join(' ')}, odd ones ${odd?.join(' ')}; ${failures.length} failed`);
  for (const one of lanes) if (one.status === 'rejected') failures.push(`${what}, afterwards: ${one.reason}`);
  if (failures.length > 0) throw new Error(failures.join('\n\n'));
}

/** Waits for a throttle, and then for a random moment of it. */
async function throttledFor(heldBack: HeldBack, moment: number): Promise<void> {
  await until(() => heldBack.group !== null, 60_000, 'a throttle');
  await abortableSleep(moment);
  await until(() => heldBack.group !== null, 20_000, 'a throttle in force at the moment chosen');
}

/** How long after `sinceMs` (performance.now) the guest has its quota back. */
async function backAfter(heldBack: HeldBack, sinceMs: number): Promise<number> {
  await until(() => heldBack.original, 20_000, 'the quota is back');
  const backMs = performance.now() - sinceMs;
  expect(backMs).toBeLessThan(BACK_WITHIN_MS);
  return backMs;
}

const adoptions = async (place: ThrottledPlace, id: string) =>
  (await place.events(id)).filter(({ kind, vm }) => kind === 'move.adopted' && vm === HOT);

async function endsWhenAsked(worker: Command): Promise<void> {
  worker.child.kill('SIGTERM');
  expect((await worker.ended).code, worker.stderr).toBe(0);
}

async function workerKilled({ place, odd, random }: Round): Promise<number> {
  const heldBack = await place.watchQuota(HOT, odd);
  const killed = await place.startUp();
  const id = await place.evacuate(SOURCE, ...LIMITS);
  await throttledFor(heldBack, random() * 2_000);
  const sinceMs = performance.now();
  killed.signalGroup('SIGKILL');
  const backMs = await backAfter(heldBack, sinceMs);

  const up = await place.startUp();
  await place.endsWell(id);
  expect(await adoptions(place, id)).toHaveLength(1);
  await endsWhenAsked(up);
  return backMs;
}

async function workerStopped({ place, odd, random }: Round): Promise<number> {
  const heldBack = await place.watchQuota(HOT, !odd);
  const stopped = await place.startWorker();
  const id = await place.evacuate(SOURCE, ...LIMITS);
  await throttledFor(heldBack, random() * 2_000);
  const sinceMs = performance.now();
  const stoppedAtMs = Date.now();
  stopped.child.kill('SIGSTOP');
  const backMs = await backAfter(heldBack, sinceMs);
  const backAtMs = Date.now();

  const other = await place.startWorker();
  if (odd) {
    // Its lease has run out, and the lock of its job, for which the other one waits, has not.
    const continuedMs = 5_200 + random() * 4_300;
    await until(() => performance.now() - sinceMs > continuedMs, continuedMs + 1_000);
    stopped.child.kill('SIGCONT');
  } else {
    // By the other one, before it does anything.
    expect((await stopped.ended).signal).toBe('SIGKILL');
  }
  await place.endsWell(id);
  expect((await place.events(id)).some(({ kind }) => kind === 'move.predecessorEnded')).toBe(!odd);

  const [adopted, ...more] = await adoptions(place, id);
  expect(more).toEqual([]);
  // Whoever adopts has the lease; until then nobody wrote. What was on its way at the stop arrived at once.
  const adoptedAtMs = adopted?.atMs ?? 0;
  const between = ({ atMs }: { readonly atMs: number }): boolean => atMs > stoppedAtMs + 50 && atMs < adoptedAtMs;
  expect(adoptedAtMs).toBeGreaterThan(backAtMs);
  expect(steering(tracedOf(place.home, HOT)).filter(between)).toEqual([]);
  expect(place.guardLog().filter((line) => between(line) && / throttled /.test(line.text))).toEqual([]);
  if (odd) await endsWhenAsked(stopped);
  await endsWhenAsked(other);
  return backMs;
}

/** Every other time the worker is killed with it, and the next worker is the first to come. */
async function guardKilled({ place, odd, random }: Round): Promise<number> {
  const heldBack = await place.watchQuota(HOT, odd);
  const worker = await place.startUp();
  const id = await place.evacuate(SOURCE, ...LIMITS);
  await throttledFor(heldBack, random() * 2_000);
  const guard = place.guardPid();
  const before = heldBack.group;
  const killedAtMs = Date.now();
  process.kill(guard, 'SIGKILL');
  let up = worker;
  if (odd) {
    worker.signalGroup('SIGKILL');
    await worker.ended;
    // Nobody is left who could lift it.
    expect(heldBack.group).toBe(before);
    up = await place.startUp();
    expect(heldBack.original).toBe(true);
  } else {
    await until(() => heldBack.group !== before, 20_000, 'the quota is back');
    expect(Date.now() - killedAtMs).toBeLessThan(BACK_WITHIN_MS);
  }
  await place.endsWell(id);

  const after = place.guardLog().filter(({ pid }) => pid !== guard);
  const words = after.map(({ text }) => text.replace(/ through .*| process .*/, ''));
  const first = ['starts,', `${SOURCE}/${HOT}: restoring what an earlier guard left`, `${SOURCE}/${HOT}: restored`];
  expect(words.slice(0, 3)).toEqual(first);
  expect(words.slice(3)).toContain(`${SOURCE}/${HOT}: throttled`);
  // From the kill; where nobody was left, from when there was a guard again.
  const backMs = (after[2]?.atMs ?? 0) - (odd ? (after[0]?.atMs ?? 0) : killedAtMs);
  expect(backMs).toBeLessThan(BACK_WITHIN_MS);
  expect(await adoptions(place, id)).toHaveLength(odd ? 1 : 0);
  await endsWhenAsked(up);
  return backMs;
}

/** The longest time that a guest stood still, of all that were moved. */
async function killedAtTheGate({ place, odd, random }: Round): Promise<number> {
  const vms = place.manifest.guests.map(({ name }) => name);
  const copy = place.only(vms[0] ?? '');
  const killed = await place.startUp();
  const id = await place.evacuate(SOURCE, '--max-bandwidth', '16MiB/s');
  const remaining = async (): Promise<number> => {
    const { ram } = await asking(copy.dir.spare, (qmp) => qmp.execute('query-migrate', migrateAnswer));
    return ram?.remaining ?? Number.POSITIVE_INFINITY;
  };
  await until(async () => (await remaining()) < 6 * MIB, 60_000, 'the last bytes');
  if (odd) await abortableSleep(random() * 500);
  else {
    // Held still until QEMU waits for its last word, so that the kill cannot come too late.
    killed.child.kill('SIGSTOP');
    const waits = (): boolean =>
      tracedOf(place.home, copy.vm).some((one) => one.kind === 'migration' && one.state === 'pre-switchover');
    await until(waits, 10_000, 'the gate');
  }
  killed.signalGroup('SIGKILL');

  const up = await place.startUp();
  await place.endsWell(id);
  const longest = Math.max(...vms.map((vm) => standstillMs(tracedOf(place.home, vm), SOURCE)));
  expect(longest).toBeLessThan(STANDSTILL_MS);
  await endsWhenAsked(up);
  return longest;
}

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'while a real guest is throttled', () => {
  let untrace = (): void => undefined;
  beforeAll(() => {
    untrace = traceQemus();
  });
  afterAll(() => untrace());

  test(
    "the worker's process group is killed: quota back, migration adopted and finished",
    async () => {
      await rounds('worker killed', ['hot', 'idle'], workerKilled);
    },
    LIMIT_MS,
  );

  test(
    'the worker is stopped: quota back; ended or continued, it writes nothing more',
    async () => {
      await rounds('worker stopped', ['hot', 'idle'], workerStopped);
    },
    LIMIT_MS,
  );

  test(
    'the guard is killed: the next one restores before anything else',
    async () => {
      await rounds('guard killed', ['hot', 'idle'], guardKilled);
    },
    LIMIT_MS,
  );

  test(
    'the worker is killed as its guest waits for the switchover: the guest does not wait for the next one',
    async () => {
      await rounds('killed at the gate', ['idle', 'idle'], killedAtTheGate);
    },
    LIMIT_MS,
  );
});
