/** Migrations out of a source: whose they are, who may steer them, how they end, and what is left of the VM there. */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import type { Gatekeeper } from '../../../src/hypervisors/qemu/gatekeeper.ts';
import type { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { processByPidFile } from '../../../src/hypervisors/qemu/process.ts';
import type { Qmp } from '../../../src/hypervisors/qemu/qmp/qmp.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { startTicksOf, thisProcess } from '../../../src/runtime/process-identity.ts';
import { GuardClient } from '../../../src/throttling/guard/client.ts';
import { GuardGatekeeper } from '../../../src/throttling/guard-gatekeeper.ts';
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { GUARD_ENTRY, Place } from '../../throttling/place.ts';
import { heldFence } from '../hypervisor-behaviour.ts';
import { Hosts, MIB } from './hosts.ts';

const fence = heldFence(5);
const slow = { bandwidthBytesPerSec: 5 * MIB, downtimeLimitMs: 50, postCopy: false };
const fast = { bandwidthBytesPerSec: 200 * MIB, downtimeLimitMs: 300, postCopy: false };
const quick = { vm: 'quick', source: 'a', destination: 'b', migrationId: 'm1' };
const endless = { ...quick, vm: 'endless' };
const REFUSED = { code: 'hypervisorRefused' };

/** Notes what it is told. */
class Gate implements Gatekeeper {
  readonly told: string[] = [];
  async open({ host, vm, monitor }: { host: string; vm: string; monitor: string }): Promise<void> {
    this.told.push(`open ${host} ${vm} ${monitor}`);
  }
  async abandon({ host, vm }: { host: string; vm: string }): Promise<void> {
    this.told.push(`abandon ${host} ${vm}`);
  }
  async close({ host, vm }: { host: string; vm: string }): Promise<void> {
    this.told.push(`close ${host} ${vm}`);
  }
}

describeWith(['qemu'], 'a migration out of a source', () => {
  let hosts: Hosts;
  let one: QemuHypervisor;
  let other: QemuHypervisor;
  beforeEach(() => {
    hosts = new Hosts(['a', 'b', 'c']);
    one = hosts.adapter();
    other = hosts.adapter();
  });
  afterEach(() => hosts.close());

  const guests = (...names: readonly ('quick' | 'endless')[]) =>
    Promise.all(names.map((name) => hosts.byHand('a', { name, busy: name === 'endless' })));
  const begin = async (target: typeof quick, limits: typeof slow, by = one): Promise<void> => {
    await by.prepareDestination(fence, target);
    await by.startMigration(fence, { ...target, ...limits });
  };
  const statusOf = async (vm: string, by = one) => (await by.sample('a', vm))?.status;
  const reaches = (vm: string, status: string, by = one) =>
    until(async () => (await statusOf(vm, by)) === status, 20_000, `${vm} ${status}`);
  const atB = async (vm: string) => {
    const sighting = await other.look('b', vm);
    return sighting.present ? sighting.state : 'absent';
  };
  const asked = async <T>(dirName: string, work: (qmp: Qmp) => Promise<T>): Promise<T> => {
    const qmp = await hosts.connect('a', dirName, 'spare.sock');
    try {
      return await work(qmp);
    } finally {
      qmp.close();
    }
  };
  const end = async (host: string, name: string): Promise<void> => {
    const found = processByPidFile(vmDir(hosts.dir(host, name)));
    if (found === undefined) throw new Error(`${name} does not run at ${host}`);
    process.kill(found.pid, 'SIGKILL');
    await until(() => processByPidFile(vmDir(hosts.dir(host, name))) === undefined, 5_000);
  };

  test('is known by its id to a process that did not start it, and that process may steer it', async () => {
    await guests('endless');
    await begin(endless, slow);
    expect(await other.look('a', 'endless')).toMatchObject({ outgoing: { migrationId: 'm1', destination: 'b' } });
    await other.setBandwidth(fence, 'a', 'endless', 9 * MIB);
    await other.setDowntimeLimit(fence, 'a', 'endless', 77);
    const parameters = await asked('endless', (qmp) => qmp.execute('query-migrate-parameters', z.looseObject({})));
    expect(parameters).toMatchObject({
      'max-bandwidth': 9 * MIB,
      'max-postcopy-bandwidth': 9 * MIB,
      'downtime-limit': 77,
    });
    await other.setBandwidth(fence, 'a', 'endless', 0);
    expect(await asked('endless', (qmp) => qmp.execute('query-migrate-parameters', z.looseObject({})))).toMatchObject({
      'max-bandwidth': 1,
    });
  });

  test('that somebody else started is foreign: seen, not steered, not ended', async () => {
    await guests('endless');
    // Ours before, ended: its record does not make the next one ours.
    await begin(endless, slow);
    await one.cancelMigration(fence, 'a', 'endless');
    expect(await one.look('a', 'endless')).toMatchObject({ outgoing: { status: 'cancelled', migrationId: 'm1' } });
    await until(async () => (await atB('endless')) === 'absent', 10_000);

    await one.prepareDestination(fence, endless);
    const { incoming } = JSON.parse(readFileSync(join(hosts.dir('b', 'endless'), 'incoming.json'), 'utf8'));
    await asked('endless', (qmp) => qmp.execute('migrate', z.unknown(), { uri: `tcp:127.0.0.1:${incoming.port}` }));
    await reaches('endless', 'active');
    expect(await one.look('a', 'endless')).toMatchObject({
      outgoing: { status: 'active', migrationId: null, destination: null },
    });
    await expect(one.startMigration(fence, { ...endless, ...slow })).rejects.toMatchObject(REFUSED);
    await expect(one.setBandwidth(fence, 'a', 'endless', MIB)).rejects.toMatchObject(REFUSED);
    await expect(one.cancelMigration(fence, 'a', 'endless')).rejects.toMatchObject(REFUSED);
    expect(await statusOf('endless')).toBe('active');
  });

  test('is not driven with a stale token, at either end', async () => {
    await guests('endless', 'quick');
    await begin(endless, slow);
    const stale = heldFence(4);
    // As the process that started it would have.
    const shownByAnother = (host: string, vm: string) => {
      const { ppid: pid } = process;
      const token = { token: 5, machine: thisProcess().machine, pid, startTicks: startTicksOf(pid) };
      writeFileSync(join(hosts.dir(host, vm), 'token'), JSON.stringify(token));
    };
    shownByAnother('a', 'endless');
    const lost = { code: 'leaseLost' };
    await expect(other.setBandwidth(stale, 'a', 'endless', 99 * MIB)).rejects.toMatchObject(lost);
    await expect(other.cancelMigration(stale, 'a', 'endless')).rejects.toMatchObject(lost);
    await one.prepareDestination(fence, quick);
    shownByAnother('b', 'quick');
    await expect(other.discardIncoming(stale, 'b', 'quick')).rejects.toMatchObject(lost);
    await one.startMigration(fence, { ...quick, ...fast });
    await reaches('quick', 'completed');
    await until(async () => (await atB('quick')) === 'running', 5_000);
    await expect(other.keepDefinition(stale, 'b', 'quick')).rejects.toMatchObject(lost);
    shownByAnother('a', 'quick');
    await expect(other.retire(stale, 'a', 'quick')).rejects.toMatchObject(lost);
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'postMigrate' });
    expect(await statusOf('endless')).toBe('active');
    const parameters = await asked('endless', (qmp) => qmp.execute('query-migrate-parameters', z.looseObject({})));
    expect(parameters).toMatchObject({ 'max-bandwidth': 5 * MIB });
  });

  test('keeps the counters it had when it was cancelled', async () => {
    await guests('endless');
    await begin(endless, slow);
    await until(async () => ((await one.sample('a', 'endless'))?.transferredBytes ?? 0) > MIB, 10_000);
    const before = await one.sample('a', 'endless');
    await one.cancelMigration(fence, 'a', 'endless');
    const after = await one.sample('a', 'endless');
    expect(after).toMatchObject({ status: 'cancelled', failure: null, totalBytes: before?.totalBytes });
    expect(after?.transferredBytes).toBeGreaterThanOrEqual(before?.transferredBytes ?? Number.NaN);
  });

  test('whose destination dies has failed by the link, and the VM runs on', async () => {
    await guests('endless');
    await begin(endless, slow);
    await reaches('endless', 'active');
    await end('b', 'endless');
    await reaches('endless', 'failed');
    expect(await one.sample('a', 'endless')).toMatchObject({ status: 'failed', failure: { code: 'linkFailed' } });
    expect(await one.look('a', 'endless')).toMatchObject({ state: 'running', outgoing: { status: 'failed' } });
    expect(await atB('endless')).toBe('absent');
    // And elsewhere it goes.
    await begin({ ...endless, destination: 'c', migrationId: 'm2' }, { ...fast, downtimeLimitMs: 2_000 });
    await reaches('endless', 'completed');
  });

  test("whose copy cannot take it says the copy's own words", async () => {
    // It runs with a device that its definition does not name.
    await hosts.byHand('a', { name: 'quick', extra: ['-device', 'virtio-rng-pci'] });
    await begin(quick, fast);
    await reaches('quick', 'failed');
    expect((await one.sample('a', 'quick'))?.failure?.message).toMatch(/its copy at b said: .*virtio-rng/);
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'running' });
  });

  test('does not begin to a copy that was made before the guest was started again', async () => {
    await guests('quick');
    await one.prepareDestination(fence, quick);
    await end('a', 'quick');
    rmSync(hosts.dir('a', 'quick'), { recursive: true });
    await hosts.byHand('a', { name: 'quick' });
    const begun = one.startMigration(fence, { ...quick, ...fast });
    await expect(begun).rejects.toMatchObject({ ...REFUSED, message: expect.stringContaining('was started again') });
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'running', outgoing: null });
    expect(await atB('quick')).toBe('incoming');
  });

  test('waits before its switchover for the last word where a gatekeeper stands by', async () => {
    await guests('quick');
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(quick, fast, gated);
    expect(gate.told).toEqual([`open a quick ${join(hosts.dir('a', 'quick'), 'spare.sock')}`]);
    await reaches('quick', 'preSwitchover', gated);
    expect(await gated.look('a', 'quick')).toMatchObject({ state: 'paused', outgoing: { status: 'preSwitchover' } });
    expect(await atB('quick')).toBe('incoming');
    await gated.finishMigration(fence, 'a', 'quick');
    await gated.finishMigration(fence, 'a', 'quick');
    await reaches('quick', 'completed', gated);
    await until(async () => (await atB('quick')) === 'running', 5_000);
    expect(gate.told).toHaveLength(2);
    expect(gate.told[1]).toBe('close a quick');
  });

  test('that waits without a record of ours is told of; one that does not wait is not', async () => {
    await guests('quick');
    const gated = hosts.adapter({ gatekeeper: new Gate() });
    await begin(quick, fast, gated);
    await reaches('quick', 'preSwitchover', gated);
    const record = join(hosts.dir('a', 'quick'), 'migration.json');
    const text = readFileSync(record, 'utf8');
    writeFileSync(record, text.slice(0, 20));
    await expect(gated.finishMigration(fence, 'a', 'quick')).rejects.toThrow(
      /stands still before the switchover.*migration.json/,
    );
    writeFileSync(record, text);
    await gated.finishMigration(fence, 'a', 'quick');
    await reaches('quick', 'completed', gated);
    rmSync(record);
    await gated.finishMigration(fence, 'a', 'quick');
  });

  test('that is called off before its switchover leaves the VM running', async () => {
    await guests('quick');
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(quick, fast, gated);
    await reaches('quick', 'preSwitchover', gated);
    await gated.cancelMigration(fence, 'a', 'quick');
    expect(await gated.look('a', 'quick')).toMatchObject({ state: 'running', outgoing: { status: 'cancelled' } });
    expect(gate.told.at(-1)).toBe('close a quick');
  });

  test('is gated again by whoever drives it on', async () => {
    await guests('endless');
    const [first, second] = [new Gate(), new Gate()];
    const [dies, adopts] = [first, second].map((gatekeeper) => hosts.adapter({ gatekeeper }));
    if (dies === undefined || adopts === undefined) throw new Error('two adapters');
    await begin(endless, slow, dies);
    await dies.close();
    await adopts.setBandwidth(fence, 'a', 'endless', 6 * MIB);
    await adopts.setBandwidth(fence, 'a', 'endless', 7 * MIB);
    const opened = `open a endless ${join(hosts.dir('a', 'endless'), 'spare.sock')}`;
    expect(first.told).toEqual([opened, 'abandon a endless']);
    expect(second.told).toEqual([opened]);
  });

  test('that waits for a last word which does not come is left to the gatekeeper, though its worker lives', async () => {
    await guests('quick');
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(quick, fast, gated);
    await reaches('quick', 'preSwitchover', other);
    const since = performance.now();
    await until(() => gate.told.includes('abandon a quick'), 2_000, 'abandoned');
    expect(performance.now() - since).toBeLessThan(1_000);
    await gated.finishMigration(fence, 'a', 'quick');
    await reaches('quick', 'completed', gated);
    expect(gate.told.slice(1)).toEqual(['abandon a quick', 'close a quick']);
  });

  test('goes on by the word of the guard when its worker beats but does not speak', async () => {
    await guests('quick');
    const place = new Place();
    const guard = new GuardClient({ stateDir: place.stateDir, log: () => undefined, entry: GUARD_ENTRY });
    try {
      const gated = hosts.adapter({ gatekeeper: new GuardGatekeeper(guard) });
      await begin(quick, fast, gated);
      await reaches('quick', 'preSwitchover', gated);
      const since = performance.now();
      await reaches('quick', 'completed', gated);
      expect(performance.now() - since).toBeLessThan(1_500);
      expect(place.log()).toMatch(/a\/quick: nobody gave the last word/);
    } finally {
      await guard.close();
      await place.close();
    }
  });

  test('that nobody looks at any more is left to the gatekeeper, until it is driven again', async () => {
    await guests('endless');
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(endless, slow, gated);
    await until(() => gate.told.includes('abandon a endless'), 4_000, 'abandoned');
    await gated.setBandwidth(fence, 'a', 'endless', 6 * MIB);
    expect(gate.told.at(-1)).toMatch(/^open a endless/);
    await gated.setDowntimeLimit(fence, 'a', 'endless', 5_000);
    await gated.setBandwidth(fence, 'a', 'endless', 200 * MIB);
    // Driven again, and hung again.
    await until(() => gate.told.filter((word) => word === 'abandon a endless').length === 2, 6_000, 'abandoned again');
  });

  test('does not wait where its worker cannot hear of it, and an adopter that cannot leaves it to the gatekeeper', async () => {
    await guests('quick', 'endless');
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(endless, slow, gated);
    const theirs = await hosts.connect('a', 'quick');
    try {
      await begin(quick, fast, gated);
      await reaches('quick', 'completed', gated);
      expect(gate.told.filter((word) => word.startsWith('open a quick'))).toEqual([]);
    } finally {
      theirs.close();
    }
    const adopting = new Gate();
    // The first still holds the main monitor.
    const adopts = hosts.adapter({ gatekeeper: adopting });
    await gated.statusChange('a', 'endless', AbortSignal.timeout(1));
    await gated.sample('a', 'endless');
    await adopts.setBandwidth(fence, 'a', 'endless', 6 * MIB);
    expect(adopting.told.map((word) => word.split(' ')[0])).toEqual(['open', 'abandon']);
  });

  test('switches over by itself where the gatekeeper cannot be reached', async () => {
    await guests('quick');
    const gate = new Gate();
    gate.open = () => Promise.reject(new Error('no guard'));
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(quick, fast, gated);
    await reaches('quick', 'completed', gated);
  });

  test('does not wait where there is nobody, or no second monitor, to end the wait', async () => {
    await hosts.byHand('a', { name: 'quick', spare: false });
    const gate = new Gate();
    const gated = hosts.adapter({ gatekeeper: gate });
    await begin(quick, fast, gated);
    await reaches('quick', 'completed', gated);
    expect(gate.told.filter((word) => word.startsWith('open'))).toEqual([]);
  });

  test('says at once that its status has changed, and when nobody wants to know any more', async () => {
    await guests('quick', 'endless');
    const enough = new AbortController();
    await begin(quick, { ...fast, bandwidthBytesPerSec: 10 * MIB });
    const seen = new Set<string | undefined>();
    await until(async () => {
      const status = await statusOf('quick');
      seen.add(status);
      if (status === 'completed') return true;
      // No clock here: only QEMU's word ends the wait, long before an unused connection is given back (2.5 s).
      const since = performance.now();
      await one.statusChange('a', 'quick', enough.signal);
      expect(performance.now() - since).toBeLessThan(2_000);
      return false;
    }, 20_000);
    expect([...seen].at(-1)).toBe('completed');

    const waiting = one.statusChange('a', 'endless', enough.signal);
    const nobody = one.statusChange('a', 'nobody', enough.signal);
    enough.abort();
    await Promise.all([waiting, nobody, one.statusChange('a', 'endless', enough.signal)]);
  });

  test('that completed lets the source be retired also when its process died first', async () => {
    await guests('quick');
    await begin(quick, fast);
    await reaches('quick', 'completed');
    await until(async () => (await atB('quick')) === 'running', 5_000);
    await end('a', 'quick');
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'shutOff' });
    await other.keepDefinition(fence, 'b', 'quick');
    await other.retire(fence, 'a', 'quick');
    expect(readdirSync(hosts.dir('a', ''))).toEqual([]);
  });

  test('that completed unseen is proven by the copy that runs at its destination', async () => {
    await guests('quick');
    await begin(quick, fast);
    await until(async () => (await atB('quick')) === 'running', 20_000);
    await end('a', 'quick');
    const record = join(hosts.dir('a', 'quick'), 'migration.json');
    expect(JSON.parse(readFileSync(record, 'utf8'))).toMatchObject({ migrationId: 'm1', status: 'started' });
    await other.retire(fence, 'a', 'quick');
    expect(await one.look('a', 'quick')).toEqual({ present: false });
  });

  test('that did not complete keeps the definition of a VM that died', async () => {
    await guests('endless');
    await begin(endless, slow);
    await reaches('endless', 'active');
    await end('a', 'endless');
    await expect(one.retire(fence, 'a', 'endless')).rejects.toMatchObject(REFUSED);
    expect(existsSync(join(hosts.dir('a', 'endless'), 'vm.json'))).toBe(true);
    expect(await one.look('a', 'endless')).toMatchObject({ state: 'shutOff', outgoing: null });
  });

  test('is void at the source before it is kept at the destination: no reboot finds two definitions in force', async () => {
    await guests('quick');
    await begin(quick, fast);
    await until(async () => (await atB('quick')) === 'running', 20_000);
    await other.keepDefinition(fence, 'b', 'quick');
    const record = join(hosts.dir('a', 'quick'), 'migration.json');
    expect(JSON.parse(readFileSync(record, 'utf8'))).toMatchObject({ status: 'completed' });
    expect(existsSync(join(hosts.dir('b', 'quick'), 'vm.json'))).toBe(true);
    const theirs = join(hosts.dir('a', 'quick'), 'notes.txt');
    writeFileSync(theirs, 'precious');
    await one.retire(fence, 'a', 'quick');
    expect(readdirSync(hosts.dir('a', 'quick'))).toEqual(['notes.txt']);
    expect(await one.look('a', 'quick')).toEqual({ present: false });
    expect((await one.inventory('a')).vms).toEqual([]);
  });
});
