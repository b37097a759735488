/**
 * What is kept and shown about an operation, its moves and their migrations. Written by one process at a time (the
 * operation by whoever holds the operation's lease, a move by whoever holds the VM's), read by everyone. What is added
 * here has a default: an operation may have been kept, and its migrations be running, before an update.
 */
import { z } from 'zod';
import { ERROR_CATALOGUE, type ErrorCode } from './errors.ts';
import { entityName } from './names.ts';
import { treatments } from './non-migratable.ts';
import { dirtyWindowSchema, type Prediction, predictionSchema } from './prediction.ts';
import { requestSchema } from './request.ts';
import { type MoveState, moveStates, type OperationState, operationStates } from './states.ts';

export {
  ENDED_MOVE_STATES,
  ENDED_OPERATION_STATES,
  GONE_MOVE_STATES,
  type MoveState,
  moveStates,
  type OperationState,
  operationStates,
} from './states.ts';

const errorCode = z.enum(Object.keys(ERROR_CATALOGUE) as [ErrorCode, ...ErrorCode[]]);
export const reasonSchema = z.object({ code: errorCode, message: z.string() });

/** What one migration cost and took; zeros until it has begun. Durations in fleet time. */
export const migrationFiguresSchema = z.object({
  /** From its start to its end, without the time of a head start: that is others' time, and nobody predicted it. */
  totalMs: z.number(),
  downtimeMs: z.number(),
  transferredBytes: z.number(),
  minShare: z.number(),
  meanShare: z.number(),
  harmCpuMs: z.number(),
});
export type MigrationFigures = z.infer<typeof migrationFiguresSchema>;

export const NO_FIGURES: MigrationFigures = {
  totalMs: 0,
  downtimeMs: 0,
  transferredBytes: 0,
  minShare: 1,
  meanShare: 1,
  harmCpuMs: 0,
};

/** A running migration as a watcher sees it. `etaMs` is null while nobody can tell. */
export const progressSchema = z.object({
  pass: z.number(),
  remainingBytes: z.number(),
  transferredBytes: z.number(),
  totalBytes: z.number(),
  rateBytesPerSec: z.number(),
  dirtyRateBytesPerSec: z.number(),
  grantBytesPerSec: z.number(),
  share: z.number(),
  etaMs: z.number().nullable(),
  /** From now on; null: cannot tell. */
  prediction: predictionSchema.nullable().default(null),
  /** The controller's last reason, in words. */
  decision: z.string(),
});
export type MigrationProgress = z.infer<typeof progressSchema>;

/** Running sums behind the figures; see src/migration/accounting.ts. */
export const accountSchema = z.object({
  atMs: z.number(),
  gotCpuMs: z.number(),
  /** Frozen when throttling started; from then on it may only fall. null: not throttled yet. */
  frozenDemandCores: z.number().nullable(),
  demandCores: z.number(),
  observedMs: z.number(),
  shareMs: z.number(),
  /** In post-copy: `gotCpuMs` is what the guest has got at its destination. */
  arriving: z.boolean().optional(),
});
export type Account = z.infer<typeof accountSchema>;

export const relaxedSchema = z.object({ requirement: z.string(), atMs: z.number(), why: z.string() });

/** One move being carried out: the migration's own record. */
export const moveRecordSchema = z.object({
  /** `<operation>-<round>-<n>`; also the BullMQ job id. */
  id: z.string(),
  /** `shutdown`: its VM cannot be migrated and is shut down where it is; `destination` is its source then. */
  kind: z.enum(['migration', 'shutdown']).default('migration'),
  operationId: z.string(),
  vm: entityName,
  uuid: z.string().nullable(),
  source: entityName,
  destination: entityName,
  /** Which try for this VM within the operation, from 1. */
  attempt: z.int(),
  state: z.enum(moveStates),
  /** State of the migration's own table (src/migration/states.ts), finer than `state`. */
  step: z.string(),
  /** Why it ended, or what it waits for. */
  reason: reasonSchema.nullable(),
  queuedAtMs: z.number(),
  /** Its place among all moves that wait for bandwidth; smaller first. */
  order: z.number(),
  /** Its owner was told of it, and has until then (fleet time) before it is put in its queue; null: nobody is told. */
  startsNotBeforeMs: z.number().nullable().default(null),
  startedAtMs: z.number().nullable(),
  /** From its start on, the time in which it was sent with next to nothing, while those before it ended; its max time is that much later. */
  headStartMs: z.number().default(0),
  endedAtMs: z.number().nullable(),
  /** The last lease token that wrote this; a writer with a smaller one is refused. */
  token: z.number(),
  /** When its guest was asked to shut down last; noted before it is asked. null: never. */
  askedAtMs: z.number().nullable().default(null),
  /** True once `migrate` was sent: a successor knows that the migration it finds is ours. */
  migrateSent: z.boolean(),
  progress: progressSchema.nullable(),
  /** Before the start; null: none could be made. */
  predicted: predictionSchema.nullable().default(null),
  /** How the guest dirties, as far as it was seen: a successor goes on from there. */
  evidence: z.array(dirtyWindowSchema).default([]),
  /** Where the accounting of harm stands, so that a successor goes on from there. */
  account: accountSchema.nullable(),
  figures: migrationFiguresSchema,
  relaxed: z.array(relaxedSchema),
});
export type MoveRecord = z.infer<typeof moveRecordSchema>;

