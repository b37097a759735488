/** The last steps before the first byte: `preparing` starts the waiting copy, if it does not wait yet, and the migration. */
import { downtimeLimit } from '../convergence/downtime.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationTarget, MigrationTerms } from '../hypervisors/hypervisor.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { demandOf } from './demand.ts';
import { predictStart } from './foresight.ts';
import { lookMeanwhile } from './measuring.ts';

export async function preparing(ctx: MigrationContext): Promise<StepOutcome> {
  try {
    if (!ctx.isPrepared) await prepareNow(ctx);
    const bytesPerSec = await started(ctx, targetOf(ctx));
    if (typeof bytesPerSec !== 'number') return bytesPerSec;
    await ctx.deps.budget.inForce(ctx.budgetId, bytesPerSec, ctx.lease);
    return { cause: 'started' };
  } catch (error) {
    if (error instanceof HostevacError && BREAKS.has(error.code)) return { cause: 'broken', reason: error.toReason() };
    throw error;
  }
}

/** For one that is next in turn: what the hypervisor refuses is found before its turn has come. */
export async function prepareAhead(ctx: MigrationContext): Promise<void> {
  await ctx.during(ctx.destinationHypervisor.prepareDestination(ctx.lease, targetOf(ctx)));
  ctx.isPrepared = true;
}

async function prepareNow(ctx: MigrationContext): Promise<void> {
  const expected = await ctx.deps.budget.request(demandOf(ctx, 0), ctx.lease);
  const prepared = ctx.during(ctx.destinationHypervisor.prepareDestination(ctx.lease, targetOf(ctx)));
  if (ctx.policy.controller !== 'leastHarm') return await prepared;
  await lookMeanwhile(ctx, prepared);
  // Nothing while the budget is in doubt: then what was predicted at its admission stands.
  if (expected.bytesPerSec > 0) await predictStart(ctx, expected);
}

function targetOf(ctx: MigrationContext): MigrationTarget & Pick<MigrationTerms, 'postCopy'> {
  const { id, vm, source, destination } = ctx.record;
  return { vm, source, destination, migrationId: id, postCopy: ctx.policy.atDeadline === 'postCopy' };
}

/** A connection of an earlier attempt that its hypervisor has not given up is waited for as long as this (real ms). */
const CONNECTING_REAL_MS = 20_000;

/** At what rate it was started; or how it ended instead. Throws what the hypervisor says that refuses it. */
async function started(
  ctx: MigrationContext,
  target: MigrationTarget & Pick<MigrationTerms, 'postCopy'>,
): Promise<number | StepOutcome> {
  const { clock } = ctx.deps;
  const beganMs = clock.monotonic();
  for (;;) {
    const bytesPerSec = await grantNow(ctx);
    if (typeof bytesPerSec !== 'number') return bytesPerSec;
    // Recorded first: if we die after `migrate` was sent, the successor knows that what it finds is ours.
    await ctx.save({ migrateSent: true, startedAtMs: ctx.now() });
    const downtimeLimitMs = downtimeLimit(ctx.policy.maxStallMs, ctx.sourceHypervisor.handoverMs);
    const terms = { bandwidthBytesPerSec: bytesPerSec, downtimeLimitMs };
    try {
      await ctx.during(ctx.sourceHypervisor.startMigration(ctx.lease, { ...target, ...terms }));
      return bytesPerSec;
    } catch (error) {
      const connecting = error instanceof HostevacError && error.code === 'stillConnecting';
      if (!connecting || clock.monotonic() - beganMs > CONNECTING_REAL_MS) throw error;
    }
    const over = await endedBefore(ctx);
    if (over !== null) return over;
    await ctx.idle();
  }
}

/** Cancelled, or too late, while it waited to begin. */
async function endedBefore(ctx: MigrationContext): Promise<StepOutcome | null> {
  const { vm } = ctx.record;
  if ((await ctx.control()).cancel)
    return { cause: 'broken', reason: because('cancelled', `${vm}: cancelled before it began`) };
  if (ctx.overdue())
    return {
      cause: 'broken',
      reason: because('deadlineExceeded', `${vm}: the operation's deadline passed before it began`),
    };
  return null;
}

/** What it may use at this moment: never 0, which a hypervisor takes for no limit. */
async function grantNow(ctx: MigrationContext): Promise<number | StepOutcome> {
  for (;;) {
    await ctx.check();
    const { bytesPerSec } = await ctx.deps.budget.request(demandOf(ctx, 0), ctx.lease);
    if (bytesPerSec > 0) return bytesPerSec;
    const over = await endedBefore(ctx);
    if (over !== null) return over;
    await ctx.idle();
  }
}

/** What a hypervisor may answer that ends this attempt; anything else is not its doing. */
export const BREAKS: ReadonlySet<string> = new Set([
  'hypervisorRefused',
  'hostUnreachable',
  'destinationDied',
  'linkFailed',
  'stillConnecting',
]);
