/** The steps before the first byte: `admitting` waits for bandwidth on the whole path, `preparing` starts the copies. */
import type { Demand } from '../bandwidth/budget.ts';
import { downtimeLimit } from '../convergence/downtime.ts';
import { PRESET_BEHAVIOURS } from '../convergence/policies/behaviours.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationTarget, MigrationTerms } from '../hypervisors/hypervisor.ts';
import { vmAtSource } from './briefing.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { demandOf } from './demand.ts';
import { foresee, predictStart } from './foresight.ts';
import { LooksWhileWaiting, lookMeanwhile } from './measuring.ts';

export async function admitting(ctx: MigrationContext): Promise<StepOutcome> {
  const { vm, source } = ctx.record;
  const { name } = ctx.policy;
  if (!PRESET_BEHAVIOURS.has(name) && !ctx.deps.behaviours.has(name)) {
    const add = `list it under policies in the fleet file of the worker that serves ${source}, start that again, and ask again`;
    return refused('policyUnknown', `${vm}: the policy ${name} is not known to this worker; ${add}`);
  }
  const found = await vmAtSource(ctx);
  if (found === undefined) return refused('sourceDied', `${vm} is not at ${source} any more`);
  if (found.notMigratable !== null)
    return refused('hypervisorRefused', `${vm} cannot be migrated: ${found.notMigratable}`);
  const throttle = await ctx.deps.throttleOf(source).unavailable(source);
  if (throttle !== null && ctx.policy.throttling === 'required') return { cause: 'refused', reason: throttle };

  const looks = found.state === 'running' ? new LooksWhileWaiting(ctx) : null;
  try {
    await looks?.know();
    return await granted(ctx, demandOf(ctx, found.touchedBytes), looks);
  } finally {
    looks?.stop();
  }
}

async function granted(ctx: MigrationContext, demand: Demand, looks: LooksWhileWaiting | null): Promise<StepOutcome> {
  const { vm } = ctx.record;
  let wasPaused = false;
  for (;;) {
    const control = await ctx.control();
    if (control.cancel) return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled before it began`) };
    if (ctx.overdue())
      return refused('deadlineExceeded', `${vm}: the operation's deadline passed before its turn came`);
    if (control.pause) {
      await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      await waitFor(ctx, 'paused; `hostevac resume` lets it go on');
      wasPaused = true;
      continue;
    }
    if (wasPaused) {
      // A pause may last for hours: what was known before it may be so no more. Looking takes a while, in which flags change.
      wasPaused = false;
      await looks?.know();
      continue;
    }
    const grant = await ctx.deps.budget.request(demand, ctx.lease);
    if (grant.bytesPerSec > 0) {
      const hopeless = await foresee(ctx, grant.bytesPerSec);
      if (hopeless !== null) return { cause: 'refused', reason: hopeless };
      await ctx.save({ reason: null });
      return { cause: 'granted' };
    }
    await waitFor(ctx, grant.waitingFor ?? 'bandwidth');
    await looks?.know();
  }
}

async function waitFor(ctx: MigrationContext, what: string): Promise<void> {
  const message = `waits for ${what}`;
  if (ctx.record.reason?.message !== message) await ctx.save({ reason: because('internal', message) });
  await ctx.idle();
}

function refused(
  code: 'sourceDied' | 'hypervisorRefused' | 'deadlineExceeded' | 'policyUnknown',
  message: string,
): StepOutcome {
  return { cause: 'refused', reason: because(code, message) };
}

export async function preparing(ctx: MigrationContext): Promise<StepOutcome> {
  const { id, vm, source, destination } = ctx.record;
  const target = { vm, source, destination, migrationId: id };
  const postCopy = ctx.policy.atDeadline === 'postCopy';
  const expected = await ctx.deps.budget.request(demandOf(ctx, 0), ctx.lease);
  try {
    const prepared = ctx.during(ctx.destinationHypervisor.prepareDestination(ctx.lease, { ...target, postCopy }));
    if (ctx.policy.controller === 'leastHarm') {
      await lookMeanwhile(ctx, prepared);
      // Nothing while the budget is in doubt: then what was predicted at its admission stands.
      if (expected.bytesPerSec > 0) await predictStart(ctx, expected.bytesPerSec);
    } else await prepared;
    const bytesPerSec = await started(ctx, { ...target, postCopy });
    if (typeof bytesPerSec !== 'number') return bytesPerSec;
    await ctx.deps.budget.inForce(ctx.budgetId, bytesPerSec, ctx.lease);
    return { cause: 'started' };
  } catch (error) {
    if (error instanceof HostevacError && BREAKS.has(error.code)) return { cause: 'broken', reason: error.toReason() };
    throw error;
  }
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
    const terms = { bandwidthBytesPerSec: bytesPerSec, downtimeLimitMs: downtimeLimit(ctx.policy.maxStallMs) };
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
