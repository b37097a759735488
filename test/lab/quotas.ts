/** The CPU quotas of this machine as the kernel has them, and what of them is ours. cgroup v1. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { expect } from 'vitest';
import { ownGroupName } from '../../src/throttling/cgroup/cells.ts';

const CPU = '/sys/fs/cgroup/cpu';

/** `quota/period` by group, those that hostevac makes left out; the topmost has none where the kernel shows none. */
export type Quotas = ReadonlyMap<string, string>;

export function quotasNow(): Quotas {
  const quotas = new Map<string, string>();
  for (const group of groups().filter((path) => !isOurs(path))) {
    const quota = quotaOf(group);
    if (quota !== null) quotas.set(group, quota);
  }
  return quotas;
}

/**
 * Of a run that was killed: its guests are dead, and its groups must not be taken for those of our guests, which have the
 * same names.
 */
const STRAYS = new Set(groups().filter((path) => isOurs(path) && isEmpty(path)));
if (STRAYS.size > 0) console.warn(`!!! left over by whoever was killed, not looked at: ${[...STRAYS].join(' ')}`);

function isOurs(group: string): boolean {
  return basename(group).startsWith('hostevac-');
}

/** Nothing runs in it, nor in a group below it. */
function isEmpty(group: string): boolean {
  try {
    return [group, ...groupsBelow(group)].every((path) => readFileSync(join(path, 'tasks'), 'utf8').trim() === '');
  } catch (error) {
    if (hasGone(error)) return false;
    throw error;
  }
}

/** `quota/period` of the group in which the guest is held back now; null: it is not. */
export function heldBack(host: string, vm: string): string | null {
  // Whatever the process.
  const isOfGuest = (path: string): boolean => basename(path).replace(/\d+$/, '0') === ownGroupName(host, vm, 0);
  const group = groups().find((path) => isOfGuest(path) && !STRAYS.has(path));
  return group === undefined ? null : quotaOf(group);
}

/** The CPU groups that the threads of a process are in, each once. */
export function groupsOf(pid: number): string[] {
  const threads = readdirSync(`/proc/${pid}/task`).flatMap((tid) => {
    try {
      const text = readFileSync(`/proc/${pid}/task/${tid}/cgroup`, 'utf8');
      return [/^\d+:(?:cpu|cpu,cpuacct|cpuacct,cpu):(.*)$/m.exec(text)?.[1] ?? ''];
    } catch (error) {
      // The thread has ended since it was listed.
      if (hasGone(error)) return [];
      throw error;
    }
  });
  return [...new Set(threads)];
}

/** Every group that is still there has its quota, and none of these VMs is held back anywhere. */
export function expectQuotasAsBefore(before: Quotas, vms: readonly string[], hosts: readonly string[]): void {
  const now = quotasNow();
  const changed = [...before].filter(([group, quota]) => now.has(group) && now.get(group) !== quota);
  expect(changed).toEqual([]);
  const held = hosts.flatMap((host) => vms.filter((vm) => heldBack(host, vm) !== null).map((vm) => `${vm} at ${host}`));
  expect(held).toEqual([]);
}

function groups(): string[] {
  return existsSync(CPU) ? [CPU, ...groupsBelow(CPU)] : [];
}

/** Level by level, as groups go while they are listed: a recursive `readdirSync` throws then. */
function groupsBelow(group: string): string[] {
  try {
    return readdirSync(group, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => join(entry.parentPath, entry.name))
      .flatMap((path) => [path, ...groupsBelow(path)]);
  } catch (error) {
    if (hasGone(error)) return [];
    throw error;
  }
}

function quotaOf(group: string): string | null {
  try {
    const read = (name: string): string => readFileSync(join(group, name), 'utf8').trim();
    return `${read('cpu.cfs_quota_us')}/${read('cpu.cfs_period_us')}`;
  } catch (error) {
    // It has gone since it was listed, or is the topmost one.
    if (hasGone(error)) return null;
    throw error;
  }
}

function hasGone(error: unknown): boolean {
  return error instanceof Error && 'code' in error && ['ENOENT', 'ENODEV', 'ESRCH'].includes(String(error.code));
}
