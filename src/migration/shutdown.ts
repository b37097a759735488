/**
 * The steps of a VM that cannot be migrated and is shut down where it is: look, ask its guest, wait. It is driven under the
 * VM's lease as a migration is, and nothing is done to it but asking: never a power-off. From the moment in which it is
 * asked there is no way back, so what was to stop that (a cancel, a pause) comes too late (decision 0035).
 */
import { HostevacError, type Reason } from '../domain/errors.ts';
import type { Control } from '../domain/operation.ts';
import { formatDuration } from '../domain/units.ts';
import type { OutgoingStatus } from '../hypervisors/hypervisor.ts';
import { treatmentOf } from '../planning/treatment.ts';
import { isSending, type Seen } from './assess.ts';
import { vmAtSource } from './briefing.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { seenAt } from './sight.ts';

/** A host that does not answer is asked again for this long (fleet ms), as for a migration. */
const PATIENCE_MS = 60_000;
const LOOK_AGAIN_MS = 1_000;

/** Its guest runs here as long as its migration is no further than this. */
const ENDABLE: ReadonlySet<OutgoingStatus> = new Set(['setup', 'active']);

export async function reconcilingShutdown(ctx: MigrationContext): Promise<StepOutcome> {
  const { vm, source } = ctx.record;
  const began = ctx.now();
  for (;;) {
    const seen = await look(ctx);
    if (seen !== null) {
      if (ctx.record.uuid === null && seen.present) await ctx.save({ uuid: seen.uuid });
      const found = whatIs(ctx, seen);
      if (found === 'running') return { cause: 'toShutDown' };
      if (found === 'off') return isOff(ctx);
      if (found === 'migrating' && (await endOurs(ctx, seen))) continue;
      return { cause: 'refused', reason: otherwise(ctx, found) };
    }
    const reason = because('hostUnreachable', `${vm} at ${source} does not answer`);
    if (ctx.now() - began >= PATIENCE_MS) return { cause: 'unreachable', reason };
    if (ctx.record.reason?.message !== reason.message) await ctx.save({ reason });
    await ctx.pace(LOOK_AGAIN_MS);
  }
}

export async function asking(ctx: MigrationContext): Promise<StepOutcome> {
  const { vm, source } = ctx.record;
  for (;;) {
    const control = await ctx.control();
    // Whoever drove it before may have asked: then its time runs, and it is not asked again.
    const isTooLate = ctx.record.askedAtMs !== null && (control.cancel || control.pause || ctx.overdue());
    if (isTooLate) return { cause: 'asked' };
    if (control.cancel)
      return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled before it was shut down`) };
    if (ctx.overdue()) {
      const message = `${vm}: the operation's deadline passed before it was shut down`;
      return { cause: 'refused', reason: because('deadlineExceeded', message) };
    }
    if (!control.pause) break;
    const reason = because('internal', 'paused; `hostevac resume` lets it go on');
    if (ctx.record.reason?.message !== reason.message) await ctx.save({ reason });
    await ctx.idle();
  }
  // A label that was set since it was planned, or a device that was taken away, counts.
  const found = await vmAtSource(ctx);
  const treated = found === undefined ? null : treatmentOf(found, ctx.nonMigratable);
  if (found?.state === 'shutOff') return { cause: 'asked' };
  if (found?.state !== 'running' || treated?.treatment !== 'shutdown') {
    const now =
      found === undefined
        ? `it is not on ${source} any more`
        : (treated?.reason.message ?? `it is ${found.state}, and can be migrated`);
    return { cause: 'refused', reason: because('changedSincePlanned', `${vm} is not shut down: ${now}`) };
  }
  const seen = await look(ctx);
  if (seen === null || whatIs(ctx, seen) !== 'running') return { cause: 'lostSight' };
  // Noted first: if we die after it was asked, the successor knows that there is no way back.
  await ctx.save({ askedAtMs: ctx.now(), startedAtMs: ctx.record.startedAtMs ?? ctx.now(), reason: null });
  try {
    await ctx.during(ctx.sourceHypervisor.shutdown(ctx.lease, source, vm));
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'hypervisorRefused')
      return { cause: 'refused', reason: error.toReason() };
    throw error;
  }
  return { cause: 'asked' };
}

