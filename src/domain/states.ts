/** The states of operations and moves. No schemas here: the dashboard takes this file as it is. */

export const operationStates = [
  'queued',
  'planning',
  'awaitingApproval',
  'running',
  'paused',
  'done',
  'partial',
  'failed',
  'cancelled',
  'blocked',
] as const;
export type OperationState = (typeof operationStates)[number];
export const ENDED_OPERATION_STATES: ReadonlySet<OperationState> = new Set([
  'done',
  'partial',
  'failed',
  'cancelled',
  'blocked',
]);

export const moveStates = [
  'queued',
  'admitted',
  'precopy',
  'switchover',
  'postcopy',
  'verifying',
  /** Its guest was asked to shut down. */
  'stopping',
  /** It runs at its destination. */
  'done',
  /** It cannot be migrated, and was shut down. */
  'shutOff',
  /** It cannot be migrated, and was left where it is on purpose. */
  'skipped',
  'failed',
  'cancelled',
  'blocked',
] as const;
export type MoveState = (typeof moveStates)[number];
export const ENDED_MOVE_STATES: ReadonlySet<MoveState> = new Set([
  'done',
  'shutOff',
  'skipped',
  'failed',
  'cancelled',
  'blocked',
]);
/** It is not in the way any more. */
export const GONE_MOVE_STATES: ReadonlySet<MoveState> = new Set(['done', 'shutOff']);
