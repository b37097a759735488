/**
 * Drives one migration through its state table: takes the VM's lease, runs the step of each state, records every
 * transition, and says to the queue how the delivery ended. Decides nothing about VMs itself.
 */
import { BUDGET_TOPIC } from '../bandwidth/budget.ts';
import { HostevacError, type Reason, reasonOf } from '../domain/errors.ts';
import { ENDED_MOVE_STATES, GONE_MOVE_STATES, type MoveRecord, type OperationRecord } from '../domain/operation.ts';
import { nonMigratableOf, policyFor } from '../domain/request.ts';
import { formatDuration } from '../domain/units.ts';
import type { OutgoingStatus } from '../hypervisors/hypervisor.ts';
import type { MoveJob, MoveTurn } from '../queue/delivery.ts';
import { isLease, type Lease } from '../store/lease.ts';
import { admitting, standby } from './admit.ts';
import {
  because,
  type Ending,
  MigrationContext,
  type MigrationDeps,
  ShuttingDown,
  type StepOutcome,
} from './context.ts';
import { precopy } from './converge.ts';
import { learn } from './learning.ts';
import { postcopy } from './postcopy.ts';
import { succeedAlone } from './predecessors.ts';
import { BREAKS, preparing } from './prepare.ts';
import { cleaning, reconciling, verifying } from './reconcile.ts';
import { asking, stopping } from './shutdown.ts';
import { type Cause, FINAL_STEPS, follow, type MigrationStep, SHOWN_AS } from './states.ts';
import { switchover } from './switchover.ts';

const STEPS: Readonly<Partial<Record<MigrationStep, (ctx: MigrationContext) => Promise<StepOutcome>>>> = {
  reconciling,
  admitting,
  standby,
  preparing,
  precopy,
  switchover,
  postcopy,
  verifying,
  asking,
  stopping,
  cleaning,
};

/** A VM that another process drives is looked at again after this, at the latest (real ms). */
const HELD_ELSEWHERE_MS = 1_000;
const AFTER_FAULT_MS = 2_000;
/** A step whose hypervisor refused something is not begun again before this (real ms): what it refuses may be refused for long. */
const AFTER_REFUSAL_MS = 500;

/** One delivery of a move. Never throws for what a hypervisor or another process did; throws for what the store did. */
export async function migrate(deps: MigrationDeps, job: MoveJob, signal: AbortSignal): Promise<MoveTurn> {
  const record = await deps.records.move(job.moveId);
  if (record === null || ENDED_MOVE_STATES.has(record.state)) return endedTurn(record);
  const lease = await deps.leases.acquire(`vm:${record.vm}`);
  if (!isLease(lease)) {
    return {
      kind: 'again',
      afterRealMs: Math.min(Math.max(lease.forMs, 100), HELD_ELSEWHERE_MS),
      reason: `${record.vm} is driven by process ${lease.heldBy.pid}`,
    };
  }
  try {
    if (
      deps.hypervisorOf(record.source).fencing === 'process' &&
      !(await succeedAlone(deps, lease, record.operationId))
    ) {
      const reason = `${record.vm}: an earlier process may still be driving it and cannot be ended from here (another container?); end it, or wait an hour`;
      return { kind: 'again', afterRealMs: AFTER_FAULT_MS, reason };
    }
    // Read again under the lease: the last holder may have written since.
    const current = (await deps.records.move(record.id)) ?? record;
    if (ENDED_MOVE_STATES.has(current.state)) return endedTurn(current);
    const operation = await deps.records.operation(record.operationId);
    if (operation === null) return await orphaned(deps, lease, current);
    return await drive(deps, lease, current, operation, signal);
  } finally {
    await lease.release();
    await deps.wakeOperation(record.operationId);
  }
}

/** The store has lost its operation: nobody asks for this move any more, but what it has begun is still there. */
async function orphaned(deps: MigrationDeps, lease: Lease, record: MoveRecord): Promise<MoveTurn> {
  const reason = because(
    'internal',
    `operation ${record.operationId} is not known any more; the store may have lost it`,
  );
  await listAbandoned(deps, lease, record);
  await deps.records.saveMove(lease, {
    ...record,
    step: 'failed',
    state: 'failed',
    reason,
    endedAtMs: deps.clock.now(),
  });
  return { kind: 'ended', failed: reason.message };
}

function endedTurn(record: MoveRecord | null): MoveTurn {
  if (record === null) return { kind: 'ended', failed: 'its record is gone' };
  return {
    kind: 'ended',
    failed: GONE_MOVE_STATES.has(record.state) ? null : (record.reason?.message ?? record.state),
  };
}

