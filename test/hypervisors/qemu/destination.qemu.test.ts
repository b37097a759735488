/** The waiting copy at a destination: how it comes up, what it is given, and that nothing half-made stays behind. */
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { isAlive, processByPidFile } from '../../../src/hypervisors/qemu/process.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { describeWith } from '../../support/needs.ts';
import { heldFence } from '../hypervisor-behaviour.ts';
import { Hosts, MIB } from './hosts.ts';

const fence = heldFence();
const refusal = (message: RegExp) => ({ code: 'hypervisorRefused', message: expect.stringMatching(message) });

describeWith(['qemu'], 'a destination', () => {
  let hosts: Hosts;
  let hypervisor: QemuHypervisor;
  beforeEach(() => {
    hosts = new Hosts(['a', 'b']);
    hypervisor = hosts.adapter();
  });
  afterEach(() => hosts.close());

  const to = (vm: string, migrationId = 'm1') => ({ vm, source: 'a', destination: 'b', migrationId });
  const nothingAtB = () => {
    expect(readdirSync(hosts.dir('b', ''))).toEqual([]);
    expect(hosts.running()).toHaveLength(1);
  };

  test("that cannot start the copy says QEMU's words and leaves nothing", async () => {
    const argv = [...hosts.argv({ name: 'web-1' }), '-device', 'no-such-device'];
    await hosts.byHand('a', { name: 'web-1', definition: { argv } });
    await expect(hypervisor.prepareDestination(fence, to('web-1'))).rejects.toMatchObject(
      refusal(/could not be started \(exit code 1\).*'no-such-device' is not a valid device model name/),
    );
    nothingAtB();
  });

  test('without the program says so and leaves nothing', async () => {
    await hosts.byHand('a', { name: 'web-1', definition: { binary: '/no/such/qemu' } });
    await expect(hypervisor.prepareDestination(fence, to('web-1'))).rejects.toMatchObject(refusal(/\/no\/such\/qemu/));
    nothingAtB();
  });

  test('listens on the next port where one is taken, and refuses when all are', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    const [, b] = hosts.hosts;
    if (b === undefined) throw new Error('no host b');
    const taken = createServer().listen(b.ports.first, '127.0.0.1');
    try {
      await hypervisor.prepareDestination(fence, to('web-1'));
      const { incoming } = JSON.parse(readFileSync(join(hosts.dir('b', 'web-1'), 'incoming.json'), 'utf8'));
      expect(incoming).toMatchObject({ migrationId: 'm1', source: 'a', port: b.ports.first + 1 });
      await hypervisor.discardIncoming(fence, 'b', 'web-1');
      nothingAtB();

      const one = { ...b, ports: { first: b.ports.first, last: b.ports.first } };
      const narrow = hosts.adapter({ hosts: hosts.hosts.map((host) => (host.name === 'b' ? one : host)) });
      const range = new RegExp(`every port of ${b.ports.first}-${b.ports.first} is taken`);
      await expect(narrow.prepareDestination(fence, to('web-1'))).rejects.toMatchObject(refusal(range));
      nothingAtB();
    } finally {
      taken.close();
    }
  });

  test('with an address it does not have says so and leaves nothing', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    const moved = hosts.hosts.map((host) => ({ ...host, migrationAddress: '192.0.2.1' }));
    const elsewhere = hosts.adapter({ hosts: moved });
    await expect(elsewhere.prepareDestination(fence, to('web-1'))).rejects.toMatchObject(
      refusal(/Cannot assign requested address/),
    );
    nothingAtB();
  });

  test('takes VMs with hostile names, each into a directory of its own under the run directory', async () => {
    const names = ['-rf', '../../x', 'a;touch pwned', '$(touch pwned)', 'ünï cödé ✓', `${'x'.repeat(254)}y`];
    for (const [index, name] of names.entries()) {
      const { child } = await hosts.byHand('a', { name, dirName: `vm${index}` });
      await hypervisor.prepareDestination(fence, to(name, `m${index}`));
      expect(await hypervisor.look('b', name)).toMatchObject({ present: true, state: 'incoming' });
      child.kill('SIGKILL');
    }
    const dirs = readdirSync(hosts.dir('b', ''));
    expect(dirs).toHaveLength(names.length);
    for (const dir of dirs) expect(dir).toMatch(/^[A-Za-z0-9][A-Za-z0-9.]*$/);
    expect(readdirSync(hosts.root).sort()).toEqual(['a', 'b', 'quiet.img']);
    for (const name of names) await hypervisor.discardIncoming(fence, 'b', name);
    expect(readdirSync(hosts.dir('b', ''))).toEqual([]);
  });

  test('puts no VM into a directory that holds another, nor over one of the same name', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    const other = { name: 'other', memory: '64MiB', cpus: 1, argv: [] };
    hosts.define(hosts.dir('b', 'web-1'), other);
    await hypervisor.prepareDestination(fence, to('web-1'));
    expect(JSON.parse(readFileSync(join(hosts.dir('b', 'web-1'), 'vm.json'), 'utf8'))).toEqual(other);
    await hypervisor.discardIncoming(fence, 'b', 'web-1');
    expect(readdirSync(hosts.dir('b', ''))).toEqual(['web-1']);

    hosts.define(hosts.dir('b', 'x'), { ...other, name: 'web-1' });
    await expect(hypervisor.prepareDestination(fence, to('web-1'))).rejects.toMatchObject(
      refusal(/b has a VM named web-1 already/),
    );
    expect(existsSync(join(hosts.dir('b', 'x'), 'vm.json'))).toBe(true);
  });

  test('does not kill a copy that falls silent while it is told to quit: it may run by now', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    await hypervisor.prepareDestination(fence, to('web-1'));
    const copy = processByPidFile(vmDir(hosts.dir('b', 'web-1')));
    if (copy === undefined) throw new Error('no copy');
    let asked = 0;
    const assertHeld = () => {
      asked += 1;
      // Just before `quit` is sent.
      if (asked === 2) process.kill(copy.pid, 'SIGSTOP');
    };
    try {
      await expect(hypervisor.discardIncoming({ ...fence, assertHeld }, 'b', 'web-1')).rejects.toMatchObject(
        refusal(new RegExp(`process ${copy.pid}, a copy of web-1 .* does not answer any more; it is left alone`)),
      );
      expect(isAlive(copy)).toBe(true);
      // And nobody is told that it runs twice.
      expect((await hypervisor.inventory('b')).vms).toMatchObject([{ name: 'web-1', state: 'incoming' }]);
    } finally {
      process.kill(copy.pid, 'SIGCONT');
    }
    await hypervisor.discardIncoming(fence, 'b', 'web-1');
    nothingAtB();
  });

  test('ends a copy that waits for another migration, and is not confused by what a dead one left', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    await hypervisor.prepareDestination(fence, to('web-1', 'm1'));
    const first = processByPidFile(vmDir(hosts.dir('b', 'web-1')));
    await hypervisor.prepareDestination(fence, to('web-1', 'm2'));
    const second = processByPidFile(vmDir(hosts.dir('b', 'web-1')));
    expect(second).toBeDefined();
    expect(second).not.toEqual(first);
    expect(hosts.running()).toHaveLength(2);

    process.kill(second?.pid ?? 0, 'SIGKILL');
    await expect.poll(() => hypervisor.look('b', 'web-1')).toEqual({ present: false });
    expect(existsSync(join(hosts.dir('b', 'web-1'), 'incoming.json'))).toBe(true);
    expect((await hypervisor.inventory('b')).vms).toEqual([]);
    await hypervisor.prepareDestination(fence, to('web-1', 'm3'));
    expect(await hypervisor.look('b', 'web-1')).toMatchObject({ state: 'incoming' });
    expect((await hypervisor.inventory('b')).vms).toMatchObject([{ name: 'web-1', state: 'incoming', cpus: 1 }]);
    await expect(hypervisor.keepDefinition(fence, 'b', 'web-1')).rejects.toMatchObject(refusal(/has not arrived/));
  });

  test("starts the copy in the source's working directory, outside our session, with nothing of our environment", async () => {
    process.env['HOSTEVAC_TEST_SECRET'] = 'secret';
    await hosts.byHand('a', { name: 'web-1' });
    const here = hosts.dir('a', 'web-1');
    // As if it had been started there, with a path relative to it.
    writeFileSync(join(here, 'local.img'), readFileSync(join(hosts.root, 'quiet.img')));
    const argv = hosts.argv({ name: 'web-1' }).map((text) => text.replace(join(hosts.root, 'quiet.img'), 'local.img'));
    hosts.define(here, { name: 'web-1', memory: '64MiB', cpus: 1, argv: [...argv, '-S'], cwd: here });
    await hypervisor.prepareDestination(fence, to('web-1'));
    const { pid = 0 } = processByPidFile(vmDir(hosts.dir('b', 'web-1'))) ?? {};
    expect(readlinkSync(`/proc/${pid}/cwd`)).toBe(here);
    expect(readFileSync(`/proc/${pid}/environ`, 'utf8')).not.toContain('secret');
    expect(readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')).not.toContain('-S');
    const session = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ')[3];
    expect(Number(session)).toBe(pid);
  });

  test('keeps files that are not ours', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    mkdirSync(hosts.dir('b', 'web-1'));
    const theirs = join(hosts.dir('b', 'web-1'), 'disk.img');
    writeFileSync(theirs, 'precious');
    await hypervisor.prepareDestination(fence, to('web-1'));
    await hypervisor.discardIncoming(fence, 'b', 'web-1');
    expect(readdirSync(hosts.dir('b', 'web-1'))).toEqual(['disk.img']);
  });

  test('counts the memory of what is there, not of what is shut off', async () => {
    await hosts.byHand('a', { name: 'web-1' });
    const small = hosts.hosts.map((host) => ({ ...host, memoryBytes: 100 * MIB }));
    const tight = hosts.adapter({ hosts: small });
    hosts.define(hosts.dir('b', 'off'), { name: 'off', memory: '64MiB', cpus: 1, argv: [] });
    await tight.prepareDestination(fence, to('web-1'));
    await hosts.byHand('a', { name: 'web-2' });
    await expect(tight.prepareDestination(fence, to('web-2'))).rejects.toMatchObject(refusal(/bytes of memory left/));
  });
});

