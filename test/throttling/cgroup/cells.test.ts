/** Through which groups a VM would be throttled, on recorded trees of machines; and what is refused with which remedy. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openCell, ownGroupName, planCells, restoreCell } from '../../../src/throttling/cgroup/cells.ts';
import { GroupFiles } from '../../../src/throttling/cgroup/files.ts';

const V1_MOUNT = '32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n';
const V2_MOUNT = '26 21 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n';
const CPU = '/sys/fs/cgroup/cpu';
const UNLIMITED_V1 = { 'cpu.cfs_quota_us': '-1\n', 'cpu.cfs_period_us': '100000\n' };
const never = () => false;

describe('cells', () => {
  let root: string;
  let files: GroupFiles;

  const put = (path: string, text: string) => {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    writeFileSync(join(root, path), text);
  };
  const tree = (content: Readonly<Record<string, string>>) => {
    for (const [path, text] of Object.entries(content)) put(path, text);
  };
  /** Threads 1 and 2 are vCPUs, 9 is the emulator. */
  const threads = (mount: string, line: (tid: number) => string) => {
    put('/proc/self/mountinfo', mount);
    for (const tid of [1, 2, 9]) put(`/proc/${tid}/cgroup`, `${line(tid)}\n`);
  };
  const plan = (cpuWasOff: (home: string) => boolean = never) => planCells(files, [1, 2], 'hostevac-x', cpuWasOff);

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostevac-tree-'));
    files = new GroupFiles(root);
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test('v1 bare: one group of ours for all vCPUs, below where they are', () => {
    threads(V1_MOUNT, () => '1:cpu:/');
    tree({ [`${CPU}/tasks`]: '1\n2\n9\n' });
    expect(plan()).toMatchObject([
      { version: 1, path: `${CPU}/hostevac-x`, tids: [1, 2], place: { kind: 'own', home: CPU, cpuOff: false } },
    ]);
  });

  test('v1 libvirt: its own vCPU groups, with the quota each had', () => {
    const domain = '/machine/qemu-1-web.libvirt-qemu';
    threads(V1_MOUNT, (tid) => `1:cpu:${domain}/${tid === 9 ? 'emulator' : `vcpu${tid}`}`);
    for (const tid of [1, 2]) {
      const group = `${CPU}${domain}/vcpu${tid}`;
      tree({
        [`${group}/tasks`]: `${tid}\n`,
        [`${group}/cpu.cfs_quota_us`]: tid === 1 ? '50000\n' : '-1\n',
        [`${group}/cpu.cfs_period_us`]: '100000\n',
      });
    }
    expect(plan().map(({ path, tids, place }) => [path, tids, place])).toEqual([
      [`${CPU}${domain}/vcpu1`, [1], { kind: 'lent', original: { quotaUs: 50_000, periodUs: 100_000 } }],
      [`${CPU}${domain}/vcpu2`, [2], { kind: 'lent', original: { quotaUs: null, periodUs: 100_000 } }],
    ]);
  });

  test('v1: a group with the emulator in it is not the vCPUs’ own', () => {
    threads(V1_MOUNT, () => '1:cpu:/vms');
    tree({ [`${CPU}/vms/tasks`]: '1\n2\n9\n' });
    for (const [name, text] of Object.entries(UNLIMITED_V1)) put(`${CPU}/vms/${name}`, text);
    expect(plan()).toMatchObject([{ path: `${CPU}/vms/hostevac-x`, place: { kind: 'own', home: `${CPU}/vms` } }]);
  });

  test.each(['emulator', 'aux/emulator'])('v1: nor is one with the emulator somewhere below it (%s)', (below) => {
    threads(V1_MOUNT, (tid) => `1:cpu:/vm1${tid === 9 ? `/${below}` : ''}`);
    tree({ [`${CPU}/vm1/tasks`]: '1\n2\n', [`${CPU}/vm1/${below}/tasks`]: '9\n' });
    for (const [name, text] of Object.entries(UNLIMITED_V1)) put(`${CPU}/vm1/${name}`, text);
    expect(plan()).toMatchObject([{ path: `${CPU}/vm1/hostevac-x`, place: { kind: 'own', home: `${CPU}/vm1` } }]);
    put(`${CPU}/vm1/${below}/tasks`, '');
    expect(plan()).toMatchObject([{ path: `${CPU}/vm1`, place: { kind: 'lent' } }]);
  });

  test('v2 libvirt: threaded vCPU groups', () => {
    const domain = '/machine.slice/machine-qemu\\x2d1\\x2dweb.scope/libvirt';
    threads(V2_MOUNT, (tid) => `0::${domain}/${tid === 9 ? 'emulator' : `vcpu${tid}`}`);
    for (const tid of [1, 2]) {
      const group = `/sys/fs/cgroup${domain}/vcpu${tid}`;
      tree({ [`${group}/cgroup.threads`]: `${tid}\n`, [`${group}/cpu.max`]: 'max 100000\n' });
    }
    expect(plan().map(({ path, place }) => [path, place])).toEqual(
      [1, 2].map((tid) => [
        `/sys/fs/cgroup${domain}/vcpu${tid}`,
        { kind: 'lent', original: { quotaUs: null, periodUs: 100_000 } },
      ]),
    );
  });

  test('v2 in a session: a group of ours, and the controller goes off with the last of them', () => {
    const scope = '/user.slice/user-0.slice/session-1.scope';
    threads(V2_MOUNT, () => `0::${scope}`);
    tree({
      [`/sys/fs/cgroup${scope}/cgroup.threads`]: '1\n2\n9\n',
      [`/sys/fs/cgroup${scope}/cgroup.subtree_control`]: '\n',
      [`/sys/fs/cgroup${scope}/cpu.max`]: 'max 100000\n',
    });
    expect(plan()).toMatchObject([{ place: { kind: 'own', home: `/sys/fs/cgroup${scope}`, cpuOff: true } }]);
    put(`/sys/fs/cgroup${scope}/cgroup.subtree_control`, 'cpuset cpu\n');
    expect(plan()).toMatchObject([{ place: { cpuOff: false } }]);
    expect(plan((home) => home === `/sys/fs/cgroup${scope}`)).toMatchObject([{ place: { cpuOff: true } }]);
  });

  test('v2 without the controller: refused, with what to turn on', () => {
    threads(V2_MOUNT, () => '0::/s');
    tree({ '/sys/fs/cgroup/s/cgroup.threads': '1\n2\n9\n', '/sys/fs/cgroup/s/cgroup.controllers': 'memory pids\n' });
    const [cell] = plan();
    if (cell === undefined) throw new Error('no cell');
    expect(() => openCell(files, cell)).toThrow(/cpu controller is not there in \/sys\/fs\/cgroup\/s.*Delegate=yes/);
  });

  test('a group that another hostevac has made is left alone', () => {
    threads(V1_MOUNT, () => '1:cpu:/hostevac-0123456789ab');
    tree({ [`${CPU}/hostevac-0123456789ab/tasks`]: '1\n2\n' });
    expect(() => plan()).toThrow(/another hostevac/);
  });

  test('a group of the same name as one before, but not the same, is not written to', () => {
    threads(V1_MOUNT, () => '1:cpu:/vcpu');
    tree({
      [`${CPU}/vcpu/tasks`]: '1\n2\n',
      [`${CPU}/vcpu/cpu.cfs_quota_us`]: '50000',
      [`${CPU}/vcpu/cpu.cfs_period_us`]: '100000',
    });
    const [cell] = plan();
    if (cell === undefined) throw new Error('no cell');
    put(`${CPU}/vcpu/cpu.cfs_quota_us`, '7000');
    restoreCell(files, { ...cell, inode: '1' });
    expect(files.read(`${CPU}/vcpu/cpu.cfs_quota_us`)).toBe('7000');
    restoreCell(files, cell);
    expect(files.read(`${CPU}/vcpu/cpu.cfs_quota_us`)).toBe('50000');
  });

  test('two VMs have two groups, whatever their names are made of', () => {
    const named = [
      ['a', 'b', 1],
      ['ab', '', 1],
      ['a', '../b', 1],
      ['b', 'a', 1],
      // The same names in another fleet on the same machine.
      ['a', 'b', 2],
    ] as const;
    const names = named.map(([host, vm, pid]) => ownGroupName(host, vm, pid));
    expect(new Set(names).size).toBe(5);
    for (const name of names) expect(name).toMatch(/^hostevac-[0-9a-f]{12}-\d$/);
  });
});
