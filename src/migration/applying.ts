/**
 * Carrying out a decision: the grant, the share and the downtime limit, each written when it has changed (a throttle also
 * when it must be renewed).
 */
import type { Grant } from '../bandwidth/budget.ts';
import type { ConvergenceAction } from '../convergence/controller.ts';
import { downtimeLimit } from '../convergence/downtime.ts';
import type { MigrationContext } from './context.ts';
import { demandOf } from './demand.ts';

/** A throttle lifts itself this long (real) after the last renewal; several ticks, and within the 2 s promised. */
const THROTTLE_VALID_MS = 1_800;
/** A throttle in force is renewed when this much real time has passed since; several renewals fit its validity. */
const THROTTLE_RENEW_MS = 500;

/** What this process has set, so that a tick without news writes nothing. */
export interface Applied {
  /** False: the policy goes on without throttling, for it cannot be had here. */
  readonly throttles: boolean;
  grant: number;
  /** Other evacuations wait for what it uses. */
  othersWait: boolean;
  /** One that could begin at once waits for what it uses. */
  isAwaited: boolean;
  /** null: unknown, a predecessor may have set one. */
  maxStallMs: number | null;
  /** null: unknown, a predecessor may have set one. */
  share: number | null;
  /** Real monotonic time of the last write of a throttle. */
  throttledAt: number;
}

/** What was sent with so much less says nothing of how fast it is sent from now on. */
const FASTER_TIMES = 2;

/** Applies what the budget gives now and acknowledges it, so that what was freed can go to others. */
export async function applyGrant(
  ctx: MigrationContext,
  applied: Applied,
): Promise<
  Pick<Grant, 'givesWayTo' | 'isHeadStart' | 'inDoubt'> & { readonly isFaster: boolean; readonly isTooLittle: boolean }
> {
  const { source, vm } = ctx.record;
  const uses = applied.grant > 0 ? applied.grant : await ctx.sourceHypervisor.bandwidthLimit(source, vm);
  const granted = await ctx.deps.budget.request(demandOf(ctx, 0, uses ?? 0), ctx.lease);
  const { bytesPerSec } = granted;
  const answer = {
    ...granted,
    isFaster: uses !== null && bytesPerSec > FASTER_TIMES * uses,
    // Its hypervisor has no limit so small: then it may not send at all.
    isTooLittle: bytesPerSec > 0 && bytesPerSec < ctx.sourceHypervisor.bandwidthStepBytesPerSec,
  };
  applied.othersWait = granted.othersWait;
  applied.isAwaited = granted.isAwaited;
  if (bytesPerSec === applied.grant || bytesPerSec <= 0 || answer.isTooLittle) return answer;
  // Unknown until it has been acknowledged: a write that failed may still have been carried out.
  applied.grant = 0;
  await ctx.sourceHypervisor.setBandwidth(ctx.lease, source, vm, bytesPerSec);
  await ctx.deps.budget.inForce(ctx.budgetId, bytesPerSec, ctx.lease);
  applied.grant = bytesPerSec;
  return answer;
}

export async function applyDecision(
  ctx: MigrationContext,
  action: Extract<ConvergenceAction, { kind: 'run' }>,
  applied: Applied,
): Promise<void> {
  const { source, vm } = ctx.record;
  if (applied.throttles) await applyShare(ctx, action.share, applied);
  if (action.maxStallMs !== applied.maxStallMs) {
    const limitMs = downtimeLimit(action.maxStallMs, ctx.sourceHypervisor.handoverMs);
    await ctx.sourceHypervisor.setDowntimeLimit(ctx.lease, source, vm, limitMs);
    applied.maxStallMs = action.maxStallMs;
  }
  // What it asks of the budget from the next tick on.
  ctx.bandwidthCap = action.maxBandwidthBytesPerSec;
}

async function applyShare(ctx: MigrationContext, share: number, applied: Applied): Promise<void> {
  const { source, vm } = ctx.record;
  const throttle = ctx.deps.throttleOf(source);
  const now = ctx.deps.clock.monotonic();
  if (share < 1) {
    if (share !== applied.share || now - applied.throttledAt >= THROTTLE_RENEW_MS) {
      const terms = { share, validForMs: THROTTLE_VALID_MS, longestStretchMs: ctx.policy.maxStallMs };
      await throttle.set(ctx.lease, { host: source, vm, ...terms });
      applied.throttledAt = now;
    }
  } else if (applied.share !== 1) {
    await throttle.release(ctx.lease, { host: source, vm });
  }
  applied.share = share;
}
