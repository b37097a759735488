/**
 * CPU quotas: how much CPU time a group may use in each period. How many cores become which quota, and how v1 and v2
 * write it down.
 * Sources: the kernel's Documentation/scheduler/sched-bwc.rst and admin-guide/cgroup-v2.rst; kernel/sched/core.c,
 * tg_set_cfs_bandwidth (quota and period of at least 1 ms, period of at most 1 s).
 */
import { dirname, join } from 'node:path';
import type { GroupFiles } from './files.ts';
import type { CpuGroup } from './layout.ts';

export interface Quota {
  /** CPU time per period; null: no limit. */
  readonly quotaUs: number | null;
  readonly periodUs: number;
}

/**
 * The period, and the smallest quota that a thread is given, bound how long a guest stands still.
 *
 * A group that has used its quota q waits for the next period P; one that ran first at the start and then at the end of
 * its turn waits 2(P - q) (Shin and Lee, "Periodic Resource Model for Compositional Real-Time Guarantees", 2003). The
 * kernel charges CPU time at its tick, 4 ms with HZ=250: a thread with q = 1 ms runs for a tick and then pays for it
 * during the next periods, so it waits ceil(tick/q) * P - tick. Both are at most 196 ms for P = 50 ms and q >= 1 ms.
 * Measured with HZ=250 (Linux 6.18), longest gap of a busy loop in 10 s:
 *
 *   P = 50 ms, one thread at 1 ms: 197 ms; two threads at 2 ms together: 148; two at 1.5 ms together: 546
 *   P = 100 ms, one thread at 1 ms: 199 ms; at 2 ms: 200; two at 4 ms together: 296; two at 2 ms: 298
 *
 * So the shorter period, and 1 ms of it for every thread that is busy: 300 ms of stall (every preset's limit) are kept.
 */
const PERIOD_US = 50_000;
const SMALLEST_US = 1_000;
const TICK_US = 4_000;

/** The least that a group with so many threads, that want so much, can be held to. */
export function smallestCores(threads: number, demandCores: number): number {
  return (SMALLEST_US / PERIOD_US) * Math.max(1, Math.min(threads, Math.ceil(demandCores)));
}

/** The quota for so many cores; at least the smallest one for one thread. */
export function quotaFor(cores: number): Quota & { readonly quotaUs: number } {
  return { quotaUs: Math.max(SMALLEST_US, Math.round(cores * PERIOD_US)), periodUs: PERIOD_US };
}

/** The longest that one busy thread waits under this quota; see above. */
export function longestStallMs({ quotaUs, periodUs }: Quota): number {
  if (quotaUs === null || quotaUs >= periodUs) return 0;
  const burstUs = Math.max(quotaUs, TICK_US);
  return Math.max(2 * (periodUs - quotaUs), Math.ceil(burstUs / quotaUs) * periodUs - burstUs) / 1_000;
}

export function coresOf({ quotaUs, periodUs }: Quota): number {
  return quotaUs === null ? Number.POSITIVE_INFINITY : quotaUs / periodUs;
}

/** null: the group has none (the root; or v2 without the cpu controller). Throws when what is read is no quota. */
export function readQuota(files: GroupFiles, { version, path }: Pick<CpuGroup, 'version' | 'path'>): Quota | null {
  const text =
    version === 2
      ? files.readIfThere(join(path, 'cpu.max'))
      : joined(files.readIfThere(join(path, 'cpu.cfs_quota_us')), files.readIfThere(join(path, 'cpu.cfs_period_us')));
  if (text === undefined) return null;
  const [, quota, period] = /^(max|-?\d+)\s+(\d+)\s*$/.exec(text) ?? [];
  if (quota === undefined || period === undefined) throw new Error(`${path}: ${JSON.stringify(text)} is no CPU quota`);
  const quotaUs = Number(quota);
  return { quotaUs: quota === 'max' || quotaUs < 0 ? null : quotaUs, periodUs: Number(period) };
}

function joined(quota: string | undefined, period: string | undefined): string | undefined {
  return quota === undefined || period === undefined ? undefined : `${quota.trim()} ${period.trim()}`;
}

/**
 * v2 takes both at once. v1 takes one after the other and refuses any moment at which the group would have more than its
 * parent: a period that grows goes first, one that shrinks last.
 */
export function writeQuota(files: GroupFiles, group: Pick<CpuGroup, 'version' | 'path'>, quota: Quota): void {
  const { version, path } = group;
  if (version === 2) {
    files.write(join(path, 'cpu.max'), `${quota.quotaUs ?? 'max'} ${quota.periodUs}`);
    return;
  }
  const before = readQuota(files, group);
  const writes = [
    () => files.write(join(path, 'cpu.cfs_quota_us'), String(quota.quotaUs ?? -1)),
    () => files.write(join(path, 'cpu.cfs_period_us'), String(quota.periodUs)),
  ];
  if (before !== null && before.periodUs === quota.periodUs) writes.pop();
  else if (before !== null && before.periodUs < quota.periodUs && quota.quotaUs !== null) writes.reverse();
  for (const write of writes) write();
}

/** v1 refuses a child more cores than any group above it has (v2 takes it, and the tighter one counts). */
export function coresAbove(files: GroupFiles, { version, path, mountPoint }: CpuGroup): number {
  let cores = Number.POSITIVE_INFINITY;
  if (version === 2) return cores;
  for (let above = dirname(path); above.length > mountPoint.length; above = dirname(above)) {
    const quota = readQuota(files, { version, path: above });
    if (quota !== null) cores = Math.min(cores, coresOf(quota));
  }
  // A container's topmost group is no root: it may have a quota as well.
  const top = path === mountPoint ? null : readQuota(files, { version, path: mountPoint });
  return top === null ? cores : Math.min(cores, coresOf(top));
}