async function drive(
  deps: MigrationDeps,
  lease: Lease,
  record: MoveRecord,
  operation: OperationRecord,
  signal: AbortSignal,
): Promise<MoveTurn> {
  const { request } = operation;
  const listener = await deps.wakeups.listen(BUDGET_TOPIC);
  const ctx = new MigrationContext({
    deps,
    lease,
    policy: policyFor(request, record.vm),
    nonMigratable: nonMigratableOf(request),
    shutdownTimeoutMs: request.kind === 'evacuateNode' ? request.shutdownTimeoutMs : 0,
    deadlineAtMs: request.deadlineMs === null ? null : operation.createdAtMs + request.deadlineMs,
    tier: request.kind === 'evacuateNode' ? 'evacuation' : 'rebalance',
    signal,
    record,
    listener,
  });
  try {
    return await walk(ctx);
  } finally {
    await listener.close();
  }
}

async function walk(ctx: MigrationContext): Promise<MoveTurn> {
  let step: MigrationStep = 'reconciling';
  let refused: MigrationStep | null = null;
  for (;;) {
    const run = STEPS[step];
    if (run === undefined) break;
    const again = refused === step;
    const outcome = await interrupted(ctx, step, async () => {
      if (again) await ctx.pace(ctx.deps.clock.fleetMs(AFTER_REFUSAL_MS));
      return run(ctx);
    });
    if (outcome.reason?.code === 'hypervisorRefused') refused = step;
    else if (again) refused = null;
    const to = follow(step, outcome.cause);
    if (to === undefined) {
      throw new HostevacError('internal', `migration table: ${step} does not know "${outcome.cause}"`);
    }
    await enter(ctx, step, outcome, to);
    step = to;
  }
  if (step === 'released') {
    return { kind: 'again', afterRealMs: HELD_ELSEWHERE_MS, reason: 'released; another delivery goes on with it' };
  }
  return endedTurn(ctx.record);
}

/** Turns what may interrupt any step into a cause of the table. */
async function interrupted(
  ctx: MigrationContext,
  step: MigrationStep,
  run: () => Promise<StepOutcome>,
): Promise<StepOutcome> {
  try {
    await ctx.check();
    return await run();
  } catch (error) {
    if (error instanceof ShuttingDown) return { cause: 'shutdown' };
    if (error instanceof HostevacError && error.code === 'leaseLost') {
      return { cause: 'leaseLost', reason: error.toReason() };
    }
    // A host that stops answering in the middle of a step: whatever was going on, look again from the start.
    const sight: Cause | undefined = ON_BREAK[step];
    if (error instanceof HostevacError && BREAKS.has(error.code) && sight !== undefined) {
      return { cause: sight, reason: error.toReason() };
    }
    throw error;
  }
}

/** What a hypervisor's error means where the step itself did not expect it. */
const ON_BREAK: Readonly<Partial<Record<MigrationStep, Cause>>> = {
  reconciling: 'unreachable',
  admitting: 'refused',
  standby: 'broken',
  precopy: 'lostSight',
  switchover: 'lostSight',
  postcopy: 'lostSight',
  verifying: 'unreachable',
  asking: 'lostSight',
  stopping: 'lostSight',
  cleaning: 'unreachable',
};

/** In these it waits for bandwidth, and what comes after them where it has not been given up. */
const WAITS: ReadonlySet<MigrationStep> = new Set(['admitting', 'standby']);
const GOES_ON: ReadonlySet<MigrationStep> = new Set(['standby', 'preparing']);

const ENDING: Readonly<Partial<Record<Cause, Ending>>> = { cancel: 'cancel', requeue: 'start' };

async function enter(
  ctx: MigrationContext,
  from: MigrationStep,
  outcome: StepOutcome,
  to: MigrationStep,
): Promise<void> {
  const { cause } = outcome;
  const reason = outcome.reason ?? null;
  const { id: moveId, operationId, vm, attempt } = ctx.record;
  ctx.deps.onTransition?.({ moveId, operationId, vm, attempt, from, cause, to, reason });
  if (to === 'released') {
    await release(ctx, from, cause);
    return;
  }
  if ((ctx.unseen || cause === 'unreachable') && (LEAVES.has(to) || from === 'cleaning'))
    await listAbandoned(ctx.deps, ctx.lease, ctx.record);
  if (to === 'halted' || (to === 'failed' && cause === 'unreachable')) await freeIfNothingMoves(ctx);
  if (to === 'cleaning' && cause !== 'leftovers') ctx.ending = ENDING[cause] ?? 'failure';
  await endPromise(ctx, to, cause);
  // Nothing was started from here, so what was asked for (or granted a moment ago) is free.
  if (WAITS.has(from) && !GOES_ON.has(to)) await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
  const shown = SHOWN_AS[to];
  const over = FINAL_STEPS.has(to);
  await ctx.save({
    step: to,
    state: shown ?? ctx.record.state,
    reason: to === 'done' || to === 'shutOff' ? null : (reason ?? (to === 'cleaning' ? ctx.record.reason : null)),
    ...(to === 'admitting' ? { migrateSent: false, progress: null, account: null, headStartMs: 0 } : {}),
    ...(over ? { endedAtMs: ctx.now() } : {}),
  });
  await ctx.event(eventKind(to, cause), reason?.message ?? told(ctx.record, to, cause));
  if (over) await learn(ctx);
}

