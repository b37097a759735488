/**
 * Waiting for bandwidth on the whole path: `admitting`, and `standby` for the one that is next in turn, whose copy waits
 * already, so that the link does not idle while it is started (decision 0030).
 */
import { PRESET_BEHAVIOURS } from '../convergence/policies/behaviours.ts';
import type { VmOnHost } from '../hypervisors/hypervisor.ts';
import { vmAtSource } from './briefing.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { demandOf, mostOnPath } from './demand.ts';
import { foresee } from './foresight.ts';
import { NO_HANDOVER } from './handover.ts';
import { LooksWhileWaiting } from './measuring.ts';
import { prepareAhead } from './prepare.ts';

export async function admitting(ctx: MigrationContext): Promise<StepOutcome> {
  const { vm, source } = ctx.record;
  const { name } = ctx.policy;
  ctx.isPrepared = false;
  ctx.foreseen = null;
  ctx.handover = { ...NO_HANDOVER, mayHaveOne: ctx.handover.mayHaveOne };
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

  return waiting(ctx, found);
}

/** Who is gone meanwhile is found to be when it is looked at before the start. */
export async function standby(ctx: MigrationContext): Promise<StepOutcome> {
  await prepareAhead(ctx);
  const found = await vmAtSource(ctx);
  if (found === undefined) return refused('sourceDied', `${ctx.record.vm} is not at ${ctx.record.source} any more`);
  return waiting(ctx, found);
}

async function waiting(ctx: MigrationContext, found: VmOnHost): Promise<StepOutcome> {
  const looks = found.state === 'running' ? new LooksWhileWaiting(ctx) : null;
  try {
    await looks?.know();
    return await granted(ctx, found.touchedBytes, looks);
  } finally {
    looks?.stop();
  }
}

async function granted(
  ctx: MigrationContext,
  touchedBytes: number,
  looks: LooksWhileWaiting | null,
): Promise<StepOutcome> {
  const { vm } = ctx.record;
  const most = await mostOnPath(ctx);
  let wasPaused = false;
  for (;;) {
    const control = await ctx.control();
    if (control.cancel) return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled before it began`) };
    if (ctx.overdue())
      return refused('deadlineExceeded', `${vm}: the operation's deadline passed before its turn came`);
    if (control.pause && ctx.isPrepared) {
      // A pause may last for hours: no copy waits for so long.
      return { cause: 'requeue', reason: because('internal', `${vm}: paused before it began`) };
    }
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
    const grant = await ctx.deps.budget.request(demandOf(ctx, touchedBytes), ctx.lease);
    const { othersWait } = grant;
    if (grant.bytesPerSec > 0) {
      const hopeless = await foresee(ctx, { bytesPerSec: grant.isHeadStart ? most : grant.bytesPerSec, othersWait });
      if (hopeless !== null) return { cause: 'refused', reason: hopeless };
      await ctx.save({ reason: null });
      return { cause: 'granted' };
    }
    if (grant.isNext || ctx.isPrepared) {
      // Now, while the link is busy, rather than when it is free. What is hopeless now may be otherwise in its turn.
      const hopeless = await foresee(ctx, { bytesPerSec: most, othersWait });
      if (hopeless === null && !ctx.isPrepared) return { cause: 'nextInTurn' };
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
