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
 * Period and quota together bound how long a thread stands still.
 *
 * A group that has used its quota q waits for the next period P; one that ran first at the start and then at the end of
 * its turn waits 2(P - q) (Shin and Lee, "Periodic Resource Model for Compositional Real-Time Guarantees", 2003). The
 * kernel charges CPU time at its tick, 4 ms with HZ=250: a thread with less quota than that runs for a tick and then pays
 * for it during the next periods, so it waits ceil(tick/q) * P - tick. Several busy threads that share a quota of less than a
 * tick for each run by turns, and nobody sees to it that none is passed over: twice as long as fair turns would take.
 * Measured with HZ=250 (Linux 6.18, two CPUs in use by others), longest gaps of busy loops in 2.5 s, three times:
 *
 *   q / P ms     threads   said   measured
 *   1 / 50          1      196    196 199 200
 *   2 / 40          1       76     77  77  80
 *   1 / 22          1       84     84  84 106
 *   1 / 10          1       36     36  36  46
 *   1 / 5           1       16     17  17  17
 *   3 / 40          2      209    116 119 195
 *   5 / 50          2      156    104 104 104
 *   8 / 45          2       82     48  83  86
 *   25 / 50         2       75     32  36  46
 *   4 / 50          4      396    245 345 395
 *
 * A kernel with a longer tick (HZ=100) makes the waits of the smallest quotas 2.5 times as long.
 */
const TICK_US = 4_000;
/** The kernel takes no smaller quota. */
const SMALLEST_US = 1_000;
/** Longer ones hold a guest back no better and let it wait longer; the kernel takes none below 1 ms. */
const PERIODS_US = [50, 45, 40, 36, 32, 28, 25, 22, 20, 18, 16, 14, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1].map(
  (ms) => ms * 1_000,
);
/** What is left for timers that fire late, and for others who run first. */
const OF_STRETCH = 0.9;

export interface Allowance {
  /** For the group as a whole. */
  readonly cores: number;
  /** Threads in the group that want most of a CPU; at least 1. */
  readonly busyThreads: number;
  /** None of those may wait longer than this for its next turn. */
  readonly longestStretchMs: number;
}

/**
 * So many cores, with the longest period that keeps the stretch. Where none does, the cores are raised to the least that
 * does: about 4 ms / longestStretchMs for one thread, for several twice that each.
 */
export function quotaFor({ cores, busyThreads, longestStretchMs }: Allowance): Quota & { readonly quotaUs: number } {
  const stretchUs = longestStretchMs * 1_000 * OF_STRETCH;
  let best = { quotaUs: SMALLEST_US, periodUs: SMALLEST_US };
  let bestCores = Number.POSITIVE_INFINITY;
  for (const periodUs of PERIODS_US) {
    const leastUs = Math.ceil(leastQuotaUs(periodUs, busyThreads, stretchUs));
    const leastCores = Math.max(cores, leastUs / periodUs);
    if (leastCores < bestCores) {
      best = { quotaUs: Math.max(leastUs, Math.round(cores * periodUs)), periodUs };
      bestCores = leastCores;
    }
  }
  return best;
}

/** The inverse of `longestStallMs`. */
function leastQuotaUs(periodUs: number, threads: number, stretchUs: number): number {
  const byPeriods = threads * (periodUs - stretchUs / 2);
  const withTick = stretchUs + TICK_US;
  const periods = Math.max(1, Math.floor(withTick / periodUs));
  const byTick = threads === 1 ? TICK_US / periods : threads * TICK_US * Math.min(1, (2 * periodUs) / withTick);
  return Math.min(threads * periodUs, Math.max(threads * SMALLEST_US, byPeriods, byTick));
}

/** The longest that one of so many busy threads waits under this quota; see above. */
export function longestStallMs({ quotaUs, periodUs }: Quota, threads: number): number {
  if (quotaUs === null || quotaUs >= threads * periodUs) return 0;
  const byPeriods = 2 * (periodUs - quotaUs / threads);
  const burstsUs = threads * TICK_US;
  if (quotaUs >= burstsUs) return byPeriods / 1_000;
  const periods = threads === 1 ? Math.ceil(burstsUs / quotaUs) : (2 * burstsUs) / quotaUs;
  return Math.max(byPeriods, periods * periodUs - TICK_US) / 1_000;
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
