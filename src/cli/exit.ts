/** From how an operation ended to the command's exit code. Pure; errors bring their own code (domain/errors.ts). */
import { type ErrorCode, EXIT } from '../domain/errors.ts';
import { GONE_MOVE_STATES, type OperationResult, type OperationState } from '../domain/operation.ts';
import type { PlanPreview } from '../queue/producer.ts';

export interface Ending {
  readonly state: OperationState;
  /** VMs that moved, or were shut down where that was asked for. */
  readonly moved: number;
  /** Why it ended so; null when it is done. */
  readonly reason: ErrorCode | null;
}

/**
 * 0 done, 1 failed or cancelled, 3 some VMs moved, 4 none could be, 5 the deadline passed. An operation that has not ended
 * has no code of its own: nobody waits for it to the end, so it counts as failed.
 */
export function exitCodeOf(ending: Ending): number {
  if (ending.state === 'done') return EXIT.done;
  if (ending.reason === 'deadlineExceeded') return EXIT.deadline;
  switch (ending.state) {
    case 'partial':
      return ending.moved > 0 ? EXIT.partial : EXIT.none;
    case 'blocked':
      return EXIT.none;
    case 'cancelled':
      return ending.moved > 0 ? EXIT.partial : EXIT.failed;
    default:
      return EXIT.failed;
  }
}

export function endingOf(result: OperationResult, reason: ErrorCode | null): Ending {
  const moved = [...result.moves, ...result.shutdowns].filter((one) => GONE_MOVE_STATES.has(one.state)).length;
  return { state: result.state, moved, reason };
}

/** A dry run ends with the code that the operation is expected to end with. */
export function exitCodeOfPlan(plan: Pick<PlanPreview, 'moves' | 'shutdowns' | 'blocked'>): number {
  if (plan.blocked.length === 0) return EXIT.done;
  return plan.moves.length + plan.shutdowns.length > 0 ? EXIT.partial : EXIT.none;
}
