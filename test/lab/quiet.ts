/** How much of this machine others use: what is measured on a busy one is their load, not ours. */
import { readFileSync } from 'node:fs';

/** The kernel shows CPU times in hundredths of a second: proc_stat(5), proc_pid_stat(5). */
const TICK_MS = 10;

export interface CpuTimes {
  readonly atMs: number;
  /** Of all processes on all cores, and what the machine's own host took away. */
  readonly allMs: number;
  /** Of this process and of those that were named. */
  readonly ownMs: number;
}

/** `pids`: processes that belong to what is measured; they live. */
export function cpuTimes(pids: readonly number[]): CpuTimes {
  const fields = /^cpu +(.*)$/m.exec(readFileSync('/proc/stat', 'utf8'))?.[1]?.split(' ').map(Number) ?? [];
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0, steal = 0] = fields;
  const own = process.cpuUsage();
  return {
    atMs: performance.now(),
    allMs: (user + nice + system + irq + softirq + steal) * TICK_MS,
    ownMs: pids.reduce((sum, pid) => sum + cpuMsOf(pid), (own.user + own.system) / 1_000),
  };
}

/** Cores that others used between two looks. A process that is named in the second only was started in between. */
export function othersCores(before: CpuTimes, after: CpuTimes): number {
  return (after.allMs - before.allMs - (after.ownMs - before.ownMs)) / (after.atMs - before.atMs);
}

/** CPU time that a process has used, ms. Throws when it has ended. */
export function cpuMsOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // After the name, which may hold anything, state is field 3; utime and stime are 14 and 15.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[14 - 3]) + Number(fields[15 - 3])) * TICK_MS;
}
