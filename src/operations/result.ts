/** What an operation came to: the result that users and tools read. Pure. */
import {
  type MoveRecord,
  type MoveResult,
  NO_FIGURES,
  type OperationRecord,
  type OperationResult,
  type OperationState,
  type VmTask,
} from '../domain/operation.ts';

/** How an operation whose tasks have all ended is called. */
export function endState(tasks: readonly VmTask[]): OperationState {
  const moved = tasks.filter((task) => task.state === 'done').length;
  const left = tasks.filter((task) => task.state === 'failed' || task.state === 'blocked');
  if (left.length === 0) return 'done';
  if (moved > 0) return 'partial';
  return left.every((task) => task.state === 'blocked') ? 'blocked' : 'failed';
}

/** The last migration of a task is its story; earlier attempts count in `attempts`. */
function moveResult(task: VmTask, move: MoveRecord): MoveResult {
  return {
    vm: task.vm,
    source: move.source,
    destination: move.destination,
    state: task.state,
    attempts: task.moveIds.length,
    ...(move.startedAtMs === null ? NO_FIGURES : move.figures),
    predicted: null,
    relaxed: move.relaxed,
    reason: task.state === 'done' ? null : (task.reason?.message ?? move.reason?.message ?? null),
  };
}

export function operationResult(record: OperationRecord, moves: readonly MoveRecord[], nowMs: number): OperationResult {
  const byId = new Map(moves.map((move) => [move.id, move]));
  const { request } = record;
  return {
    id: record.id,
    kind: request.kind,
    state: record.state,
    host: request.kind === 'evacuateNode' ? request.host : null,
    makespanMs: record.startedAtMs === null ? 0 : (record.endedAtMs ?? nowMs) - record.startedAtMs,
    moves: record.tasks.flatMap((task) => {
      const move = byId.get(task.moveIds.at(-1) ?? '');
      return move === undefined ? [] : [moveResult(task, move)];
    }),
    blocked: record.tasks
      .filter((task) => task.state === 'blocked')
      .map((task) => ({ vm: task.vm, reason: task.reason?.message ?? 'blocked' })),
  };
}
