/** From a thread to its CPU group, on recorded texts of machines of every kind. */
import { describe, expect, test } from 'vitest';
import { cpuGroup } from '../../../src/throttling/cgroup/layout.ts';

const V1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset
`;
/** Debian 10: controllers of v1, cpu and cpuacct in one hierarchy, v2 beside them without any. */
const HYBRID = `25 17 0:22 / /sys/fs/cgroup ro,nosuid,nodev,noexec shared:9 - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime shared:10 - cgroup2 cgroup2 rw,nsdelegate
27 25 0:24 / /sys/fs/cgroup/systemd rw,nosuid,nodev,noexec,relatime shared:11 - cgroup cgroup rw,xattr,name=systemd
31 25 0:28 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid,nodev,noexec,relatime shared:15 - cgroup cgroup rw,cpu,cpuacct
`;
/** Debian 12. */
const V2 = `21 28 0:19 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw
26 21 0:23 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`;

describe('the CPU group of a thread', () => {
  test.each([
    ['v1, bare', '9:name=systemd:/\n2:cpuacct:/\n1:cpu:/\n0::/\n', V1, 1, '/sys/fs/cgroup/cpu', '/sys/fs/cgroup/cpu'],
    [
      'v1, a vCPU of libvirt',
      '4:cpuset:/machine/qemu-1-web.libvirt-qemu/vcpu0\n1:cpu:/machine/qemu-1-web.libvirt-qemu/vcpu0\n0::/\n',
      V1,
      1,
      '/sys/fs/cgroup/cpu/machine/qemu-1-web.libvirt-qemu/vcpu0',
      '/sys/fs/cgroup/cpu',
    ],
    [
      'hybrid: v1 has the controller, joined with cpuacct',
      '5:cpu,cpuacct:/user.slice\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/user.slice/user-0.slice/session-1.scope\n',
      HYBRID,
      1,
      '/sys/fs/cgroup/cpu,cpuacct/user.slice',
      '/sys/fs/cgroup/cpu,cpuacct',
    ],
    [
      "v2, a vCPU of libvirt: the backslashes are systemd's own",
      '0::/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/vcpu1\n',
      V2,
      2,
      '/sys/fs/cgroup/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/vcpu1',
      '/sys/fs/cgroup',
    ],
    [
      'v2, in a session',
      '0::/user.slice/user-1000.slice/session-4.scope\n',
      V2,
      2,
      '/sys/fs/cgroup/user.slice/user-1000.slice/session-4.scope',
      '/sys/fs/cgroup',
    ],
    [
      'a container that sees its own part only, mounted where a space is',
      '3:cpu,cpuacct:/docker/4f5e/qemu/vcpu 0\n',
      '700 650 0:28 /docker/4f5e /mnt/c\\040groups/cpu rw - cgroup cgroup rw,cpu,cpuacct\n',
      1,
      '/mnt/c groups/cpu/qemu/vcpu 0',
      '/mnt/c groups/cpu',
    ],
    [
      'a container whose mount root has backslashes',
      '0::/machine.slice/machine-lxc\\x2dc1.scope\n',
      '700 650 0:28 /machine.slice/machine-lxc\\134x2dc1.scope /sys/fs/cgroup rw - cgroup2 cgroup rw\n',
      2,
      '/sys/fs/cgroup',
      '/sys/fs/cgroup',
    ],
    [
      'a group with a colon in its name',
      '1:cpu:/libvirt/a:b\n',
      V1,
      1,
      '/sys/fs/cgroup/cpu/libvirt/a:b',
      '/sys/fs/cgroup/cpu',
    ],
  ])('%s', (_, cgroup, mountinfo, version, path, mountPoint) => {
    expect(cpuGroup(cgroup, mountinfo)).toEqual({ version, path, mountPoint });
  });

  test('of two mounts the writable one counts', () => {
    const readOnly = V2.replace('cgroup2 rw', 'cgroup2 ro').replaceAll(' rw,', ' ro,');
    const both = `${readOnly}40 21 0:23 / /mnt/rw rw - cgroup2 cgroup2 rw\n41 21 0:23 / /mnt/ro ro - cgroup2 cgroup2 rw\n`;
    expect(cpuGroup('0::/a\n', both)).toMatchObject({ path: '/mnt/rw/a' });
  });

  test.each([
    ['it is not mounted', '0::/a\n', V1.replace('tmpfs', 'x'), 'cgroup v2 is not mounted'],
    ['nothing has the controller', '4:memory:/a\n', V1, 'no cpu controller'],
    ['it lies outside of what a container sees', '0::/../other\n', V2.replace('0:23 /', '0:23 /mine'), 'outside'],
  ])('why there is none: %s', (_, cgroup, mountinfo, why) => {
    expect(cpuGroup(cgroup, mountinfo)).toContain(why);
  });
});
