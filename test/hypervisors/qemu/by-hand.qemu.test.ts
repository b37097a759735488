/** VMs that somebody started by hand, and what is wrong with some: one of them hides none of the others. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { heldFence } from '../hypervisor-behaviour.ts';
import { Hosts, MIB } from './hosts.ts';

const fence = heldFence();
const limits = { bandwidthBytesPerSec: 200 * MIB, downtimeLimitMs: 300, postCopy: false };
const OWN_UUID = '0f7b2f1e-5d0c-4c59-8a52-0d3ad0f3c0de';

describeWith(['qemu'], 'a VM started by hand', () => {
  let hosts: Hosts;
  let hypervisor: QemuHypervisor;
  beforeEach(() => {
    hosts = new Hosts(['a', 'b']);
    hypervisor = hosts.adapter();
  });
  afterEach(() => hosts.close());

  const definition = (dir: string) => JSON.parse(readFileSync(join(dir, 'vm.json'), 'utf8'));
  const vmAt = async (host: string, name: string) => {
    const vm = (await hypervisor.inventory(host)).vms.find((one) => one.name === name);
    if (vm === undefined) throw new Error(`${host} does not list ${name}`);
    return vm;
  };

  test('with a QMP socket alone (no pid file, no spare monitor, no uuid) moves like any other', async () => {
    const made = { definition: { owner: 'ops' }, spare: false, pidFile: false };
    const { dir } = await hosts.byHand('a', { name: 'web-1', ...made });
    const [vm, again] = await Promise.all([vmAt('a', 'web-1'), hosts.adapter().inventory('a')]);
    expect(vm).toMatchObject({ state: 'running', notMigratable: null, memoryBytes: 64 * MIB });
    expect(again.vms[0]?.uuid).toBe(vm.uuid);
    expect(definition(dir)).toMatchObject({ uuid: vm.uuid, owner: 'ops' });

    const target = { vm: 'web-1', source: 'a', destination: 'b', migrationId: 'm1' };
    await hypervisor.prepareDestination(fence, target);
    await hypervisor.startMigration(fence, { ...target, ...limits });
    await until(async () => (await hypervisor.sample('a', 'web-1'))?.status === 'completed', 20_000, 'completion');
    await until(async () => {
      const sighting = await hypervisor.look('b', 'web-1');
      return sighting.present && sighting.state === 'running';
    }, 5_000);
    await hypervisor.keepDefinition(fence, 'b', 'web-1');
    await hypervisor.keepDefinition(fence, 'b', 'web-1');
    await hypervisor.retire(fence, 'a', 'web-1');
    await hypervisor.retire(fence, 'a', 'web-1');

    expect(readdirSync(hosts.dir('a', ''))).toEqual([]);
    const there = hosts.dir('b', 'web-1');
    expect(definition(there)).toMatchObject({ uuid: vm.uuid, owner: 'ops', cwd: process.cwd() });
    expect(existsSync(join(there, 'incoming.json'))).toBe(false);
    expect(await hypervisor.look('b', 'web-1')).toEqual({
      present: true,
      uuid: vm.uuid,
      state: 'running',
      outgoing: null,
      arriving: false,
    });
    expect(hosts.running()).toHaveLength(1);

    // And back: what came here is a VM like any other.
    const back = { vm: 'web-1', source: 'b', destination: 'a', migrationId: 'm2' };
    await hypervisor.prepareDestination(fence, back);
    await hypervisor.startMigration(fence, { ...back, ...limits });
    await until(async () => (await hypervisor.sample('b', 'web-1'))?.status === 'completed', 20_000, 'completion');
    expect(await hypervisor.look('b', 'web-1')).toMatchObject({ outgoing: { migrationId: 'm2', destination: 'a' } });
  });

  test('keeps the uuid that QEMU was given', async () => {
    const { dir } = await hosts.byHand('a', { name: 'web-1', extra: ['-uuid', OWN_UUID] });
    expect((await vmAt('a', 'web-1')).uuid).toBe(OWN_UUID);
    expect(definition(dir).uuid).toBe(OWN_UUID);
  });

  test('that is not the one its definition names is listed, and not touched', async () => {
    await Promise.all([
      hosts.byHand('a', { name: 'web-1', dirName: 'one', definition: { name: 'web-2' } }),
      hosts.byHand('a', {
        name: 'db-1',
        extra: ['-uuid', OWN_UUID],
        definition: { uuid: '11111111-1111-4111-8111-111111111111' },
      }),
    ]);
    expect((await vmAt('a', 'web-2')).notMigratable).toMatch(/says that its name is "web-1"/);
    expect((await vmAt('a', 'db-1')).notMigratable).toMatch(new RegExp(`says that its uuid is ${OWN_UUID}`));
    for (const vm of ['web-2', 'db-1']) {
      const target = { vm, source: 'a', destination: 'b', migrationId: 'm1' };
      await expect(hypervisor.prepareDestination(fence, target)).rejects.toMatchObject({ code: 'hypervisorRefused' });
    }
    expect(readdirSync(hosts.dir('b', ''))).toEqual([]);
  });

  test('with a faulty definition is listed with every problem, beside one that is fine', async () => {
    await Promise.all([
      hosts.byHand('a', { name: 'good' }),
      hosts.byHand('a', { name: 'faulty', definition: { memory: 'much', cpus: 0 } }),
    ]);
    expect((await vmAt('a', 'good')).notMigratable).toBeNull();
    const faulty = await vmAt('a', 'faulty');
    expect(faulty.state).toBe('running');
    expect(faulty.notMigratable).toMatch(/memory: "much".*\n.*cpus: 0/);
    await expect(hypervisor.look('a', 'faulty')).rejects.toMatchObject({ code: 'hostUnreachable' });
  });

  test('whose definition nobody can read makes its host unknown, not empty', async () => {
    const { dir, child } = await hosts.byHand('a', { name: 'lost' });
    writeFileSync(join(dir, 'vm.json'), '{"na');
    const unknown = { code: 'hostUnreachable', message: expect.stringContaining(dir) };
    await expect(hypervisor.inventory('a')).rejects.toMatchObject(unknown);
    await expect(hypervisor.look('a', 'lost')).rejects.toMatchObject(unknown);
    // Without a sign of life it is a left-over.
    child.kill('SIGKILL');
    const { vms } = await vi.waitFor(() => hypervisor.inventory('a'), 5_000);
    expect(vms).toEqual([]);
    mkdirSync(hosts.dir('a', 'no VM at all'));
    expect((await hypervisor.inventory('a')).vms).toEqual([]);
  });

  test('that is stopped, or whose only monitor somebody holds, hides no other, and nothing is claimed of it', async () => {
    const [held, { child: stopped }] = await Promise.all([
      hosts.byHand('a', { name: 'held', spare: false }).then(() => hosts.connect('a', 'held')),
      hosts.byHand('a', { name: 'stopped' }),
      hosts.byHand('a', { name: 'good' }),
    ]);
    try {
      stopped.kill('SIGSTOP');
      const { vms } = await hypervisor.inventory('a');
      expect(vms.map(({ name, state, notMigratable }) => [name, state, notMigratable === null])).toEqual([
        ['good', 'running', true],
        ['held', 'running', false],
        ['stopped', 'running', false],
      ]);
      expect(vms[1]?.notMigratable).toMatch(/does another client hold it/);
      for (const vm of ['held', 'stopped']) {
        await expect(hypervisor.look('a', vm)).rejects.toMatchObject({ code: 'hostUnreachable' });
      }
    } finally {
      stopped.kill('SIGCONT');
      held.close();
    }
    await until(async () => (await hypervisor.inventory('a')).vms.every((vm) => vm.notMigratable === null), 10_000);
  });

  test('is shut off when its process has gone, however, and its pid file names another', async () => {
    const { dir, child } = await hosts.byHand('a', { name: 'web-1' });
    child.kill('SIGKILL');
    await until(() => hosts.running().length === 0, 5_000);
    writeFileSync(join(dir, 'qemu.pid'), `${process.pid}\n`);
    expect(await vmAt('a', 'web-1')).toMatchObject({ state: 'shutOff', notMigratable: null });
    expect(await hypervisor.look('a', 'web-1')).toMatchObject({ state: 'shutOff', outgoing: null });
    expect(await hypervisor.sample('a', 'web-1')).toBeNull();
    expect(await hypervisor.vcpuThreads('a', 'web-1')).toBeNull();
    await expect(hypervisor.retire(fence, 'a', 'web-1')).rejects.toMatchObject({ code: 'hypervisorRefused' });
  });

  test('twice under one name is listed once, as what runs, and not migrated', async () => {
    await hosts.byHand('a', { name: 'web-1', dirName: 'z' });
    hosts.define(hosts.dir('a', 'b'), { name: 'web-1', memory: '64MiB', cpus: 1, argv: [] });
    const { vms } = await hypervisor.inventory('a');
    expect(vms).toMatchObject([{ name: 'web-1', state: 'running', notMigratable: /both define web-1/ }]);
    await expect(hypervisor.look('a', 'web-1')).rejects.toMatchObject({ code: 'hostUnreachable' });
  });

  test('tells its vCPU threads, its memory and its demand', async () => {
    await hosts.byHand('a', { name: 'busy', busy: true, definition: { cpus: 2 }, extra: ['-smp', '2'] });
    const threads = await hypervisor.vcpuThreads('a', 'busy');
    expect(threads?.tids).toHaveLength(2);
    for (const tid of threads?.tids ?? []) {
      expect(readFileSync(`/proc/${threads?.pid}/task/${tid}/comm`, 'utf8')).toMatch(/^CPU/);
    }
    expect(await hypervisor.vcpuThreads('a', 'busy')).toBe(threads);
    expect(await hypervisor.vcpuThreads('a', 'nobody')).toBeNull();
    const vm = await vmAt('a', 'busy');
    expect(vm.touchedBytes).toBeGreaterThan(32 * MIB);
    expect(vm.demandCores).toBeGreaterThan(0);
    expect(vm.demandCores).toBeLessThanOrEqual(2);
  });

  test('in a run directory that is not there is unknown', async () => {
    const elsewhere = hosts.hosts.map((host) => ({ ...host, runDir: '/no/such/directory' }));
    const blind = hosts.adapter({ hosts: elsewhere });
    await expect(blind.inventory('a')).rejects.toMatchObject({ code: 'hostUnreachable', message: /mkdir -p/ });
    await expect(blind.inventory('q')).rejects.toMatchObject({ code: 'unknownHost' });
  });
});