export async function stopping(ctx: MigrationContext): Promise<StepOutcome> {
  const askedAtMs = ctx.record.askedAtMs ?? ctx.now();
  for (;;) {
    const seen = await look(ctx);
    const found = seen === null ? null : whatIs(ctx, seen);
    if (found === 'off') return isOff(ctx);
    if (found !== null && found !== 'running') return { cause: 'refused', reason: otherwise(ctx, found) };
    const passedMs = ctx.now() - askedAtMs;
    if (passedMs >= ctx.shutdownTimeoutMs || ctx.overdue()) {
      // Whether it runs must have been seen.
      if (found === null) return { cause: 'lostSight' };
      return { cause: 'stillRuns', reason: stillRuns(ctx, passedMs) };
    }
    await tellTooLate(ctx, await ctx.control());
    await ctx.pace(Math.min(LOOK_AGAIN_MS, ctx.shutdownTimeoutMs - passedMs));
  }
}

async function isOff(ctx: MigrationContext): Promise<StepOutcome> {
  const { askedAtMs, figures, source } = ctx.record;
  // One that nobody of us asked was shut down by somebody else.
  if (askedAtMs !== null) await ctx.save({ figures: { ...figures, totalMs: Math.max(0, ctx.now() - askedAtMs) } });
  await ctx.deps.hostsChanged([source]);
  return { cause: 'isOff' };
}

function stillRuns(ctx: MigrationContext, passedMs: number): Reason {
  const left = 'it was left running, and may still shut down';
  if (passedMs >= ctx.shutdownTimeoutMs) {
    const within = formatDuration(ctx.shutdownTimeoutMs);
    return because('shutdownTimedOut', `${ctx.record.vm} did not shut down within ${within} of being asked; ${left}`);
  }
  return because('deadlineExceeded', `${ctx.record.vm}: the deadline passed while it was shutting down; ${left}`);
}

/** Said once, in the reason: its guest cannot be told to go on. */
async function tellTooLate(ctx: MigrationContext, control: Control): Promise<void> {
  const what = control.cancel ? 'cancelled' : control.pause && control.pauseNow ? 'paused' : null;
  if (what === null) return;
  const reason = because('internal', `${what} too late: its guest was asked to shut down, which cannot be taken back`);
  if (ctx.record.reason?.message !== reason.message) await ctx.save({ reason });
}

/** A host that hangs is waited for longer than the lease lasts. */
function look(ctx: MigrationContext): Promise<Seen> {
  return ctx.during(seenAt(ctx.deps, ctx.record.source, ctx.record.vm));
}

type Found = 'running' | 'off' | 'migrating' | 'other';

function whatIs(ctx: MigrationContext, seen: NonNullable<Seen>): Found {
  const { uuid } = ctx.record;
  if (!seen.present || (uuid !== null && seen.uuid !== uuid)) return 'other';
  if (seen.state === 'shutOff') return 'off';
  if (isSending(seen)) return 'migrating';
  return seen.state === 'running' && !seen.arriving ? 'running' : 'other';
}

function otherwise(ctx: MigrationContext, found: 'migrating' | 'other'): Reason {
  const { vm, source } = ctx.record;
  return found === 'migrating'
    ? because('foreignMigration', `${vm} is being migrated from ${source} by somebody else; its guest is left alone`)
    : because('changedSincePlanned', `${vm} does not run on ${source} any more, or is another VM of that name`);
}

/** A migration that an earlier move of this VM left behind is ended, as its own worker would; true: look again. */
async function endOurs(ctx: MigrationContext, seen: NonNullable<Seen>): Promise<boolean> {
  const outgoing = seen.present ? seen.outgoing : null;
  if (outgoing === null || outgoing.migrationId === null || !ENDABLE.has(outgoing.status)) return false;
  const { vm, source } = ctx.record;
  const starter = await ctx.deps.records.move(outgoing.migrationId);
  if (starter?.vm !== vm || starter.source !== source || starter.step === 'halted') return false;
  await ctx.during(ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm));
  await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
  await ctx.pace(LOOK_AGAIN_MS);
  return true;
}
