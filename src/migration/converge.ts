/**
 * The steps while bytes move: `precopy` is the convergence loop (sample, budget, decide, throttle), `switchover` waits
 * for the last bytes. What to do is the controller's decision; carrying it out is here.
 */
import type { Controller, ConvergenceAction, Decision } from '../convergence/controller.ts';
import { controllerFor } from '../convergence/controllers.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationProgress } from '../domain/operation.ts';
import type { MigrationSample } from '../hypervisors/hypervisor.ts';
import { book, openAccount } from './accounting.ts';
import { demandOf } from './admit.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { downtimeLimit } from './downtime.ts';

/** One decision per second of fleet time, but in a fast simulation no more than 20 a real second. */
const TICK_MS = 1_000;
const SHORTEST_TICK_REAL_MS = 50;
/** In pre-copy, no byte for this long is a failed link (design, "Convergence"). */
const SILENCE_MS = 10_000;
/** A throttle lifts itself this long (real) after the last renewal; several ticks, and within the 2 s promised. */
const THROTTLE_VALID_MS = 1_800;
/** A throttle in force is renewed when this much real time has passed since; several renewals fit its validity. */
const THROTTLE_RENEW_MS = 500;
const SWITCHOVER_LOOK_MS = 100;
function tickMs(ctx: MigrationContext): number {
  return Math.max(TICK_MS, ctx.deps.clock.fleetMs(SHORTEST_TICK_REAL_MS));
}

/** What an ended sample means; undefined while it goes on. */
function ended(ctx: MigrationContext, sample: MigrationSample): StepOutcome | undefined {
  if (sample.status === 'completed') return { cause: 'finished' };
  if (sample.status === 'failed' || sample.status === 'cancelled') {
    return {
      cause: 'broken',
      reason:
        sample.failure ??
        because('hypervisorRefused', `${ctx.record.vm}: the hypervisor says that the migration was ${sample.status}`),
    };
  }
  return undefined;
}

/** Notices that nothing moves. */
class Progressing {
  #bytes = -1;
  #sinceMs = 0;

  silentFor(sample: MigrationSample): number {
    if (sample.transferredBytes !== this.#bytes) {
      this.#bytes = sample.transferredBytes;
      this.#sinceMs = sample.atMs;
    }
    return sample.atMs - this.#sinceMs;
  }
}

export function precopy(ctx: MigrationContext): Promise<StepOutcome> {
  return converge(ctx, controllerFor(ctx.policy.controller));
}

async function converge<State>(ctx: MigrationContext, controller: Controller<State>): Promise<StepOutcome> {
  const { source, vm } = ctx.record;
  const hypervisor = ctx.sourceHypervisor;
  const throttle = ctx.deps.throttleOf(source);
  const progressing = new Progressing();
  let state = controller.start(ctx.policy);
  const applied: Applied = { grant: 0, downtimeLimitMs: ctx.policy.maxStallMs, share: null, throttledAt: 0 };

  for (;;) {
    const sample = await hypervisor.sample(source, vm);
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'switchover') return { cause: 'switchingOver' };
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    const stop = await stopAsked(ctx);
    if (stop !== undefined) return stop;
    if (progressing.silentFor(sample) >= SILENCE_MS) {
      return {
        cause: 'broken',
        reason: because(
          'migrationStuck',
          `${vm}: no byte was sent for ${SILENCE_MS / 1_000}s (${source} to ${ctx.record.destination})`,
        ),
      };
    }

    await applyGrant(ctx, applied);
    const cpu = await throttle.guestCpu({ host: source, vm });
    const account = ctx.record.account ?? openAccount(cpu);
    const booked = book(account, ctx.record.figures, cpu, cpu.share);
    const decision: Decision<State> = controller.decide(
      state,
      {
        atMs: sample.atMs,
        startedAtMs: ctx.record.startedAtMs ?? sample.atMs,
        pass: sample.pass,
        remainingBytes: sample.remainingBytes,
        transferredBytes: sample.transferredBytes,
        rateBytesPerSec: sample.rateBytesPerSec,
        dirtyRateBytesPerSec: sample.dirtyRateBytesPerSec,
        grantBytesPerSec: applied.grant,
        share: cpu.share,
        gotShare: booked.gotShare,
      },
      ctx.policy,
    );
    state = decision.next;
    const progress = progressOf(sample, applied.grant, decision);
    await ctx.save({ account: booked.account, figures: booked.figures, progress });
    if (decision.action.kind === 'abort') return { cause: 'gaveUp', reason: decision.action.reason };
    await applyDecision(ctx, decision.action, applied);
    await ctx.pace(tickMs(ctx));
  }
}

