/**
 * The guard's promise: whatever becomes of workers and guards, a guest has back within 2 s what it had. Real processes,
 * real cgroups (v1 here; v2 is test/kernel's), killed and stopped at random moments.
 */
import { chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { ownGroupName } from '../../src/throttling/cgroup/cells.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { numbersFrom } from '../support/random.ts';
import { CPU, type Guest, Place, quotaOf } from './place.ts';

const ROUNDS = Number(process.env['HOSTEVAC_KILL_ROUNDS'] ?? 3);
const SEED = Number(process.env['HOSTEVAC_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
/** A moment that is hit by chance is tried for so often. */
const MOST_ROUNDS = 40;
const PROMISE_MS = 2_000;
const LIMIT_MS = 120_000 + ROUNDS * 8_000;
const busy = { host: 'a', vm: 'busy' };
const hard = { ...busy, share: 0.5, validForMs: 1_800, longestStretchMs: 300 };

describeWith(['root', 'cgroup'], 'the guard', () => {
  let place: Place;
  let guest: Guest;
  let home: string;
  const ownName = () => ownGroupName('a', 'busy', guest.threads.pid);
  const own = () => join(CPU, home, ownName());
  const isThrottled = () => guest.group().endsWith(ownName());
  const isAsBefore = () => guest.group() === home && !existsSync(own());
  const worker = () => place.worker({ 'a/busy': guest.threads });

  beforeEach(async () => {
    place = new Place();
    // Busy enough to have a demand, and kind to whatever else is tested on the machine.
    guest = await place.guest(1, 0.2);
    home = guest.group();
  });
  afterEach(() => place.close());

  const timesThrottled = () => (existsSync(place.logFile) ? place.log().split(': throttled through').length - 1 : 0);
  const endGuards = () => {
    for (const pid of place.guards()) process.kill(pid, 'SIGTERM');
    return place.guards().length === 0;
  };

  const rounds = async (round: (moment: () => Promise<void>, index: number) => Promise<void>): Promise<void> => {
    const next = numbersFrom(SEED);
    for (let index = 0; index < ROUNDS; index += 1) {
      const moment = () => abortableSleep(next() * 1_000);
      await round(moment, index).catch((error) => {
        throw new Error(`round ${index}, HOSTEVAC_SEED=${SEED}: ${error.message}\n${place.log()}`, { cause: error });
      });
    }
  };

  test('a worker killed with its process group: all is as before within 2 s', { timeout: LIMIT_MS }, async () => {
    await rounds(async (moment) => {
      const one = worker();
      await one.call('hold', 1, hard);
      expect(isThrottled()).toBe(true);
      await moment();
      one.signalGroup('SIGKILL');
      await until(isAsBefore, PROMISE_MS, 'as before');
    });
  });

  test('a worker that is killed while it begins to throttle leaves nothing', { timeout: LIMIT_MS }, async () => {
    const next = numbersFrom(SEED);
    let hits = 0;
    for (let index = 0; index < ROUNDS || (hits === 0 && index < MOST_ROUNDS); index += 1) {
      const isWarm = index % 3 !== 2;
      const one = worker();
      await one.call('guestCpu', busy);
      // With a guard that runs it takes milliseconds; without one, its start.
      if (isWarm) await one.call('status');
      else await until(endGuards, 5_000, 'end of the guard');
      const delayMs = isWarm ? next() * 40 : 250 + next() * 200;
      const throttledBefore = timesThrottled();
      let answered = false;
      const ended = one.call('hold', 1, hard).then(
        () => {
          answered = true;
        },
        () => undefined,
      );
      await abortableSleep(delayMs);
      one.signalGroup('SIGKILL');
      await ended;
      await until(() => isAsBefore() && one.ended, PROMISE_MS, `as before, round ${index}, HOSTEVAC_SEED=${SEED}`);
      // The guard has throttled, and its worker never heard of it.
      if (!answered && timesThrottled() > throttledBefore) hits += 1;
    }
    expect(hits, `rounds that hit the beginning, HOSTEVAC_SEED=${SEED}`).toBeGreaterThan(0);
  });

  test('a worker that hangs loses its throttle within 2 s; awake again, its stale token writes nothing', {
    timeout: LIMIT_MS,
  }, async () => {
    await rounds(async (moment, index) => {
      // Tokens only grow, as leases' do: the guard has seen those of the rounds before.
      const token = 2 * index + 1;
      const one = worker();
      await one.call('hold', token, hard);
      await moment();
      one.signalGroup('SIGSTOP');
      await until(isAsBefore, PROMISE_MS, 'as before');
      const next = worker();
      await next.call('hold', token + 1, { ...busy, share: 0.75, validForMs: 1_800, longestStretchMs: 300 });
      const seen = one.renewals.length;
      one.signalGroup('SIGCONT');
      await until(() => one.renewals.length >= seen + 3, 5_000, 'renewals of the one that hung');
      // What was on its way when it was stopped may have been carried out before; nothing is from here on.
      expect(one.renewals.slice(seen + 1)).toEqual(one.renewals.slice(seen + 1).map(() => 'leaseLost'));
      expect(await next.call('guestCpu', busy)).toMatchObject({ share: 0.75 });
      one.signalGroup('SIGKILL');
      await until(() => one.ended, 2_000, 'end');
      expect(isThrottled()).toBe(true);
      await next.call('letGo');
      await next.call('release', token + 1, busy);
      expect(isAsBefore()).toBe(true);
      next.signalGroup('SIGKILL');
      await until(() => next.ended, 2_000, 'end');
    });
  });

  test('a killed guard: its worker starts the next one, which restores within 2 s, and throttling goes on', {
    timeout: LIMIT_MS,
  }, async () => {
    await rounds(async (moment) => {
      const one = worker();
      await one.call('set', 1, hard);
      expect(isThrottled()).toBe(true);
      await moment();
      if (!isThrottled()) await one.call('set', 1, hard);
      const [killed] = place.guards();
      process.kill(killed ?? 0, 'SIGKILL');
      await until(isAsBefore, PROMISE_MS, 'as before');
      await one.call('set', 1, hard);
      expect(isThrottled()).toBe(true);
      one.signalGroup('SIGKILL');
      await until(isAsBefore, PROMISE_MS, 'as before');
    });
  });

  test('guard and worker both killed: the next process to start has it restored, before the guard takes anything', {
    timeout: LIMIT_MS,
  }, async () => {
    await rounds(async (moment) => {
      const one = worker();
      await one.call('hold', 1, hard);
      await moment();
      const [guard] = place.guards();
      process.kill(guard ?? 0, 'SIGKILL');
      one.signalGroup('SIGKILL');
      await until(() => one.ended && !place.guards().includes(guard ?? 0), 2_000, 'both ended');
      // Either the worker died first and its guard restored, or the journal has it.
      const next = worker();
      await next.call('recover');
      expect(isAsBefore()).toBe(true);
      next.signalGroup('SIGKILL');
    });
  });

  test("a hypervisor's own vCPU group keeps its quota and period, exactly", async () => {
    const vcpu = place.group(`${home}/vcpu0`, '150000/75000');
    writeFileSync(join(vcpu, 'tasks'), String(guest.threads.tids[0]));
    const one = worker();
    await one.call('set', 1, { ...busy, share: 0.5, validForMs: 1_800, longestStretchMs: 300 });
    const [quota = 0, period = 0] = quotaOf(vcpu).split('/').map(Number);
    expect(quota / period).toBeGreaterThan(0.05);
    expect(quota / period).toBeLessThan(0.15);
    expect(guest.group()).toBe(`${home}/vcpu0`);
    expect(existsSync(join(vcpu, ownName()))).toBe(false);
    one.signalGroup('SIGKILL');
    await until(() => quotaOf(vcpu) === '150000/75000', PROMISE_MS, 'the quota of before');
    expect(guest.group()).toBe(`${home}/vcpu0`);
  });

  test('where the group above is limited itself, the share is of what the guest could use, and v1 takes the quota', async () => {
    const above = place.group(`${home}/above`, '4000/40000');
    writeFileSync(join(above, 'cgroup.procs'), String(guest.threads.pid));
    const one = worker();
    await one.call('set', 1, { ...busy, share: 0.9, validForMs: 1_800, longestStretchMs: 300 });
    expect(guest.group()).toBe(`${home}/above/${ownName()}`);
    await one.call('release', 1, busy);
    expect(guest.group()).toBe(`${home}/above`);
    expect(quotaOf(above)).toBe('4000/40000');
  });

  test('two processes: the one with the newer token throttles, and outlives the other', async () => {
    const one = worker();
    const other = worker();
    await one.call('hold', 1, hard);
    await other.call('hold', 2, { ...busy, share: 0.75, validForMs: 1_800, longestStretchMs: 300 });
    await until(() => one.renewals.includes('leaseLost'), 3_000, 'a refusal of the older one');
    one.signalGroup('SIGKILL');
    await until(() => one.ended, 2_000, 'end');
    await abortableSleep(100);
    expect(await other.call('guestCpu', busy)).toMatchObject({ share: 0.75 });
    expect(isThrottled()).toBe(true);
  });

  test('a VM that ends while it is throttled leaves nothing', async () => {
    const one = worker();
    await one.call('hold', 1, hard);
    guest.kill();
    await until(() => !existsSync(own()), PROMISE_MS + 500, 'removal of the group');
    await until(() => one.renewals.includes('hypervisorRefused'), 2_000, 'a renewal that says so');
    await until(() => !readFileSync(place.journal, 'utf8').includes('"throttle"'), 1_000, 'a journal without it');
  });

  test('a thread that somebody moved home is taken back, one that went elsewhere is left there', async () => {
    const one = worker();
    await one.call('hold', 1, hard);
    writeFileSync(join(CPU, home, 'tasks'), String(guest.threads.tids[0]));
    await until(isThrottled, 1_500, 'the thread in our group again');
    const elsewhere = place.group(`${home}/elsewhere`);
    writeFileSync(join(elsewhere, 'tasks'), String(guest.threads.tids[0]));
    const seen = one.renewals.length;
    await until(() => one.renewals.length >= seen + 2, 3_000, 'two renewals');
    expect(guest.group()).toBe(`${home}/elsewhere`);
    await one.call('letGo');
    await one.call('release', 1, busy);
    expect(guest.group()).toBe(`${home}/elsewhere`);
    expect(existsSync(own())).toBe(false);
  });

  test('threads of other ids than the VM has, or of a process that started later, are not touched', async () => {
    const stranger = await place.guest(1, 0.1);
    const one = place.worker({
      'a/busy': { ...guest.threads, startTicks: guest.threads.startTicks + 1 },
      'a/mixed': { ...guest.threads, tids: stranger.threads.tids },
    });
    await expect(one.call('set', 1, hard)).rejects.toMatchObject({ code: 'throttleUnavailable' });
    await expect(one.call('set', 1, { ...hard, vm: 'mixed' })).rejects.toMatchObject({ code: 'hypervisorRefused' });
    expect(isAsBefore()).toBe(true);
  });

  test('without a journal nothing is throttled: it cannot be written', async () => {
    mkdirSync(`${place.journal}.new`, { recursive: true });
    const one = worker();
    await expect(one.call('set', 1, hard)).rejects.toMatchObject({
      code: 'throttleUnavailable',
      message: expect.stringContaining('journal'),
    });
    expect(await one.call('unavailable', 'a')).toMatchObject({ message: expect.stringContaining('journal') });
    expect(isAsBefore()).toBe(true);
    rmSync(`${place.journal}.new`, { recursive: true });
    await one.call('set', 1, hard);
    expect(isThrottled()).toBe(true);
  });

  test('without the rights nothing is throttled, and it says what to grant', async () => {
    const nobody = { uid: 65_534 };
    chownSync(place.stateDir, nobody.uid, 0);
    const one = place.worker({ 'a/busy': guest.threads }, nobody);
    expect(await one.call('unavailable', 'a')).toMatchObject({
      code: 'throttleUnavailable',
      message: expect.stringMatching(/make a group in .* \(EACCES\): run hostevac as root/),
    });
    await expect(one.call('set', 1, hard)).rejects.toMatchObject({ code: 'throttleUnavailable' });
    expect(await one.call('guestCpu', busy)).toMatchObject({ share: 1 });
    expect(isAsBefore()).toBe(true);
  });

  test('a damaged journal is kept aside and told of; what can be read of it is restored', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    const [guard] = place.guards();
    process.kill(guard ?? 0, 'SIGSTOP');
    one.signalGroup('SIGKILL');
    process.kill(guard ?? 0, 'SIGKILL');
    await until(() => one.ended && place.guards().length === 0, 2_000, 'both ended');
    const text = readFileSync(place.journal, 'utf8');
    expect(text).toContain('"throttle"');
    writeFileSync(place.journal, `${text.replace(/\{"kind":"end"\}\n/, '')}{"kind":"thrott`);
    await worker().call('recover');
    expect(isAsBefore()).toBe(true);
    expect(place.log()).toMatch(/THE JOURNAL IS DAMAGED[\s\S]*kept as .*journal\.damaged/);
  });

  test('`release` lifts everything now and says what; tokens seen stay', async () => {
    const one = worker();
    const operator = worker();
    await one.call('set', 7, hard);
    expect(await operator.call('releaseAll', 'b')).toEqual({ released: [], failed: [] });
    expect(await operator.call('releaseAll', null)).toEqual({ released: [busy], failed: [] });
    expect(isAsBefore()).toBe(true);
    await expect(operator.call('set', 6, hard)).rejects.toMatchObject({ code: 'leaseLost' });
  });

  test('a guard with nothing to guard ends by itself, and the next need starts another', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    await one.call('release', 1, busy);
    const [first] = place.guards();
    one.signalGroup('SIGKILL');
    await until(() => place.guards().length === 0, 8_000, 'the guard has ended');
    expect(existsSync(join(place.stateDir, 'guard', 'guard.sock'))).toBe(false);
    const two = worker();
    // Whoever showed the larger token has gone: a smaller one is that of an emptied store, not a stale one.
    await two.call('set', 0, hard);
    expect(place.guards()).toHaveLength(1);
    expect(place.guards()).not.toContain(first);
  });

  test('workers that start at once share one guard', async () => {
    const workers = [worker(), worker(), worker(), worker()];
    await Promise.all(workers.map((each) => each.call('unavailable', 'a')));
    expect(place.guards()).toHaveLength(1);
  });

  test('a guard that is told to end restores first', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    const [guard] = place.guards();
    process.kill(guard ?? 0, 'SIGTERM');
    await until(() => !place.guards().includes(guard ?? 0), 2_000, 'end of the guard');
    expect(place.log()).toMatch(/restored\n.*ends: SIGTERM/);
    expect(guest.group()).toBe(home);
  });
});
