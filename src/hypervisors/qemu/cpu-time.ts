/** How many cores a guest uses: the CPU time of its vCPU threads between two readings of this process. */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import type { Answered } from './examine.ts';
import { threadCpuMs } from './process.ts';

/** The scheduler's accounting is exact; a guest that halts on a timer needs several of its periods. */
const SHORTEST_SPAN_MS = 200;

interface Reading {
  readonly pid: number;
  readonly startTicks: number;
  readonly atMs: number;
  readonly gotMs: number;
}

export class CpuTimes {
  /** The reading that the next span begins at, by VM directory. */
  readonly #begun = new Map<string, Reading>();

  /**
   * Cores used, in the order asked. The span begins at the last reading of the same process; where there is none, or it
   * is too short, all wait once, together.
   */
  async coresOf(vms: readonly { readonly path: string; readonly qemu: Answered }[]): Promise<number[]> {
    const now = vms.map(({ qemu }) => read(qemu));
    const begun = vms.map(({ path }, index) => {
      const before = this.#begun.get(path);
      const current = now[index];
      const same = before?.pid === current?.pid && before?.startTicks === current?.startTicks;
      return before !== undefined && same ? before : current;
    });
    const short = begun.some((from, index) => spanMs(from, now[index]) < SHORTEST_SPAN_MS);
    if (short) await abortableSleep(SHORTEST_SPAN_MS);
    return vms.map(({ path, qemu }, index) => {
      const from = begun[index];
      const to = short ? read(qemu) : now[index];
      if (from === undefined || to === undefined) return 0;
      this.#begun.set(path, to);
      return Math.max(0, (to.gotMs - from.gotMs) / spanMs(from, to));
    });
  }
}

function spanMs(from: Reading | undefined, to: Reading | undefined): number {
  return from === undefined || to === undefined ? 0 : to.atMs - from.atMs;
}

function read({ process, tids }: Answered): Reading {
  // With `-accel tcg,thread=single` all vCPUs share one thread.
  const gotMs = [...new Set(tids)].reduce((sum, tid) => sum + (threadCpuMs(process.pid, tid) ?? 0), 0);
  return { ...process, atMs: performance.now(), gotMs };
}