/** Cancel, pause --now and the operation's deadline end an attempt between two ticks. */
async function stopAsked(ctx: MigrationContext): Promise<StepOutcome | undefined> {
  const { vm } = ctx.record;
  const control = await ctx.control();
  if (control.cancel) {
    return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled`) };
  }
  if (control.pause && control.pauseNow) {
    return { cause: 'requeue', reason: because('cancelled', `${vm}: paused; it starts again after \`resume\``) };
  }
  if (ctx.overdue()) {
    return {
      cause: 'gaveUp',
      reason: because('deadlineExceeded', `${vm}: the operation's deadline passed while it was running`),
    };
  }
  return undefined;
}

/** What this process has set, so that a tick without news writes nothing. */
interface Applied {
  grant: number;
  downtimeLimitMs: number;
  /** null: unknown, a predecessor may have set one. */
  share: number | null;
  /** Real monotonic time of the last write of a throttle. */
  throttledAt: number;
}

/** Applies what the budget gives now and acknowledges it, so that what was freed can go to others. */
async function applyGrant(ctx: MigrationContext, applied: Applied): Promise<void> {
  const { source, vm } = ctx.record;
  const { bytesPerSec } = await ctx.deps.budget.request(demandOf(ctx, 0), ctx.lease);
  if (bytesPerSec === applied.grant || bytesPerSec <= 0) return;
  // Unknown until it has been acknowledged: a write that failed may still have been carried out.
  applied.grant = 0;
  await ctx.sourceHypervisor.setBandwidth(ctx.lease, source, vm, bytesPerSec);
  await ctx.deps.budget.inForce(ctx.budgetId, bytesPerSec, ctx.lease);
  applied.grant = bytesPerSec;
}

async function applyDecision(
  ctx: MigrationContext,
  action: Extract<ConvergenceAction, { kind: 'run' }>,
  applied: Applied,
): Promise<void> {
  const { source, vm } = ctx.record;
  const throttle = ctx.deps.throttleOf(source);
  const now = ctx.deps.clock.monotonic();
  if (action.share < 1) {
    if (action.share !== applied.share || now - applied.throttledAt >= THROTTLE_RENEW_MS) {
      await throttle.set(ctx.lease, { host: source, vm, share: action.share, validForMs: THROTTLE_VALID_MS });
      applied.throttledAt = now;
    }
  } else if (applied.share !== 1) {
    await throttle.release(ctx.lease, { host: source, vm });
  }
  applied.share = action.share;
  if (action.downtimeLimitMs !== applied.downtimeLimitMs) {
    await ctx.sourceHypervisor.setDowntimeLimit(ctx.lease, source, vm, downtimeLimit(action.downtimeLimitMs));
    applied.downtimeLimitMs = action.downtimeLimitMs;
  }
}

function progressOf(sample: MigrationSample, grant: number, decision: Decision<unknown>): MigrationProgress {
  const share = decision.action.kind === 'run' ? decision.action.share : 1;
  return {
    pass: sample.pass,
    remainingBytes: sample.remainingBytes,
    transferredBytes: sample.transferredBytes,
    totalBytes: sample.totalBytes,
    rateBytesPerSec: sample.rateBytesPerSec,
    dirtyRateBytesPerSec: sample.dirtyRateBytesPerSec,
    grantBytesPerSec: grant,
    share,
    etaMs: etaMs(sample),
    decision: decision.reason,
  };
}

/** First order: this pass at this rate, then a geometric series of passes while less is dirtied than sent; null: cannot tell. */
function etaMs(sample: MigrationSample): number | null {
  if (sample.rateBytesPerSec <= 0) return null;
  const ratio = sample.dirtyRateBytesPerSec / sample.rateBytesPerSec;
  if (ratio >= 0.95) return null;
  return ((sample.remainingBytes / sample.rateBytesPerSec) * 1_000) / (1 - ratio);
}

export async function switchover(ctx: MigrationContext): Promise<StepOutcome> {
  const { source, vm } = ctx.record;
  const began = ctx.now();
  for (;;) {
    let sample: MigrationSample | null;
    try {
      sample = await ctx.sourceHypervisor.sample(source, vm);
    } catch (error) {
      if (error instanceof HostevacError && error.code === 'hostUnreachable') return { cause: 'lostSight' };
      throw error;
    }
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'active') return { cause: 'resumed' };
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    if (ctx.now() - began >= SILENCE_MS) {
      return {
        cause: 'broken',
        reason: because('migrationStuck', `${vm}: switching over did not end within ${SILENCE_MS / 1_000}s`),
      };
    }
    await ctx.pace(SWITCHOVER_LOOK_MS);
  }
}
