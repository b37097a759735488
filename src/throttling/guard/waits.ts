/**
 * How long throttled threads have waited for their CPU, by looks. The kernel charges a group for all that its thread ran,
 * also where no tick stopped it in time (the machine's own hypervisor had taken the CPU away, or the tick came late): 25 ms
 * charged to a quota of 1.7 ms in 50 are 14 periods without any CPU.
 */
import { parseProcessStat } from '../../runtime/process-identity.ts';
import { type Cell, refillCell } from '../cgroup/cells.ts';
import type { GroupFiles } from '../cgroup/files.ts';
import { type Allowance, longestStallMs, quotaFor } from '../cgroup/quota.ts';

/** Since the look that saw it run a thread may have waited for 50 ms more, the next look is 50 ms away, and the kernel takes a moment. */
const LOOK_AHEAD_MS = 125;
const MORE_THAN_USUAL_MS = 10;

export class Waits {
  readonly #files: GroupFiles;
  readonly #seen = new Map<number, { readonly used: string; readonly ranAtMs: number }>();

  constructor(files: GroupFiles) {
    this.#files = files;
  }

  /**
   * A quota says how long a thread waits at most (quota.ts); where the kernel's accounts say more the cell's threads are let
   * run: before it is longer than allowed, or, where the quota's own longest wait is close to that, at the first look that
   * saw more than it (up to a look's 50 ms too late; sooner would lift what only waits as it should). What is to be told of
   * it; null: nobody has waited for too long.
   */
  relieve(cell: Cell, allowance: Allowance, nowMs: number): string | null {
    const waitedMs = Math.max(0, ...cell.tids.map((tid) => this.#waitedMs(tid, nowMs)));
    if (waitedMs < allowance.longestStretchMs - LOOK_AHEAD_MS) return null;
    if (waitedMs < longestStallMs(quotaFor(allowance), allowance.busyThreads) + MORE_THAN_USUAL_MS) return null;
    this.#begin(cell.tids, nowMs);
    const kept = `kept from its CPU for ${Math.round(waitedMs)} ms by the kernel's accounts`;
    try {
      refillCell(this.#files, cell);
      return `${kept}; let run`;
    } catch (error) {
      return `${kept}; CANNOT LET IT RUN: ${error instanceof Error ? error.message : String(error)}`;
    }
  }

  /** Since the look that last saw it run, or not want to, ms. A thread that is gone, or was not looked at before, has not waited. */
  #waitedMs(tid: number, nowMs: number): number {
    const [used] = (this.#files.readIfThere(`/proc/${tid}/schedstat`) ?? '').split(' ', 1);
    const stat = parseProcessStat(this.#files.readIfThere(`/proc/${tid}/stat`) ?? '');
    const before = this.#seen.get(tid);
    if (used === undefined || stat?.state !== 'R' || before?.used !== used) {
      this.#seen.set(tid, { used: used ?? '', ranAtMs: nowMs });
      return 0;
    }
    return nowMs - before.ranAtMs;
  }

  /** They may run from now on. */
  #begin(tids: readonly number[], nowMs: number): void {
    for (const tid of tids) {
      const before = this.#seen.get(tid);
      if (before !== undefined) this.#seen.set(tid, { ...before, ranAtMs: nowMs });
    }
  }

  forget(tids: readonly number[]): void {
    for (const tid of tids) this.#seen.delete(tid);
  }
}
