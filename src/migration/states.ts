/**
 * The state table of one migration: states, what may happen in each (cause), where that leads. The workflow runs a step
 * per state and looks up its outcome here; a pair that is not in the table is a fault of ours and stops the migration.
 * docs/migration-states.md is checked against this table by a test.
 *
 *   reconciling  asks both ends what is true before anything is done; every attempt, first or adopted, starts here
 *   admitting    waits for bandwidth on the whole path (and for a pause to end)
 *   standby      next in turn: its waiting copy is started ahead, and it waits for bandwidth as before
 *   preparing    starts the waiting copy, unless it has been, and then the migration
 *   precopy      the convergence loop: samples, budget, throttle, downtime limit
 *   switchover   the guest stands still, the last bytes move
 *   postcopy     the guest goes on at its destination (or is about to), what is missing there follows; no way back
 *   verifying    one running copy, at the destination; the source's rest is retired
 *   asking       of a VM that is to be shut down: waits for a pause to end, sees that it still is to be, and asks its guest
 *   stopping     its guest was asked to shut down, and has a while for it
 *   cleaning     the VM must run, unthrottled, at its source and nothing be left at the destination
 *   done, shutOff, failed, cancelled   ended as said
 *   halted       two running copies or none: everything is left as it is, and reported
 *   released     this process stops driving it; another (or a later delivery) reconciles and goes on
 */
import type { MoveState } from '../domain/operation.ts';

export const migrationSteps = [
  'reconciling',
  'admitting',
  'standby',
  'preparing',
  'precopy',
  'switchover',
  'postcopy',
  'verifying',
  'asking',
  'stopping',
  'cleaning',
  'done',
  'shutOff',
  'failed',
  'cancelled',
  'halted',
  'released',
] as const;
export type MigrationStep = (typeof migrationSteps)[number];

/** Where a step can end up without the table: nothing follows. */
export const FINAL_STEPS: ReadonlySet<MigrationStep> = new Set([
  'done',
  'shutOff',
  'failed',
  'cancelled',
  'halted',
  'released',
]);

/**
 * from, cause, to. Causes that hold everywhere (`leaseLost`, `shutdown`) stand once per state so that each can be seen,
 * and tested.
 */
