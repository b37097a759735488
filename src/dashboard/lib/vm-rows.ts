/** The VMs of an operation as a page shows them: each with its current migration, what failed before, and what comes next. Pure. */
import type { MigrationProgress, VmTask } from '../../domain/operation.ts';
import { ENDED_MOVE_STATES, GONE_MOVE_STATES, type MoveState } from '../../domain/states.ts';

export interface MoveFacts {
  readonly id: string;
  readonly kind: 'migration' | 'shutdown';
  readonly vm: string;
  readonly destination: string;
  readonly attempt: number;
  readonly state: MoveState;
  readonly reason: { readonly message: string } | null;
  readonly progress: MigrationProgress | null;
  readonly endedAtMs: number | null;
}

export interface VmRow<Move extends MoveFacts = MoveFacts> {
  readonly vm: string;
  readonly source: string;
  readonly destination: string | null;
  readonly state: MoveState;
  readonly attempts: number;
  /** The last one, if there is any. */
  readonly move: Move | null;
  /** Of a migration that runs. */
  readonly progress: MigrationProgress | null;
  /** Part of the guest's memory that is at the destination and not dirtied since, 0..1. */
  readonly fraction: number;
  /** Why it stands as it does. */
  readonly why: string | null;
  /** How the last attempt before the current one failed. */
  readonly lastFailure: string | null;
  /** From now on, until it may be tried again where it failed; null: it is not waiting for that. */
  readonly retryInMs: number | null;
}

export function vmRows<Move extends MoveFacts>(
  tasks: readonly VmTask[],
  moves: readonly Move[],
  nowMs: number,
): VmRow<Move>[] {
  const byVm = new Map<string, Move[]>();
  for (const move of moves) {
    const known = byVm.get(move.vm);
    if (known === undefined) byVm.set(move.vm, [move]);
    else known.push(move);
  }
  return tasks.map((task) => {
    const own = (byVm.get(task.vm) ?? []).toSorted((a, b) => a.attempt - b.attempt);
    const move = own.at(-1) ?? null;
    const ended = ENDED_MOVE_STATES.has(task.state);
    // A task that waits for another try has ended its last migration: that one's figures would look like progress.
    const current = move !== null && (ended || !ENDED_MOVE_STATES.has(move.state) || GONE_MOVE_STATES.has(move.state));
    const state = move !== null && current && !ended ? move.state : task.state;
    const progress = move !== null && current && !ENDED_MOVE_STATES.has(state) ? move.progress : null;
    const failed = own.filter((each) => each.state === 'failed' && (each !== move || !ended)).at(-1);
    const waits = task.needsMove && !ended && task.retryAtMs > nowMs;
    return {
      vm: task.vm,
      source: task.source,
      destination: move?.kind === 'shutdown' ? null : current ? (move?.destination ?? task.wanted) : task.wanted,
      state,
      attempts: task.moveIds.length,
      move,
      progress,
      fraction: GONE_MOVE_STATES.has(state) ? 1 : fractionOf(progress),
      why: task.reason?.message ?? (current ? move?.reason?.message : undefined) ?? progress?.decision ?? null,
      lastFailure: failed?.reason?.message ?? null,
      retryInMs: waits ? task.retryAtMs - nowMs : null,
    };
  });
}

/** Not the bytes sent: those grow past the memory's size with every pass. What is clean at the destination is what counts. */
export function fractionOf(progress: Pick<MigrationProgress, 'totalBytes' | 'remainingBytes'> | null): number {
  if (progress === null) return 0;
  const total = Math.max(progress.totalBytes, progress.remainingBytes);
  return total <= 0 ? 0 : Math.min(1, Math.max(0, 1 - progress.remainingBytes / total));
}
