/**
 * The port to the simulation's log: everything that was ever done to the simulated fleet, in one order, each entry at
 * a fleet time that the log itself gives. It is all that processes share; the state is folded from it (`step.ts`).
 */
import type { Command, LogEntry, State } from './model.ts';

/** A log longer than this is folded into a snapshot by whoever writes next; a late reader folds at most that much. */
export const COMPACT_ABOVE = 2_000;

export interface LogRead {
  /** Fleet time of the answer. No later entry is older, so that what is computed for it is never contradicted. */
  readonly nowMs: number;
  /** State right after entry `snapshot.index`; null unless the log no longer holds what follows the reader's index. */
  readonly snapshot: State | null;
  /** What follows the reader's index (or the snapshot), in order. */
  readonly entries: readonly LogEntry[];
  /** Entries that the log holds. */
  readonly length: number;
}

export interface SimulationLog {
  /**
   * Adds a command at the fleet time of now and answers as `readSince` does; `index` is the command's own. Sends in the
   * same tick in which it is called. Throws `redisAway`, `fleetMismatch`.
   */
  append(command: Command, since: number): Promise<LogRead & { readonly index: number }>;
  readSince(index: number): Promise<LogRead>;
  /** Keeps this state in place of the entries up to its index, unless another writer was faster. */
  compact(state: State): Promise<void>;
}