/** One VM of an operation, across its attempts. */
export const vmTaskSchema = z.object({
  vm: entityName,
  source: entityName,
  /** Where it must go (explicit moves), or null: placement decides. */
  wanted: entityName.nullable(),
  state: z.enum(moveStates),
  /** What is done with it as one that cannot be migrated, as planned last; null: it is to be moved. */
  treatment: z.enum(treatments).nullable().default(null),
  /** It waits for a plan: never planned yet, or its last move failed and may be tried again. */
  needsMove: z.boolean(),
  /** The moves made for it, oldest first; the last one is current. */
  moveIds: z.array(z.string()),
  /** Destinations that failed, not to be tried again while another is there. */
  avoid: z.array(entityName),
  /** A destination of `avoid` may be tried again from then on (fleet time). */
  retryAtMs: z.number(),
  reason: reasonSchema.nullable(),
});
export type VmTask = z.infer<typeof vmTaskSchema>;

/** A task that nothing has been done for. */
export function newTask(vm: string, source: string, wanted: string | null = null): VmTask {
  return {
    vm,
    source,
    wanted,
    state: 'queued',
    treatment: null,
    needsMove: true,
    moveIds: [],
    avoid: [],
    retryAtMs: 0,
    reason: null,
  };
}

const named = { vm: entityName, host: entityName };

/** What an operation would do, for somebody to approve: nothing of it is claimed. */
export const proposalSchema = z.object({
  moves: z.array(z.object({ vm: entityName, source: entityName, destination: entityName, why: z.string() })),
  /** Cannot be migrated, and would be shut down when the others have left. */
  shutdowns: z.array(z.object({ ...named, why: z.string() })),
  /** Cannot be migrated, and would be left where they are on purpose. */
  skipped: z.array(z.object({ vm: entityName, reason: z.string() })),
  /** Cannot be moved, or wait for something: those are planned when that has come. */
  blocked: z.array(z.object({ vm: entityName, reason: z.string() })),
  madeAtMs: z.number(),
  /** Counts the times that its operation has proposed something: what was approved before is not this. */
  number: z.int().default(1),
  /** Of what would be done; the same for the same plan. It is what is approved. */
  hash: z.string(),
});
export type Proposal = z.infer<typeof proposalSchema>;

export const operationRecordSchema = z.object({
  id: z.string(),
  request: requestSchema,
  state: z.enum(operationStates),
  createdAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  round: z.int(),
  tasks: z.array(vmTaskSchema),
  /** Why it ended as it did, when it is not `done`. */
  reason: reasonSchema.nullable(),
  /** What it waits for now, one line each. */
  waitingFor: z.array(z.string()),
  /** When that was written last: ages and countdowns in it are as of then (fleet time). */
  waitingForAtMs: z.number().nullable().default(null),
  /** Since when hosts that must be seen could not be (fleet time), and when that was last so; null: they can. */
  waitingSinceMs: z.number().nullable(),
  waitingSeenMs: z.number().nullable(),
  /**
   * At the end of an evacuation: whether the host was last seen without a running or paused VM. null: it could not be seen, or
   * it has not ended, or it is a rebalance.
   */
  empty: z.boolean().nullable().default(null),
  /** While it waits for approval (also when it is paused meanwhile): what is to be approved. */
  proposal: proposalSchema.nullable().default(null),
  /** When what was approved was begun; null: not yet, or nobody need approve it. */
  approvedAtMs: z.number().nullable().default(null),
  /** The last lease token that wrote this. */
  token: z.number(),
});
export type OperationRecord = z.infer<typeof operationRecordSchema>;

