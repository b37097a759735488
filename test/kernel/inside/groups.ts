/** Control groups made by hand inside the guest, as libvirt and systemd lay them out on a host with cgroup v2. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const ROOT = '/sys/fs/cgroup';

export function put(group: string, file: string, value: string | number): void {
  writeFileSync(join(group, file), String(value));
}

export function read(group: string, file: string): string {
  return readFileSync(join(group, file), 'utf8').trim();
}

/** What of a group must be as it was when we are gone: its children, and the files that somebody may have set. */
export function stateOf(group: string): Readonly<Record<string, string>> {
  const files = ['cgroup.type', 'cgroup.subtree_control', 'cpu.max', 'cpu.weight'];
  const set = files.filter((file) => existsSync(join(group, file))).map((file) => [file, read(group, file)] as const);
  const children = readdirSync(group, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return {
    ...Object.fromEntries(set),
    children: children
      .map(({ name }) => name)
      .sort()
      .join(' '),
  };
}

/** A group below the root, every level of it handing the cpu controller down. */
export function domainGroup(...names: readonly string[]): string {
  let group = ROOT;
  for (const name of names) {
    put(group, 'cgroup.subtree_control', '+cpu');
    group = join(group, name);
    mkdirSync(group, { recursive: true });
  }
  return group;
}

interface LibvirtGroups {
  readonly top: string;
  readonly emulator: string;
  readonly vcpus: readonly string[];
}

/**
 * As libvirt does it: the process is in a group `libvirt` of its scope, whose threaded children hold the emulator and
 * each vCPU.
 */
export function libvirtGroups(name: string, pid: number, tids: readonly number[]): LibvirtGroups {
  const top = domainGroup('machine.slice', `machine-qemu\\x2d1\\x2d${name}.scope`, 'libvirt');
  put(top, 'cgroup.procs', pid);
  const threaded = (label: string) => {
    const group = join(top, label);
    mkdirSync(group);
    put(group, 'cgroup.type', 'threaded');
    return group;
  };
  const emulator = threaded('emulator');
  put(emulator, 'cgroup.threads', pid);
  const vcpus = tids.map((tid, index) => {
    const group = threaded(`vcpu${index}`);
    put(group, 'cgroup.threads', tid);
    return group;
  });
  put(top, 'cgroup.subtree_control', '+cpu');
  return { top, emulator, vcpus };
}
