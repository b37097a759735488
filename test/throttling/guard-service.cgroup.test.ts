/** The guard as a service manager runs it: it stays, it stands by for one of a worker's, and workers start none beside it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { CPU, GUARD_ENTRY, type Guest, Place } from './place.ts';

const UNIT = fileURLToPath(new URL('../../docs/deploy/systemd/hostevac-guard.service', import.meta.url));
const VM = { host: 'a', vm: 'busy' };
const TERMS = { ...VM, share: 0.3, validForMs: 1_800, longestStretchMs: 300 };

describeWith(['root', 'cgroup'], 'a guard that a service manager runs', () => {
  let place: Place;
  let guest: Guest;
  let home: string;
  const services: ChildProcess[] = [];
  beforeEach(async () => {
    place = new Place();
    mkdirSync(join(place.stateDir, 'guard'), { mode: 0o700 });
    guest = await place.guest(1, 0.8);
    home = guest.group();
  });
  afterEach(async () => {
    await place.close();
    for (const service of services.splice(0)) service.kill('SIGKILL');
  });

  /** As the unit does it, with the places of this test. */
  const service = (): ChildProcess => {
    const line = /^ExecStart=(.*)$/m.exec(readFileSync(UNIT, 'utf8'))?.[1] ?? '';
    const [program = '', ...args] = line
      .replaceAll('/var/lib/hostevac', place.stateDir)
      .replace('/usr/bin/node', process.execPath)
      .replace(/\S+main\.js/, GUARD_ENTRY)
      .split(' ');
    const child = spawn(program, args, { stdio: 'ignore', detached: true });
    services.push(child);
    return child;
  };
  const marked = (): boolean => existsSync(join(place.stateDir, 'guard', 'service'));
  const free = (): boolean => guest.group() === home;

  test('killed while a guest is held back, it is started by nobody but its manager, and then restores at once', async () => {
    const first = service();
    await until(marked, 10_000, 'a guard that is a service');
    const worker = place.worker({ 'a/busy': guest.threads });
    await worker.call('set', 1, TERMS);
    expect(free()).toBe(false);
    expect(place.guards()).toEqual([first.pid]);
    first.kill('SIGKILL');
    await until(() => place.guards().length === 0, 5_000, 'its end');
    await expect(worker.call('set', 1, TERMS)).rejects.toMatchObject({
      code: 'throttleUnavailable',
      message: expect.stringContaining('systemctl start hostevac-guard'),
    });
    expect(place.guards()).toEqual([]);
    expect(free()).toBe(false);
    const next = service();
    const since = performance.now();
    await until(free, 5_000, 'the restoration');
    expect(performance.now() - since).toBeLessThan(2_000);
    await worker.call('set', 1, TERMS);
    expect(place.guards()).toEqual([next.pid]);
    expect(existsSync(join(CPU, home))).toBe(true);
  });

  test('beside a guard that a worker has started it stands by; when both are killed it restores within two seconds', async () => {
    const worker = place.worker({ 'a/busy': guest.threads });
    await worker.call('set', 1, TERMS);
    const [theirs = 0] = place.guards();
    service();
    worker.signalGroup('SIGKILL');
    process.kill(theirs, 'SIGKILL');
    const since = performance.now();
    await until(free, 5_000, 'the restoration');
    expect(performance.now() - since).toBeLessThan(2_000);
    expect(marked()).toBe(true);
  });
});
