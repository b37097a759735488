/**
 * The guard on cgroup v2: a VM whose first vCPU has a group of libvirt's with a quota of its own, and whose second shares
 * a threaded group with others, is throttled through the guard and set free in each of the ways there are. Tells what
 * the groups looked like and how long it took.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTicksOf } from '../../../src/runtime/process-identity.ts';
import { GuardClient } from '../../../src/throttling/guard/client.ts';
import { guardPlaces } from '../../../src/throttling/guard/places.ts';
import { libvirtGroups, put, stateOf } from './groups.ts';
import { groupsOf, type Spinner, sharesOf } from './spinner.ts';

const STATE_DIR = '/tmp/state';
const FENCE = { token: 7, assertHeld: () => undefined };
/** A guard is a node, and the emulated machine takes seconds to start one; many on a busy host. */
const LIMIT_MS = 60_000;

/** How long it took, ms. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<number> {
  const begin = performance.now();
  while (!(await holds())) {
    if (performance.now() - begin > LIMIT_MS) {
      const log = readFileSync(guardPlaces(STATE_DIR).log, 'utf8');
      throw new Error(`${what}: not within ${LIMIT_MS} ms\n--- guard's log\n${log}`);
    }
    await sleep(20);
  }
  return performance.now() - begin;
}

function guardPids(): number[] {
  const running = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return running.map(Number).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('guard/main.js');
    } catch {
      // It has ended since the directory was read.
      return false;
    }
  });
}

export async function guard(spinner: Spinner) {
  const { top, vcpus, emulator } = libvirtGroups('guarded', spinner.pid, spinner.tids);
  put(vcpus[0] ?? top, 'cpu.max', '60000 80000');
  put(emulator, 'cgroup.threads', spinner.tids[1] ?? 0);
  const look = () => ({ groups: groupsOf(spinner), states: [top, emulator, ...vcpus].map(stateOf) });
  const before = look();
  /** Only when everything is as it was. */
  const restored = () => until('restored', () => JSON.stringify(look()) === JSON.stringify(before));

  // What it would tell is in the guard's log as well.
  const client = new GuardClient({ stateDir: STATE_DIR, log: () => undefined });
  const throttle = () =>
    client.set(FENCE, {
      host: 'a',
      vm: 'web-1',
      validForMs: 1_500,
      process: { pid: spinner.pid, startTicks: startTicksOf(spinner.pid) ?? 0 },
      threads: spinner.tids.map((tid) => ({ tid, cores: 0.1 })),
      share: 0.1,
      demandCores: 2,
      longestStretchMs: 300,
    });

  // The client's patience with a guard that starts is made for real machines.
  const answered = () =>
    until('a guard answers', () =>
      client.status().then(
        () => true,
        () => false,
      ),
    );

  await answered();
  await throttle();
  const during = look();
  const renewals: Promise<void>[] = [];
  const timer = setInterval(() => renewals.push(throttle()), 400);
  const shares = await sharesOf(spinner, 2_000);
  clearInterval(timer);
  await Promise.all(renewals);
  const unrenewedMs = await restored();

  await throttle();
  const [first] = guardPids();
  if (first === undefined) throw new Error('no guard runs, though it has throttled');
  process.kill(first, 'SIGKILL');
  await restored();
  await answered();
  const succeeded = !guardPids().includes(first);

  await throttle();
  const again = look();
  await client.close();
  const closedMs = await restored();
  const endedMs = await until('the guard has ended', () => guardPids().length === 0);
  return { before, during, shares, unrenewedMs, succeeded, again, closedMs, endedMs };
}