/** What is kept for one with a head start is kept as long as somebody drives it. */
async function endPromise(ctx: MigrationContext, to: MigrationStep, cause: Cause): Promise<void> {
  const isLeft = to === 'halted' || cause === 'unreachable';
  if (!ctx.handover.hasHeadStart && !isLeft) return;
  if (to === 'preparing' || to === 'precopy') return;
  ctx.handover = { ...ctx.handover, hasHeadStart: false };
  await ctx.deps.budget.endHeadStart(ctx.budgetId, ctx.lease);
}

/** What ends there may have left something where nobody could look. One that is halted is a person's. */
const LEAVES: ReadonlySet<MigrationStep> = new Set(['done', 'failed', 'cancelled']);

async function listAbandoned(deps: MigrationDeps, lease: Lease, record: MoveRecord): Promise<void> {
  // A guest that was asked to shut down leaves nothing to tidy, whatever it does.
  if (record.kind === 'shutdown') return;
  const { id: moveId, operationId, vm, uuid, source, destination, migrateSent } = record;
  await deps.abandoned.list({ moveId, operationId, vm, uuid, source, destination, migrateSent }, lease);
}

/**
 * Stops driving. After a shutdown the throttle is lifted at once; after a lost lease it may not be touched (a successor
 * may have set its own) and lifts itself.
 */
async function release(ctx: MigrationContext, from: MigrationStep, cause: Cause): Promise<void> {
  if (cause !== 'shutdown' || !ctx.lease.held()) return;
  if (WAITS.has(from)) await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
  const { source, vm } = ctx.record;
  if (ctx.record.figures.minShare < 1) await ctx.deps.throttleOf(source).release(ctx.lease, { host: source, vm });
  await ctx.event(
    'move.released',
    `${vm}: this worker is shutting down; a running migration goes on and will be adopted`,
  );
}

/** In these a source sends nothing, and would not without being told. */
const STILL: ReadonlySet<OutgoingStatus> = new Set(['completed', 'failed', 'cancelled', 'postCopyPaused']);

/** A VM that is halted, or whose destination is silent, keeps its grant only while its source may still be sending. */
async function freeIfNothingMoves(ctx: MigrationContext): Promise<void> {
  const { source, vm } = ctx.record;
  // A host that hangs is waited for longer than the lease lasts.
  const sample = await ctx.during(ctx.sourceHypervisor.sample(source, vm).catch(() => undefined));
  if (sample === null || (sample !== undefined && STILL.has(sample.status))) {
    await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
  }
}

function eventKind(to: MigrationStep, cause: Cause): string {
  if (to === 'precopy') return cause === 'runningOurs' ? 'move.adopted' : 'move.precopy';
  return `move.${to}`;
}

function told(record: MoveRecord, to: MigrationStep, cause: Cause): string {
  const path = `${record.vm}: ${record.source} -> ${record.destination}`;
  switch (to) {
    case 'precopy':
      return cause === 'runningOurs' ? `${path}, a running migration was adopted` : `${path}, copying`;
    case 'standby':
      return `${path}, next in turn: its copy is started and waits`;
    case 'asking':
      return `${record.vm} on ${record.source}: it cannot be migrated, and is to be shut down`;
    case 'stopping':
      return `${record.vm} on ${record.source}: its guest was asked to shut down`;
    case 'shutOff':
      return cause === 'isOff' && record.figures.totalMs > 0
        ? `${record.vm} on ${record.source}: shut down in ${formatDuration(record.figures.totalMs)}`
        : `${record.vm} on ${record.source}: it is off`;
    case 'postcopy':
      return `${path}, in post-copy: it goes on at its destination, what is missing there follows`;
    case 'done':
      return `${path}, moved in ${formatDuration(record.figures.totalMs)}, downtime ${formatDuration(record.figures.downtimeMs)}`;
    default:
      return `${path}, ${to}`;
  }
}

/** How a delivery that threw is answered: the truth is looked up again soon. */
export function afterFault(error: unknown): { turn: MoveTurn; reason: Reason } {
  const reason = reasonOf(error);
  return {
    turn: { kind: 'again', afterRealMs: AFTER_FAULT_MS, reason: reason.message },
    reason: because(reason.code, reason.message),
  };
}
