/**
 * Control groups of a lab's libvirt hosts: one for each host in every hierarchy where libvirt puts domains, so that two
 * daemons never make the same group. Named after the lab, and so found again without any record of them.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import { errorCode } from '../../hypervisors/qemu/durable-file.ts';
import type { ProcessId } from '../../hypervisors/qemu/process.ts';
import { startTicksOf } from '../../runtime/process-identity.ts';

export interface Hierarchy {
  readonly mountPoint: string;
  readonly type: 'cgroup' | 'cgroup2';
  /** What mounts the same one again: of v1 its controllers. */
  readonly options: string;
}

/** v1's `cpu` and `cpuacct`, together or apart, and v2; each once. Pure. Source: proc_pid_mountinfo(5). */
export function hierarchiesIn(mountinfo: string): Hierarchy[] {
  const found = new Map<string, Hierarchy>();
  for (const line of mountinfo.split('\n')) {
    const [left = '', right = ''] = line.split(' - ');
    const [type = '', , superOptions = ''] = right.split(' ');
    const mountPoint = plainPath(left.split(' ')[4] ?? '');
    const words = superOptions.split(',').filter((word) => word !== 'rw' && word !== 'ro');
    if (type === 'cgroup2') {
      if (!found.has(type)) found.set(type, { mountPoint, type, options: 'rw' });
    } else if (type === 'cgroup' && (words.includes('cpu') || words.includes('cpuacct'))) {
      const options = words.join(',');
      if (!found.has(options)) found.set(options, { mountPoint, type, options });
    }
  }
  return [...found.values()];
}

/** A space is `\040`. */
function plainPath(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

export function hierarchies(): Hierarchy[] {
  return hierarchiesIn(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** Why domains could not be throttled here; null: they can. */
export function controlGroupFault(): string | null {
  const all = hierarchies();
  if (all.some(({ type, options }) => type === 'cgroup' && options.split(',').includes('cpu'))) return null;
  const v2 = all.find(({ type }) => type === 'cgroup2');
  if (v2 === undefined) return 'no control groups are mounted; mount cgroup2 at /sys/fs/cgroup';
  const handedDown = readFileSync(join(v2.mountPoint, 'cgroup.controllers'), 'utf8').trim().split(' ');
  if (!handedDown.includes('cpu')) return `the cpu controller is not in ${v2.mountPoint}/cgroup.controllers`;
  const control = join(v2.mountPoint, 'cgroup.subtree_control');
  try {
    if (readFileSync(control, 'utf8').trim().split(' ').includes('cpu')) return null;
  } catch (error) {
    return `${control} cannot be read: ${reasonOf(error).message}`;
  }
  return `the cpu controller is not handed down to groups; as root: echo +cpu > ${control}`;
}

/** Throws `labUnfit`. What has been made by then is `removeGroups`'s. */
export function makeGroups(names: readonly string[]): Hierarchy[] {
  const all = hierarchies();
  for (const { mountPoint } of all) {
    for (const name of names) {
      const path = join(mountPoint, name);
      try {
        mkdirSync(path);
      } catch (error) {
        const why = reasonOf(error).message;
        const remedy = 'mount control groups writable, or start the lab where they are (not in a plain container)';
        throw new HostevacError('labUnfit', `no control group can be made at ${path}: ${why}; ${remedy}`, {
          cause: error,
        });
      }
    }
  }
  return all;
}

/** Directories of the lab's groups, in every hierarchy. */
export function groupsOf(id: string): string[] {
  return hierarchies().flatMap(({ mountPoint }) =>
    childrenOf(mountPoint)
      .filter((name) => name.startsWith(`hevlab-${id}-`))
      .map((name) => join(mountPoint, name)),
  );
}

/** Everything that runs in the lab's groups: its daemons and all that they have started. */
export function membersOf(id: string): ProcessId[] {
  const pids = new Set(groupsOf(id).flatMap(pidsBelow));
  return [...pids].flatMap((pid): ProcessId[] => {
    const startTicks = startTicksOf(pid);
    return startTicks === undefined ? [] : [{ pid, startTicks }];
  });
}

const GONE = ['ENOENT', 'ENODEV'];

function pidsBelow(group: string): number[] {
  const below = childrenOf(group).flatMap((name) => pidsBelow(join(group, name)));
  try {
    const pids = readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n').map(Number);
    // 0: one that is in another pid namespace.
    return [...below, ...pids.filter((pid) => pid > 0)];
  } catch (error) {
    // A threaded group of v2 lists its processes in the group above it only.
    if ([...GONE, 'EOPNOTSUPP', 'ENOTSUP'].includes(errorCode(error) ?? '')) return below;
    throw error;
  }
}

function childrenOf(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
  } catch (error) {
    // Removed since it was listed.
    if (GONE.includes(errorCode(error) ?? '')) return [];
    throw error;
  }
}

/** A group is busy for a moment after its last process has ended. */
const BUSY_MS = 5_000;
const LOOK_MS = 20;

/** Throws `labUnfit` for one that stays. Harmless when there are none. */
export async function removeGroups(id: string): Promise<void> {
  for (const since = performance.now(); ; await abortableSleep(LOOK_MS)) {
    const stays = groupsOf(id).filter((path) => !removed(path));
    if (stays.length === 0) return;
    if (performance.now() - since > BUSY_MS) {
      throw new HostevacError(
        'labUnfit',
        `the control group ${stays.join(', ')} cannot be removed: something runs in it; end that, then: hostevac lab down`,
      );
    }
  }
}

/** False: something in it is still busy. */
function removed(path: string): boolean {
  const below = childrenOf(path).map((name) => removed(join(path, name)));
  if (below.includes(false)) return false;
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'EBUSY') return false;
    if (GONE.includes(errorCode(error) ?? '')) return true;
    throw error;
  }
}
