/** A guard that hangs, one that only seems to, and clients that do. Real processes, real cgroups (v1). */
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { startTicksOf, thisProcess } from '../../src/runtime/process-identity.ts';
import { ownGroupName } from '../../src/throttling/cgroup/cells.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { CPU, type Guest, Place } from './place.ts';

const PROMISE_MS = 2_000;
/** Of a guard, on a busy machine. */
const RESTART_MS = 2_000;
const busy = { host: 'a', vm: 'busy' };
const hard = { ...busy, share: 0.5, validForMs: 1_800, longestStretchMs: 300 };

describeWith(['root', 'cgroup'], 'silence', () => {
  let place: Place;
  let guest: Guest;
  let home: string;
  const ownName = () => ownGroupName('a', 'busy', guest.threads.pid);
  const isThrottled = () => guest.group().endsWith(ownName());
  const isAsBefore = () => guest.group() === home && !existsSync(join(CPU, home, ownName()));
  const worker = () => place.worker({ 'a/busy': guest.threads });

  beforeEach(async () => {
    place = new Place();
    guest = await place.guest(1, 0.2);
    home = guest.group();
  });
  afterEach(() => place.close());

  test('a guard that hangs is ended by whoever needs it: the next one restores, and throttling goes on', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    const [hung = 0] = place.guards();
    process.kill(hung, 'SIGSTOP');
    await until(isAsBefore, PROMISE_MS + RESTART_MS, 'as before');
    expect(one.logs.join('\n')).toContain(`the guard (process ${hung}) did not answer and was ended`);
    await one.call('set', 1, hard);
    expect(isThrottled()).toBe(true);
    one.signalGroup('SIGKILL');
    await until(isAsBefore, PROMISE_MS, 'as before');
  });

  test('what a guard that hangs holds is lifted by `release`, though nobody else is there', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    const [hung = 0] = place.guards();
    process.kill(hung, 'SIGSTOP');
    one.signalGroup('SIGKILL');
    await until(() => one.ended, 2_000, 'end');
    expect(isThrottled()).toBe(true);
    expect(await worker().call('releaseAll', null)).toEqual({ released: [], failed: [] });
    expect(isAsBefore()).toBe(true);
    expect(place.guards()).not.toContain(hung);
  });

  test('so is one that hangs before it listens', async () => {
    mkdirSync(dirname(place.journal));
    const guardDir = dirname(place.journal);
    const hung = spawn('flock', ['--no-fork', join(guardDir, 'lock'), 'sleep', '60'], { stdio: 'ignore' });
    const pid = hung.pid ?? 0;
    try {
      await until(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith('sleep'), 2_000, 'the lock');
      hung.kill('SIGSTOP');
      const { machine } = thisProcess();
      writeFileSync(join(guardDir, 'process'), JSON.stringify({ machine, pid, startTicks: startTicksOf(pid) }));
      expect(await worker().call('status')).toEqual({ throttles: [], gates: [] });
      await until(() => hung.signalCode === 'SIGKILL', 1_000, 'its end');
    } finally {
      hung.kill('SIGKILL');
    }
  });

  test('one that hangs and cannot be ended is named, with what to do', async () => {
    await worker().call('status');
    const [pid = 0] = place.guards();
    const written = JSON.parse(readFileSync(join(dirname(place.journal), 'process'), 'utf8'));
    expect(written).toMatchObject({ pid, startTicks: startTicksOf(pid) });
    writeFileSync(
      join(dirname(place.journal), 'process'),
      JSON.stringify({ ...written, machine: 'another container' }),
    );
    const one = worker();
    process.kill(pid, 'SIGSTOP');
    try {
      await expect(one.call('status')).rejects.toMatchObject({
        code: 'throttleUnavailable',
        message: expect.stringMatching(new RegExp(`process ${pid}.* another machine or container.*kill -9 ${pid}`)),
      });
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  });

  test('a worker that did not run for a while takes no healthy guard for one that hangs', async () => {
    const one = worker();
    await one.call('hold', 1, hard);
    const [guard] = place.guards();
    for (let turn = 0; turn < 3; turn += 1) {
      one.signalGroup('SIGSTOP');
      await abortableSleep(1_500);
      const seen = one.renewals.length;
      one.signalGroup('SIGCONT');
      await until(() => one.renewals.length > seen, 2_000, 'a renewal');
    }
    expect(place.guards()).toEqual([guard]);
  });

  test('clients that say nothing take no place for long; those that find none start no guard after guard', async () => {
    const one = worker();
    await one.call('set', 1, hard);
    const silent = Array.from({ length: 256 }, () => connect(join(place.stateDir, 'guard', 'guard.sock')));
    let ended = 0;
    for (const socket of silent) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        ended += 1;
      });
    }
    await until(() => /was dropped: 256 are there/.test(place.log()), 2_000, 'a full guard');
    // Each try to start a guard is one line.
    const bin = join(place.stateDir, 'bin');
    const tries = join(bin, 'tries');
    mkdirSync(bin);
    writeFileSync(tries, '');
    const flock = execFileSync('/bin/sh', ['-c', 'command -v flock'], { encoding: 'utf8' }).trim();
    writeFileSync(join(bin, 'flock'), `#!/bin/sh\necho >> ${tries}\nexec ${flock} "$@"\n`, { mode: 0o755 });
    const PATH = `${bin}:${process.env['PATH'] ?? ''}`;
    const two = place.worker({ 'a/busy': guest.threads }, { env: { ...process.env, PATH } });
    await two.call('status');
    const tried = readFileSync(tries, 'utf8').length;
    expect(tried).toBeGreaterThan(0);
    expect(tried).toBeLessThan(8);
    await until(() => ended === silent.length, 1_000, 'end of those that said nothing');
    expect(place.log()).toContain('has not said hello');
  });
});
