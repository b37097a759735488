/**
 * What the end of a migration means for its VM's task: done, tried again elsewhere, or failed for good. Pure.
 */
import { type ErrorCode, LOUDEST } from '../domain/errors.ts';
import { ENDED_MOVE_STATES, type MoveRecord, type VmTask } from '../domain/operation.ts';

/** Another try cannot help, or must not be made before somebody has looked. */
const FINAL_CODES: ReadonlySet<ErrorCode> = new Set([
  ...LOUDEST,
  'sourceDied',
  'foreignMigration',
  'deadlineExceeded',
  // Another host would not make it converge: the guest and the source's bandwidth are the same.
  'maxTimeExceeded',
  'throttleUnavailable',
  'policyUnknown',
]);

/** A destination that failed is given this long before it is tried again, doubled with each try (fleet ms). */
const RETRY_AFTER_MS = 5_000;

/** The task after its current move, or the same task while that is going on. */
export function collect(task: VmTask, move: MoveRecord | null, rules: { nowMs: number; maxAttempts: number }): VmTask {
  if (move === null || task.needsMove || ENDED_MOVE_STATES.has(task.state) || task.moveIds.at(-1) !== move.id)
    return task;
  if (!ENDED_MOVE_STATES.has(move.state)) return task.state === move.state ? task : { ...task, state: move.state };
  switch (move.state) {
    case 'done':
    case 'shutOff':
      return { ...task, state: move.state, reason: null };
    case 'cancelled':
      return { ...task, state: 'cancelled', reason: move.reason };
    default:
      return afterFailure(task, move, rules);
  }
}

/** Asking its guest again cannot help: it would not, or the hypervisor cannot ask it. */
const NOT_TO_BE_SHUT_DOWN: ReadonlySet<ErrorCode> = new Set(['shutdownTimedOut', 'hypervisorRefused']);

function afterFailure(task: VmTask, move: MoveRecord, rules: { nowMs: number; maxAttempts: number }): VmTask {
  const isShutdown = move.kind === 'shutdown';
  if (isShutdown && move.reason !== null && NOT_TO_BE_SHUT_DOWN.has(move.reason.code))
    return { ...task, state: 'blocked', reason: move.reason };
  const attempts = task.moveIds.length;
  const again = attempts < rules.maxAttempts && move.reason !== null && !FINAL_CODES.has(move.reason.code);
  if (!again) return { ...task, state: 'failed', reason: move.reason };
  return {
    ...task,
    state: 'queued',
    needsMove: true,
    avoid: isShutdown ? task.avoid : [...new Set([...task.avoid, move.destination])],
    retryAtMs: rules.nowMs + RETRY_AFTER_MS * 2 ** (attempts - 1),
    reason: move.reason,
  };
}

/** A task whose current move has not ended: somebody may be driving it. */
export function isActive(task: VmTask): boolean {
  return !task.needsMove && !ENDED_MOVE_STATES.has(task.state);
}

/** A task that needs a (new) move: never planned, or its last move failed and may be tried again. */
export function isPending(task: VmTask): boolean {
  return task.needsMove && !ENDED_MOVE_STATES.has(task.state);
}
