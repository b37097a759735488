/**
 * Asking real guests to shut down. The lab's guest has no ACPI and hears nothing, as many an old or hung one: so what is
 * looked at is that it was asked, that it is not harmed, and what stands there when it ends after all.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { anyAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import type { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { readState } from '../../../src/lab/guest/inspect.ts';
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { heldFence, lostFence } from '../hypervisor-behaviour.ts';
import { Hosts, MIB } from './hosts.ts';

const fence = heldFence();
const REFUSED = { code: 'hypervisorRefused' };

describeWith(['qemu'], 'a real guest that is asked to shut down', () => {
  let hosts: Hosts;
  let hypervisor: QemuHypervisor;
  beforeEach(() => {
    hosts = new Hosts(['a', 'b']);
    hypervisor = hosts.adapter();
  });
  afterEach(() => hosts.close());

  test('hears its power button, goes on if it does not care, and is shut off with its definition if it does', async () => {
    const labels = { 'hostevac.non-migratable': 'shutdown', owner: 'ml' };
    const { dir } = await hosts.byHand('a', { name: 'web-1', busy: true, definition: { labels } });
    expect((await hypervisor.inventory('a')).vms).toMatchObject([{ name: 'web-1', labels }]);
    const eyes = await hosts.connect('a', 'web-1', 'spare.sock');
    const heard: string[] = [];
    eyes.onEvent(({ name }) => heard.push(name));
    const before = (await readState(eyes)).progress;

    await expect(hypervisor.shutdown(lostFence(), 'a', 'web-1')).rejects.toMatchObject({ code: 'leaseLost' });
    expect(heard).not.toContain('POWERDOWN');
    await hypervisor.shutdown(fence, 'a', 'web-1');
    await hypervisor.shutdown(fence, 'a', 'web-1');
    await until(() => heard.filter((name) => name === 'POWERDOWN').length === 2, 5_000, 'two presses');
    await until(async () => (await readState(eyes)).progress > before, 10_000, 'the guest goes on');
    expect(await hypervisor.look('a', 'web-1')).toMatchObject({ state: 'running' });

    // What QEMU does when a guest is off.
    await eyes.execute('quit', anyAnswer);
    eyes.close();
    await until(() => hosts.running().length === 0, 10_000, 'the end of its QEMU');
    expect(await hypervisor.look('a', 'web-1')).toMatchObject({ state: 'shutOff', outgoing: null });
    expect((await hypervisor.inventory('a')).vms).toMatchObject([{ name: 'web-1', state: 'shutOff', labels }]);
    expect(JSON.parse(readFileSync(join(dir, 'vm.json'), 'utf8'))).toMatchObject({ name: 'web-1', labels });
    await hypervisor.shutdown(fence, 'a', 'web-1');
    expect(hosts.running()).toEqual([]);
  });

  test('is not asked while it stands still, and not while it is being migrated', async () => {
    await hosts.byHand('a', { name: 'busy', busy: true });
    const person = await hosts.connect('a', 'busy');
    await person.execute('stop', anyAnswer);
    await expect(hypervisor.shutdown(fence, 'a', 'busy')).rejects.toMatchObject(REFUSED);
    await person.execute('cont', anyAnswer);
    person.close();

    const target = { vm: 'busy', source: 'a', destination: 'b', migrationId: 'm1' };
    await hypervisor.prepareDestination(fence, target);
    await expect(hypervisor.shutdown(fence, 'b', 'busy')).rejects.toMatchObject(REFUSED);
    const limits = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false };
    await hypervisor.startMigration(fence, { ...target, ...limits });
    await until(async () => (await hypervisor.sample('a', 'busy'))?.status === 'active', 10_000, 'a migration');
    await expect(hypervisor.shutdown(fence, 'a', 'busy')).rejects.toMatchObject(REFUSED);
    await hypervisor.cancelMigration(fence, 'a', 'busy');
    await hypervisor.shutdown(fence, 'a', 'busy');
    expect(await hypervisor.look('a', 'busy')).toMatchObject({ state: 'running' });
  });

  test('keeps its definition where it has arrived and nobody had said yet that it stays', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    const target = { vm: 'web-1', source: 'a', destination: 'b', migrationId: 'm1' };
    await hypervisor.prepareDestination(fence, target);
    const limits = { bandwidthBytesPerSec: 200 * MIB, downtimeLimitMs: 300, postCopy: false };
    await hypervisor.startMigration(fence, { ...target, ...limits });
    await until(async () => {
      const seen = await hypervisor.look('b', 'web-1');
      return seen.present && seen.state === 'running';
    }, 20_000);
    const there = hosts.dir('b', 'web-1');
    expect(existsSync(join(there, 'vm.json'))).toBe(false);
    await hypervisor.shutdown(fence, 'b', 'web-1');
    expect(existsSync(join(there, 'vm.json'))).toBe(true);
  });
});