describeWith(['qemu', 'root', 'netns'], 'a destination in a network namespace', () => {
  test('runs its copies there', async () => {
    const { execFileSync } = await import('node:child_process');
    const name = `hevq${process.pid}`;
    const hosts = new Hosts(['a', 'b']);
    execFileSync('ip', ['netns', 'add', name]);
    try {
      execFileSync('nsenter', [`--net=/run/netns/${name}`, 'ip', 'link', 'set', 'lo', 'up']);
      const there = hosts.hosts.map((host) => (host.name === 'b' ? { ...host, networkNamespace: name } : host));
      const hypervisor = hosts.adapter({ hosts: there });
      await hosts.byHand('a', { name: 'web-1' });
      await hypervisor.prepareDestination(fence, { vm: 'web-1', source: 'a', destination: 'b', migrationId: 'm1' });
      const { pid = 0 } = processByPidFile(vmDir(hosts.dir('b', 'web-1'))) ?? {};
      expect(readlinkSync(`/proc/${pid}/ns/net`)).not.toBe(readlinkSync('/proc/self/ns/net'));
      expect(readlinkSync(`/proc/${pid}/ns/mnt`)).toBe(readlinkSync('/proc/self/ns/mnt'));
      await hypervisor.discardIncoming(fence, 'b', 'web-1');
      expect(hosts.running()).toHaveLength(1);
    } finally {
      await hosts.close();
      execFileSync('ip', ['netns', 'del', name]);
    }
  });
});
