/**
 * Which of the hosts that a VM fits on delay the end of a plan least. What leaves a source takes as long as it takes: until
 * then nothing else need be hurried, and the fit decides. Pure.
 */
import type { Bin, RuledTask } from './bins.ts';
import type { BusyLinks, Load } from './busy-links.ts';

export interface Narrowed {
  readonly bins: readonly Bin[];
  /**
   * Why only these: the links of the others are busy, these are behind fewer shared links, or there is none without delay
   * and these are free first; null: they are all.
   */
  readonly because: 'inTime' | 'near' | 'soonest' | null;
}

/** What the plan so far keeps the network busy with, and when it ends. */
export class Timing {
  readonly #busy: BusyLinks;
  #endsMs = 0;

  constructor(tasks: readonly RuledTask[], busy: BusyLinks) {
    this.#busy = busy;
    const leaving = new Map<string, number>();
    for (const { source, touchedBytes = 0 } of tasks) leaving.set(source, (leaving.get(source) ?? 0) + touchedBytes);
    for (const [source, bytes] of leaving) this.#endsBy(busy.leavesMs(source, bytes));
  }

  /** Those that delay the end of the plan least; where it is not delayed, those behind the fewest shared links. */
  narrow(task: RuledTask, bins: readonly Bin[]): Narrowed {
    const seen = bins.map((bin) => ({ bin, ...this.#busy.wayOf(loadOf(task, bin)) }));
    const inTime = seen.filter(({ ms }) => ms <= this.#endsMs);
    if (inTime.length === 0) {
      const soonest = Math.min(...seen.map(({ ms }) => ms));
      const first = seen.filter(({ ms }) => ms === soonest);
      return { bins: first.map(({ bin }) => bin), because: first.length < seen.length ? 'soonest' : null };
    }
    const fewest = Math.min(...inTime.map(({ links }) => links));
    const near = inTime.filter(({ links }) => links === fewest);
    const because = near.length < inTime.length ? 'near' : inTime.length < seen.length ? 'inTime' : null;
    return { bins: near.map(({ bin }) => bin), because };
  }

  take(task: RuledTask, bin: Bin): void {
    const load = loadOf(task, bin);
    this.#endsBy(this.#busy.busyMs(load));
    this.#busy.add(load);
  }

  /** What never ends sets no measure for the others. */
  #endsBy(ms: number): void {
    if (Number.isFinite(ms)) this.#endsMs = Math.max(this.#endsMs, ms);
  }
}

function loadOf({ source, touchedBytes = 0 }: RuledTask, bin: Bin): Load {
  return { source, destination: bin.host.name, bytes: touchedBytes };
}
