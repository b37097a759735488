/** What an operation came to: the result that users and tools read. Pure. */

import { type ErrorCode, LOUDEST, type Reason } from '../domain/errors.ts';
import {
  GONE_MOVE_STATES,
  type MoveRecord,
  type MoveResult,
  NO_FIGURES,
  type OperationRecord,
  type OperationResult,
  type OperationState,
  type ShutdownResult,
  type VmTask,
} from '../domain/operation.ts';
import { hostOfRequest } from '../domain/request.ts';

/** How an operation whose tasks have all ended is called. */
export function endState(tasks: readonly VmTask[]): OperationState {
  // Anything that is neither where it should be nor called off is left, also what nobody has come to yet.
  const left = tasks.filter((task) => !isSettled(task) && task.state !== 'cancelled');
  if (left.length === 0) return 'done';
  if (tasks.some(isGone)) return 'partial';
  return left.every((task) => task.state === 'blocked') ? 'blocked' : 'failed';
}

/** It has left, or is off. */
function isGone({ state }: VmTask): boolean {
  return GONE_MOVE_STATES.has(state);
}

/** What was asked for has been done, which for one that is skipped is nothing. */
function isSettled(task: VmTask): boolean {
  return isGone(task) || task.state === 'skipped';
}

const LOUD: ReadonlySet<ErrorCode> = new Set(LOUDEST);

/**
 * State and reason of an operation that ends now. `overdue`: its deadline passed; `unseen`: what is (still) to be moved could not
 * be seen, so nothing may be called done.
 */
export function outcome(
  { tasks }: Pick<OperationRecord, 'tasks'>,
  why: { readonly cancelled: boolean; readonly overdue: Reason | null; readonly unseen: Reason | null },
): { readonly state: OperationState; readonly reason: Reason | null } {
  const loudest = tasks.find(({ reason }) => reason !== null && LOUD.has(reason.code))?.reason;
  const unfinished = tasks.length === 0 || !tasks.every(isSettled);
  if (why.cancelled && unfinished) {
    return { state: 'cancelled', reason: loudest ?? { code: 'cancelled', message: 'cancelled' } };
  }
  const ended = endState(tasks);
  if (ended === 'done' && why.unseen !== null) {
    return { state: tasks.some(isGone) ? 'partial' : 'failed', reason: why.overdue ?? why.unseen };
  }
  return { state: ended, reason: loudest ?? (ended === 'done' ? null : (why.overdue ?? why.unseen)) };
}

/** What was predicted before the start, and by how much it came out otherwise: only an end that was predicted can tell. */
function predictedOf(
  task: VmTask,
  { predicted, figures }: MoveRecord,
): Pick<MoveResult, 'predicted' | 'predictionError'> {
  if (predicted === null) return { predicted: null, predictionError: null };
  const medians = {
    totalMs: predicted.totalMs.value,
    downtimeMs: predicted.downtimeMs.value,
    harmCpuMs: predicted.harmCpuMs.value,
  };
  return {
    predicted: { ...medians, intervals: predicted },
    predictionError:
      task.state === 'done'
        ? {
            totalMs: figures.totalMs - medians.totalMs,
            downtimeMs: figures.downtimeMs - medians.downtimeMs,
            harmCpuMs: figures.harmCpuMs - medians.harmCpuMs,
          }
        : null,
  };
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
    ...predictedOf(task, move),
    relaxed: move.relaxed,
    reason: task.state === 'done' ? null : (task.reason?.message ?? move.reason?.message ?? null),
  };
}

function shutdownResult(task: VmTask, move: MoveRecord): ShutdownResult {
  const isOff = task.state === 'shutOff';
  return {
    vm: task.vm,
    host: move.source,
    state: task.state,
    attempts: task.moveIds.length,
    tookMs: isOff && move.state === 'shutOff' ? move.figures.totalMs : null,
    reason: isOff ? null : (task.reason?.message ?? move.reason?.message ?? null),
  };
}

export function operationResult(record: OperationRecord, moves: readonly MoveRecord[], nowMs: number): OperationResult {
  const byId = new Map(moves.map((move) => [move.id, move]));
  const last = record.tasks.map((task) => ({ task, move: byId.get(task.moveIds.at(-1) ?? '') }));
  const { request } = record;
  return {
    id: record.id,
    kind: request.kind,
    state: record.state,
    host: hostOfRequest(request),
    makespanMs: record.startedAtMs === null ? 0 : (record.endedAtMs ?? nowMs) - record.startedAtMs,
    empty: record.empty,
    moves: last.flatMap(({ task, move }) => (move?.kind === 'migration' ? [moveResult(task, move)] : [])),
    shutdowns: last.flatMap(({ task, move }) => (move?.kind === 'shutdown' ? [shutdownResult(task, move)] : [])),
    skipped: record.tasks
      .filter((task) => task.state === 'skipped')
      .map((task) => ({ vm: task.vm, reason: task.reason?.message ?? 'skipped' })),
    blocked: record.tasks
      .filter((task) => task.state === 'blocked')
      .map((task) => ({ vm: task.vm, reason: task.reason?.message ?? 'blocked' })),
  };
}
