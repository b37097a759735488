/**
 * Cells: the groups through which one VM's vCPU threads are throttled. Where the hypervisor has made groups that hold
 * nothing but vCPU threads of the VM (libvirt does), their quota is changed and put back; elsewhere a group of ours is
 * made below the one where the threads are, and they are moved there and back. `planCells` only reads, so that a cell
 * can be journalled before anything is written.
 * Source for v2: admin-guide/cgroup-v2.rst, "Threads": threads of one process may be spread over threaded groups only; making
 * a child threaded turns its parent, a domain with processes, into a threaded domain; `cpu` is a threaded controller.
 */
import { createHash } from 'node:crypto';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import type { VcpuThreads } from '../vcpu-threads.ts';
import { errnoOf, type GroupFiles, isGone } from './files.ts';
import { type CpuGroup, cpuGroup } from './layout.ts';
import { type Allowance, coresAbove, coresOf, type Quota, quotaFor, readQuota, writeQuota } from './quota.ts';

const OWN_PREFIX = 'hostevac-';

const quotaSchema = z.object({ quotaUs: z.number().nullable(), periodUs: z.number() });

/** As it stands in the journal: all that is needed to put things back. */
export const cellSchema = z.object({
  version: z.union([z.literal(1), z.literal(2)]),
  path: z.string().startsWith('/'),
  mountPoint: z.string().startsWith('/'),
  tids: z.array(z.number().int().positive()),
  /** Inode of the group that was there before us (`home`, or the lent group): another one of that name is not touched. */
  inode: z.string(),
  place: z.discriminatedUnion('kind', [
    /** The hypervisor's; had this quota. */
    z.object({ kind: z.literal('lent'), original: quotaSchema }),
    /** Made by us in `home`, where the threads belong. `cpuOff`: v2's cpu controller was not on for children of home. */
    z.object({ kind: z.literal('own'), home: z.string().startsWith('/'), cpuOff: z.boolean() }),
  ]),
});
export type Cell = z.infer<typeof cellSchema>;

/**
 * The name of a VM's group of ours; the VM's own may have any character. With its process: two fleets on one machine, each
 * with a guard, may use the same names.
 */
export function ownGroupName(host: string, vm: string, pid: number): string {
  return `${OWN_PREFIX}${createHash('sha256').update(`${host}\0${vm}`).digest('hex').slice(0, 12)}-${pid}`;
}

/** Throws `throttleUnavailable`. */
export function groupOfThread(files: GroupFiles, tid: number): CpuGroup {
  const text = files.readIfThere(`/proc/${tid}/cgroup`);
  if (text === undefined) throw unavailable(`thread ${tid} has ended`);
  const group = cpuGroup(text, files.read('/proc/self/mountinfo'));
  if (typeof group === 'string') throw unavailable(`thread ${tid}: ${group}`);
  return group;
}

/**
 * Where the threads are now and how they can be held back there; changes nothing. `cpuWasOff(home)`: another cell of ours has
 * turned v2's controller on there. Throws `throttleUnavailable` with what is missing.
 */
export function planCells(
  files: GroupFiles,
  tids: readonly number[],
  name: string,
  cpuWasOff: (home: string) => boolean,
): Cell[] {
  const byGroup = new Map<string, { group: CpuGroup; tids: number[] }>();
  for (const tid of tids) {
    const group = groupOfThread(files, tid);
    const found = byGroup.get(group.path) ?? { group, tids: [] };
    found.tids.push(tid);
    byGroup.set(group.path, found);
  }
  return [...byGroup.values()].map(({ group, tids: members }) => {
    if (basename(group.path).startsWith(OWN_PREFIX)) {
      throw unavailable(
        `the vCPU threads are in ${group.path}, which another hostevac has made (another state directory?); release it there, or write them to ${threadsFile(group)} of the group above`,
      );
    }
    const inode = files.inode(group.path);
    if (inode === undefined) throw unavailable(`the group ${group.path} is gone`);
    const cell = { version: group.version, mountPoint: group.mountPoint, tids: members, inode };
    const original = holdsOnly(files, group, tids) ? readQuota(files, group) : null;
    if (original !== null) return { ...cell, path: group.path, place: { kind: 'lent', original } };
    const cpuOff = group.version === 2 && (cpuWasOff(group.path) || !childrenHaveCpu(files, group.path));
    return { ...cell, path: join(group.path, name), place: { kind: 'own', home: group.path, cpuOff } };
  });
}

