/**
 * What a watcher knows of an operation at one moment, as one row per VM and one for the whole. Pure: figures only, no
 * words or widths; `screen.ts` and `lines.ts` make text of them.
 */
import {
  ENDED_MOVE_STATES,
  GONE_MOVE_STATES,
  type MigrationFigures,
  type MigrationProgress,
  type MoveRecord,
  type MoveState,
  type OperationRecord,
} from '../../domain/operation.ts';
import type { HostStatus } from '../../queue/producer.ts';

/** Everything at one moment; times in fleet time. */
export interface Snapshot {
  readonly nowMs: number;
  readonly record: OperationRecord;
  /** The current migration of each VM that has one. */
  readonly moves: readonly MoveRecord[];
  readonly hosts: readonly HostStatus[];
}

export interface VmRow {
  readonly vm: string;
  readonly source: string;
  /** null: not placed yet, or it goes nowhere. */
  readonly destination: string | null;
  readonly state: MoveState;
  readonly attempts: number;
  /** Of a migration that has begun. */
  readonly progress: MigrationProgress | null;
  /** Part of the guest's memory that is at the destination and not dirtied since, 0..1. */
  readonly fraction: number;
  readonly figures: MigrationFigures;
  /** Why it ended so, or what it waits for. */
  readonly reason: string | null;
}

/** One row per VM of the operation, in the order of its tasks. */
export function vmRows(record: OperationRecord, moves: readonly MoveRecord[]): VmRow[] {
  const byVm = new Map(moves.map((move) => [move.vm, move]));
  return record.tasks.map((task) => {
    // A task that waits for another try has ended its last migration: that one's figures would look like progress.
    const last = byVm.get(task.vm);
    const move = last !== undefined && stale(task.state, last) ? undefined : last;
    const state = move !== undefined && !ENDED_MOVE_STATES.has(task.state) ? move.state : task.state;
    return {
      vm: task.vm,
      source: task.source,
      destination: move?.kind === 'shutdown' ? null : (move?.destination ?? task.wanted),
      state,
      attempts: task.moveIds.length,
      progress: ENDED_MOVE_STATES.has(state) ? null : (move?.progress ?? null),
      fraction: state === 'done' ? 1 : fractionOf(move?.progress ?? null),
      figures: move?.figures ?? {
        totalMs: 0,
        downtimeMs: 0,
        transferredBytes: 0,
        minShare: 1,
        meanShare: 1,
        harmCpuMs: 0,
      },
      reason: task.reason?.message ?? move?.reason?.message ?? null,
    };
  });
}

function stale(taskState: MoveState, move: MoveRecord): boolean {
  return !ENDED_MOVE_STATES.has(taskState) && ENDED_MOVE_STATES.has(move.state) && !GONE_MOVE_STATES.has(move.state);
}

/**
 * Not the bytes sent: those grow past the memory's size with every pass. What is clean at the destination is what counts,
 * and it falls back when the guest dirties faster than the link carries, which is what a watcher must see.
 */
export function fractionOf(progress: MigrationProgress | null): number {
  if (progress === null) return 0;
  const total = Math.max(progress.totalBytes, progress.remainingBytes);
  if (total <= 0) return 0;
  return Math.min(1, Math.max(0, 1 - progress.remainingBytes / total));
}

export interface Whole {
  readonly ended: number;
  /** Moved, or shut down. */
  readonly done: number;
  /** Without those that are left where they are on purpose. */
  readonly total: number;
  readonly skipped: number;
  readonly elapsedMs: number;
  /** null: nobody can tell yet. */
  readonly etaMs: number | null;
  /** Egress of the hosts that the VMs leave: bytes/s promised to migrations, and the capacity. */
  readonly egress: { readonly counted: number; readonly capacity: number } | null;
}

export function wholeOf(snapshot: Snapshot, rows: readonly VmRow[]): Whole {
  const { record, nowMs } = snapshot;
  const since = record.startedAtMs ?? record.createdAtMs;
  const skipped = rows.filter((row) => row.state === 'skipped').length;
  const sources = new Set(rows.map((row) => row.source));
  const hosts = snapshot.hosts.filter((host) => sources.has(host.host));
  return {
    ended: rows.filter((row) => ENDED_MOVE_STATES.has(row.state)).length,
    done: rows.filter((row) => GONE_MOVE_STATES.has(row.state)).length,
    total: rows.length - skipped,
    skipped,
    elapsedMs: Math.max(0, (record.endedAtMs ?? nowMs) - since),
    etaMs: record.endedAtMs === null ? wholeEta(rows, Math.max(0, nowMs - since)) : null,
    egress:
      hosts.length === 0
        ? null
        : {
            counted: hosts.reduce((sum, host) => sum + host.egress.counted, 0),
            capacity: hosts.reduce((sum, host) => sum + host.egress.capacity, 0),
          },
  };
}

/**
 * What is left takes as long as what was done took, VM by VM, and never less than the slowest running one. A first
 * estimate only: it assumes that the VMs to come are like those that went. null before half a VM is through.
 */
function wholeEta(rows: readonly VmRow[], elapsedMs: number): number | null {
  let through = 0;
  let left = 0;
  let slowest = 0;
  let unknown = false;
  let waiting = false;
  for (const row of rows) {
    if (ENDED_MOVE_STATES.has(row.state)) {
      if (GONE_MOVE_STATES.has(row.state)) through += 1;
      continue;
    }
    through += row.fraction;
    left += 1 - row.fraction;
    if (row.progress === null) waiting = true;
    else if (row.progress.etaMs === null) unknown = true;
    else slowest = Math.max(slowest, row.progress.etaMs);
  }
  if (left === 0 && !waiting) return slowest;
  if (!waiting && !unknown) return slowest;
  if (through < 0.5) return null;
  return Math.max(slowest, (elapsedMs / through) * left);
}