export const TRANSITIONS = [
  ['reconciling', 'neverStarted', 'admitting'],
  ['reconciling', 'runningOurs', 'precopy'],
  ['reconciling', 'switchingOver', 'switchover'],
  ['reconciling', 'inPostCopy', 'postcopy'],
  ['reconciling', 'finished', 'verifying'],
  ['reconciling', 'leftovers', 'cleaning'],
  ['reconciling', 'toShutDown', 'asking'],
  ['reconciling', 'isOff', 'shutOff'],
  ['reconciling', 'contradiction', 'halted'],
  ['reconciling', 'refused', 'failed'],
  ['reconciling', 'cancel', 'cancelled'],
  ['reconciling', 'unreachable', 'failed'],
  ['reconciling', 'leaseLost', 'released'],
  ['reconciling', 'shutdown', 'released'],

  ['admitting', 'granted', 'preparing'],
  ['admitting', 'nextInTurn', 'standby'],
  ['admitting', 'cancel', 'cancelled'],
  ['admitting', 'refused', 'failed'],
  ['admitting', 'leaseLost', 'released'],
  ['admitting', 'shutdown', 'released'],

  ['standby', 'granted', 'preparing'],
  ['standby', 'cancel', 'cleaning'],
  ['standby', 'requeue', 'cleaning'],
  ['standby', 'refused', 'cleaning'],
  ['standby', 'broken', 'cleaning'],
  ['standby', 'leaseLost', 'released'],
  ['standby', 'shutdown', 'released'],

  ['preparing', 'started', 'precopy'],
  ['preparing', 'broken', 'cleaning'],
  ['preparing', 'leaseLost', 'released'],
  ['preparing', 'shutdown', 'released'],

  ['precopy', 'switchingOver', 'switchover'],
  ['precopy', 'postCopy', 'postcopy'],
  ['precopy', 'inPostCopy', 'postcopy'],
  ['precopy', 'finished', 'verifying'],
  ['precopy', 'broken', 'cleaning'],
  ['precopy', 'gaveUp', 'cleaning'],
  ['precopy', 'cancel', 'cleaning'],
  ['precopy', 'requeue', 'cleaning'],
  ['precopy', 'lostSight', 'reconciling'],
  ['precopy', 'leaseLost', 'released'],
  ['precopy', 'shutdown', 'released'],

  ['switchover', 'finished', 'verifying'],
  ['switchover', 'inPostCopy', 'postcopy'],
  ['switchover', 'broken', 'cleaning'],
  ['switchover', 'resumed', 'precopy'],
  ['switchover', 'lostSight', 'reconciling'],
  ['switchover', 'leaseLost', 'released'],
  ['switchover', 'shutdown', 'released'],

  ['postcopy', 'finished', 'verifying'],
  ['postcopy', 'broken', 'cleaning'],
  ['postcopy', 'cancel', 'cleaning'],
  ['postcopy', 'contradiction', 'halted'],
  ['postcopy', 'lostSight', 'reconciling'],
  ['postcopy', 'leaseLost', 'released'],
  ['postcopy', 'shutdown', 'released'],

  ['verifying', 'verified', 'done'],
  ['verifying', 'notFinished', 'reconciling'],
  ['verifying', 'contradiction', 'halted'],
  ['verifying', 'unreachable', 'failed'],
  ['verifying', 'leaseLost', 'released'],
  ['verifying', 'shutdown', 'released'],

  ['asking', 'asked', 'stopping'],
  ['asking', 'cancel', 'cancelled'],
  ['asking', 'refused', 'failed'],
  ['asking', 'lostSight', 'reconciling'],
  ['asking', 'leaseLost', 'released'],
  ['asking', 'shutdown', 'released'],

  ['stopping', 'isOff', 'shutOff'],
  ['stopping', 'stillRuns', 'failed'],
  ['stopping', 'refused', 'failed'],
  ['stopping', 'lostSight', 'reconciling'],
  ['stopping', 'leaseLost', 'released'],
  ['stopping', 'shutdown', 'released'],

  ['cleaning', 'cleanAfterFailure', 'failed'],
  ['cleaning', 'cleanAfterCancel', 'cancelled'],
  ['cleaning', 'cleanToStart', 'admitting'],
  ['cleaning', 'inPostCopy', 'postcopy'],
  ['cleaning', 'finished', 'verifying'],
  ['cleaning', 'contradiction', 'halted'],
  ['cleaning', 'unreachable', 'failed'],
  ['cleaning', 'leaseLost', 'released'],
  ['cleaning', 'shutdown', 'released'],
] as const satisfies readonly (readonly [MigrationStep, string, MigrationStep])[];

export type Cause = (typeof TRANSITIONS)[number][1];

const TABLE = new Map<string, MigrationStep>(TRANSITIONS.map(([from, cause, to]) => [`${from} ${cause}`, to]));

/** The state that follows, or undefined when the table does not know the pair. */
export function follow(from: MigrationStep, cause: Cause): MigrationStep | undefined {
  return TABLE.get(`${from} ${cause}`);
}

/** What watchers are shown. `released` keeps what was shown before; `cleaning` shows what it cleans up after. */
export const SHOWN_AS: Readonly<Record<MigrationStep, MoveState | null>> = {
  reconciling: null,
  admitting: 'queued',
  standby: 'queued',
  preparing: 'admitted',
  precopy: 'precopy',
  switchover: 'switchover',
  postcopy: 'postcopy',
  verifying: 'verifying',
  asking: 'queued',
  stopping: 'stopping',
  cleaning: null,
  done: 'done',
  shutOff: 'shutOff',
  failed: 'failed',
  cancelled: 'cancelled',
  halted: 'failed',
  released: null,
};