/**
 * A group whose threads are all vCPU threads of this VM was made for them. The topmost group never was, nor one below which
 * others run (the emulator in a group of its own): its quota would hold them as well.
 */
function holdsOnly(files: GroupFiles, group: CpuGroup, tids: readonly number[]): boolean {
  if (group.path === group.mountPoint || hasThreadsBelow(files, group)) return false;
  return threadsIn(files, group).every((tid) => tids.includes(tid));
}

function hasThreadsBelow(files: GroupFiles, { version, path }: Pick<CpuGroup, 'version' | 'path'>): boolean {
  return files.children(path).some((name) => {
    const child = { version, path: join(path, name) };
    return threadsIn(files, child).length > 0 || hasThreadsBelow(files, child);
  });
}

function threadsFile({ version, path }: Pick<CpuGroup, 'version' | 'path'>): string {
  return join(path, version === 1 ? 'tasks' : 'cgroup.threads');
}

export function threadsIn(files: GroupFiles, group: Pick<CpuGroup, 'version' | 'path'>): number[] {
  return (files.readIfThere(threadsFile(group)) ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map(Number);
}

function childrenHaveCpu(files: GroupFiles, path: string): boolean {
  return (files.readIfThere(join(path, 'cgroup.subtree_control')) ?? '').trim().split(' ').includes('cpu');
}

/** Makes the group where it has to be made. Throws `throttleUnavailable`, with what to grant. */
export function openCell(files: GroupFiles, cell: Cell): void {
  if (cell.place.kind === 'lent') return;
  const { home } = cell.place;
  if (cell.version === 2) {
    const controllers = files.readIfThere(join(home, 'cgroup.controllers')) ?? '';
    if (!controllers.trim().split(' ').includes('cpu')) {
      throw unavailable(
        `the cpu controller is not there in ${home}; turn it on above (echo +cpu to cgroup.subtree_control of every group above it; with systemd: Delegate=yes or CPUAccounting=yes for the unit), or mount it with cgroup v2 where v1 has it`,
      );
    }
  }
  granted(`make a group in ${home}`, () => {
    // Left empty, of a process that had this pid before; one with threads is refused by the kernel.
    if (files.exists(cell.path)) files.removeGroup(cell.path);
    files.makeGroup(cell.path);
  });
  if (cell.version === 2) {
    granted(`make ${cell.path} threaded`, () => files.write(join(cell.path, 'cgroup.type'), 'threaded'));
    if (!childrenHaveCpu(files, home)) {
      granted(`turn on the cpu controller in ${home}`, () => files.write(join(home, 'cgroup.subtree_control'), '+cpu'));
    }
  }
  // Beside others the group counts as one thread; it shall weigh what its threads did.
  const [file, each, most] = cell.version === 2 ? ['cpu.weight', 100, 10_000] : ['cpu.shares', 1_024, 262_144];
  const weight = Math.min(most, each * Math.max(1, cell.tids.length));
  granted(`weigh ${cell.path}`, () => files.write(join(cell.path, file), String(weight)));
}

/** Sets the cell's quota and sees to it that its threads are in it; returns the cores it may use now. */
export function holdCell(files: GroupFiles, cell: Cell, allowance: Allowance): number {
  const original: Quota = cell.place.kind === 'lent' ? cell.place.original : { quotaUs: null, periodUs: 0 };
  const limit = Math.min(coresOf(original), coresAbove(files, cell));
  const wanted = quotaFor(allowance);
  // Never more than it had: rounding down keeps it within what v1 lets a child have.
  const quota =
    coresOf(wanted) <= limit ? wanted : cell.place.kind === 'lent' ? original : within(limit, wanted.periodUs);
  const now = readQuota(files, cell);
  // A write fills the quota up, whatever has been used of it: one that changes nothing would give CPU away.
  if (now?.quotaUs !== quota.quotaUs || now.periodUs !== quota.periodUs) {
    granted(`set the CPU quota of ${cell.path} to ${coresOf(quota)} cores`, () => writeQuota(files, cell, quota));
  }
  if (cell.place.kind === 'own') moveIn(files, cell, cell.place.home);
  return coresOf(quota);
}

/** Its threads may run at once, whatever has been charged to the cell: a write fills the quota up. */
export function refillCell(files: GroupFiles, cell: Cell): void {
  const quota = readQuota(files, cell);
  if (quota?.quotaUs != null) granted(`set the CPU quota of ${cell.path} again`, () => writeQuota(files, cell, quota));
}

/** The kernel takes no quota below 1 ms. */
function within(cores: number, atLeastUs: number): Quota {
  const periodUs = Math.max(atLeastUs, Math.ceil(1_000 / cores));
  return { quotaUs: Math.floor(cores * periodUs), periodUs };
}

/** Only threads that are at home are taken: whoever moved one elsewhere had a reason. */
function moveIn(files: GroupFiles, cell: Cell, home: string): void {
  const inside = new Set(threadsIn(files, cell));
  for (const tid of cell.tids.filter((each) => !inside.has(each))) {
    const text = files.readIfThere(`/proc/${tid}/cgroup`);
    const group = text === undefined ? undefined : cpuGroup(text, files.read('/proc/self/mountinfo'));
    if (group === undefined || typeof group === 'string' || group.path !== home) continue;
    granted(`move thread ${tid} from ${home} to ${cell.path}`, () => moveThread(files, cell, tid));
  }
}

function moveThread(files: GroupFiles, to: Pick<CpuGroup, 'version' | 'path'>, tid: number): void {
  try {
    files.write(threadsFile(to), String(tid));
  } catch (error) {
    // A thread that has just ended is where it belongs.
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/**
 * Puts back what was there before: quota and period, or the threads into their group and ours removed. Harmless when it is
 * done already, and when the groups have gone with their VM. Throws what the kernel says when it cannot.
 */
export function restoreCell(files: GroupFiles, cell: Cell): void {
  const { place } = cell;
  if (place.kind === 'lent') {
    if (files.inode(cell.path) === cell.inode) unlessGone(() => writeQuota(files, cell, place.original));
    return;
  }
  if (files.inode(place.home) !== cell.inode) return;
  // A thread that is in may start another one, which is in then as well.
  for (let turns = 0; turns < 10; turns += 1) {
    const inside = threadsIn(files, cell);
    if (inside.length === 0) break;
    if (turns === 0) liftQuota(files, cell);
    for (const tid of inside) moveThread(files, { version: cell.version, path: place.home }, tid);
  }
  // It may never have been made; where groups are read-only, removing nothing is refused, too.
  if (files.exists(cell.path)) files.removeGroup(cell.path);
  const othersOfOurs = files.children(place.home).some((name) => name.startsWith(OWN_PREFIX));
  if (place.cpuOff && !othersOfOurs && childrenHaveCpu(files, place.home)) {
    files.write(join(place.home, 'cgroup.subtree_control'), '-cpu');
  }
}

/**
 * A thread that is moved while its group waits for the next period is not woken by Linux (until commit e34881c84c25, "sched:
 * Re-evaluate scheduling when migrating queued tasks out of throttled cgroups"): on a CPU that idles it stands still until
 * something else wakes that CPU. Measured with 6.18: half of the moves, for more than 300 ms. A quota that is lifted wakes it.
 */
function liftQuota(files: GroupFiles, cell: Cell): void {
  const now = readQuota(files, cell);
  if (now?.quotaUs != null) unlessGone(() => writeQuota(files, cell, { ...now, quotaUs: null }));
}

function unlessGone(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** True when pid, start and threads still belong together: ids are used again. */
export function isSameVm(files: GroupFiles, threads: VcpuThreads, startTicksOf: (pid: number) => number | undefined) {
  return (
    startTicksOf(threads.pid) === threads.startTicks &&
    threads.tids.every((tid) => files.exists(`/proc/${threads.pid}/task/${tid}`))
  );
}

function unavailable(message: string): HostevacError {
  return new HostevacError('throttleUnavailable', message);
}

/** What to grant, by what the kernel says. */
const REMEDIES: Readonly<Record<string, string>> = {
  EACCES: 'run hostevac as root, or as the owner of that group (systemd: Delegate=yes)',
  EPERM: 'run hostevac as root, or as the owner of that group (systemd: Delegate=yes)',
  EROFS: 'control groups are mounted read-only here (a container?): mount them writable',
  EBUSY: 'other threads or controllers are in the way: see cgroup.type and cgroup.subtree_control of that group',
  EOPNOTSUPP: 'the group is no place for threads: see its cgroup.type',
  EINVAL: 'the kernel takes no such value there: a group above or below may have a tighter quota',
};

function granted(what: string, act: () => void): void {
  try {
    act();
  } catch (error) {
    const code = errnoOf(error);
    throw new HostevacError('throttleUnavailable', `cannot ${what} (${code}): ${REMEDIES[code] ?? String(error)}`, {
      cause: error,
    });
  }
}
