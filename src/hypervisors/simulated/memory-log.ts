/** The simulation's log in memory, on any clock: for tests and for fleets that live in one process. */
import type { Clock } from '../../clock/clock.ts';
import type { LogRead, SimulationLog } from './log.ts';
import type { Command, LogEntry, State } from './model.ts';

export class MemorySimulationLog implements SimulationLog {
  readonly #clock: Pick<Clock, 'now'>;
  #entries: LogEntry[] = [];
  #snapshot: State | null = null;
  #lastAtMs = 0;

  constructor(clock: Pick<Clock, 'now'>) {
    this.#clock = clock;
  }

  async append(command: Command, since: number): Promise<LogRead & { readonly index: number }> {
    const index = this.#base + this.#entries.length + 1;
    this.#lastAtMs = this.#nowMs();
    this.#entries.push({ index, atMs: this.#lastAtMs, command });
    return { ...this.#read(since), index };
  }

  async readSince(index: number): Promise<LogRead> {
    return this.#read(index);
  }

  async compact(state: State): Promise<void> {
    if (state.index <= this.#base) return;
    this.#entries = this.#entries.filter((entry) => entry.index > state.index);
    this.#snapshot = state;
  }

  /** Index of the last entry that only the snapshot holds. */
  get #base(): number {
    return this.#snapshot?.index ?? 0;
  }

  #nowMs(): number {
    return Math.max(this.#lastAtMs, this.#clock.now());
  }

  #read(since: number): LogRead {
    return {
      nowMs: this.#nowMs(),
      snapshot: since < this.#base ? this.#snapshot : null,
      entries: this.#entries.filter((entry) => entry.index > since),
      length: this.#entries.length,
    };
  }
}