/** The last move made for each VM that has one. */
export function currentMoveIds({ tasks }: Pick<OperationRecord, 'tasks'>): string[] {
  return tasks.flatMap(({ moveIds }) => moveIds.at(-1) ?? []);
}

/** Flags that any process may set, durable, read by whoever drives the operation or the migration. */
export const controlSchema = z.object({
  cancel: z.boolean(),
  pause: z.boolean(),
  /** With `pause`: running migrations are cancelled and queued again. */
  pauseNow: z.boolean(),
  /** The proposal that somebody has approved; see `approvalOf`. */
  approved: z.string().nullable().default(null),
});
export type Control = z.infer<typeof controlSchema>;
export const NO_CONTROL: Control = { cancel: false, pause: false, pauseNow: false, approved: null };

/** What is approved of a proposal: this one alone, also where another time the same was proposed. */
export function approvalOf({ hash, number }: Pick<Proposal, 'hash' | 'number'>): string {
  return number === 1 ? hash : `${hash} ${number}`;
}

/** It waits, or will wait, for somebody to approve its plan. */
export function needsApproval({ request, approvedAtMs }: Pick<OperationRecord, 'request' | 'approvedAtMs'>): boolean {
  return request.approveFirst === true && approvedAtMs === null;
}

/** Its deadline has passed. */
export function isOverdue(
  { request, createdAtMs }: Pick<OperationRecord, 'request' | 'createdAtMs'>,
  nowMs: number,
): boolean {
  // 0: its first turn has not been taken, which says when it began.
  return request.deadlineMs !== null && createdAtMs > 0 && nowMs >= createdAtMs + request.deadlineMs;
}

/** Something that happened, for watchers: one line. */
export const eventSchema = z.object({
  atMs: z.number(),
  operationId: z.string(),
  /** Stable, dotted: `operation.running`, `move.precopy`, `move.failed`. */
  kind: z.string(),
  vm: z.string().nullable(),
  moveId: z.string().nullable(),
  message: z.string(),
  /** Of `move.notice`: what is about to be done, and not before when (fleet time). */
  notice: z
    .object({
      action: z.enum(['migration', 'shutdown']),
      source: entityName,
      destination: entityName,
      startsNotBeforeMs: z.number(),
    })
    .optional(),
});
export type OperationEvent = z.infer<typeof eventSchema>;

/** The JSON that `--wait -o json` prints; see the command line's contract. */
export interface OperationResult {
  readonly id: string;
  readonly kind: 'evacuateNode' | 'loadBalance';
  readonly state: OperationState;
  readonly host: string | null;
  readonly makespanMs: number;
  /**
   * Whether the host was seen without a running or paused VM at the end. Not the same as `done`, which says that nothing is
   * left that was asked for: VMs that are `skipped` run on. null: not seen, not ended, or a rebalance.
   */
  readonly empty: boolean | null;
  readonly moves: readonly MoveResult[];
  /** VMs that cannot be migrated and were shut down, or were to be. */
  readonly shutdowns: readonly ShutdownResult[];
  /** VMs that cannot be migrated and were left where they are on purpose. */
  readonly skipped: readonly { readonly vm: string; readonly reason: string }[];
  readonly blocked: readonly { readonly vm: string; readonly reason: string }[];
}

export interface ShutdownResult {
  readonly vm: string;
  readonly host: string;
  readonly state: MoveState;
  readonly attempts: number;
  /** From when its guest was asked until it was seen to be off; null: it was not. */
  readonly tookMs: number | null;
  readonly reason: string | null;
}

export interface MoveResult extends MigrationFigures {
  readonly vm: string;
  readonly source: string;
  readonly destination: string;
  readonly state: MoveState;
  readonly attempts: number;
  /** Medians, before the start, and the whole prediction with its intervals; null: none was made. */
  readonly predicted:
    | ({ readonly totalMs: number; readonly downtimeMs: number; readonly harmCpuMs: number } & {
        readonly intervals: Prediction;
      })
    | null;
  /** What it came to less what was predicted (medians); null: none was made, or it has not ended well. */
  readonly predictionError: {
    readonly totalMs: number;
    readonly downtimeMs: number;
    readonly harmCpuMs: number;
  } | null;
  readonly relaxed: MoveRecord['relaxed'];
  readonly reason: string | null;
}
