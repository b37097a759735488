/**
 * The steps while bytes move: `precopy` is the convergence loop (sample, budget, decide, throttle), `switchover` waits
 * for the last bytes. What to do is the controller's decision; carrying it out is here.
 */
import type { Controller, ConvergenceAction, Decision } from '../convergence/controller.ts';
import { controllerFor } from '../convergence/controllers.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationProgress } from '../domain/operation.ts';
import type { MigrationSample, Sighting } from '../hypervisors/hypervisor.ts';
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
/** Before its switchover the guest stands still while its destination is looked at: 5 to 70 ms, measured also on a busy machine. */
const LAST_LOOK_REAL_MS = 500;

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

export async function precopy(ctx: MigrationContext): Promise<StepOutcome> {
  try {
    return await converge(ctx, controllerFor(ctx.policy.controller));
  } catch (error) {
    // What could be throttled at the start cannot be any more (the guard cannot write its journal, say).
    if (error instanceof HostevacError && error.code === 'throttleUnavailable') {
      return { cause: 'broken', reason: error.toReason() };
    }
    throw error;
  }
}

async function converge<State>(ctx: MigrationContext, controller: Controller<State>): Promise<StepOutcome> {
  const { source, vm } = ctx.record;
  const hypervisor = ctx.sourceHypervisor;
  const throttle = ctx.deps.throttleOf(source);
  const progressing = new Progressing();
  let state = controller.start(ctx.policy);
  const unthrottled = await goesUnthrottled(ctx);
  const applied: Applied = {
    throttles: !unthrottled,
    grant: 0,
    downtimeLimitMs: ctx.policy.maxStallMs,
    share: null,
    throttledAt: 0,
  };

  for (;;) {
    const sample = await hypervisor.sample(source, vm);
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'preSwitchover') return lastWord(ctx);
    if (sample.status === 'switchover') return { cause: 'switchingOver' };
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    const stop = await stopAsked(ctx);
    if (stop !== undefined) {
      await bookLast(ctx);
      return stop;
    }
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
    const decided: Decision<State> = controller.decide(
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
    const decision = unthrottled ? withoutThrottle(decided) : decided;
    state = decision.next;
    const progress = progressOf(sample, applied.grant, decision);
    // What is about to be asked for, so that a successor knows of a throttle that we did not live to see.
    const asked = decision.action.kind === 'run' && applied.throttles ? decision.action.share : 1;
    const figures = { ...booked.figures, minShare: Math.min(booked.figures.minShare, asked) };
    await ctx.save({ account: booked.account, figures, progress });
    if (decision.action.kind === 'abort') return { cause: 'gaveUp', reason: decision.action.reason };
    await applyDecision(ctx, decision.action, applied);
    await ctx.paceOrChange(tickMs(ctx));
  }
}

/**
 * The guest stands still and nothing irreversible has been done: the last moment to call it off. Short, for every
 * millisecond is downtime; what is written down about it comes after.
 */
async function lastWord(ctx: MigrationContext): Promise<StepOutcome> {
  const { source, destination, vm } = ctx.record;
  if (ctx.lastControl.cancel) {
    await ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm);
    return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled`) };
  }
  const there = await soon(ctx, ctx.destinationHypervisor.look(destination, vm));
  if (there?.present && there.state === 'incoming') {
    await ctx.sourceHypervisor.finishMigration(ctx.lease, source, vm);
    return { cause: 'switchingOver' };
  }
  // Called off first, for then the guest runs on at its source; what is wrong over there is told after that.
  await ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm);
  if (there?.present) return { cause: 'lostSight' };
  const what = there === null ? 'does not answer' : 'has lost the copy that waited there';
  return {
    cause: 'broken',
    reason: because('destinationDied', `${vm}: ${destination} ${what}; it stays at ${source}`),
  };
}

/** null: no answer in time, or none at all. */
async function soon(ctx: MigrationContext, look: Promise<Sighting>): Promise<Sighting | null> {
  const over = new AbortController();
  const late = ctx.deps.clock.sleepReal(LAST_LOOK_REAL_MS, over.signal).then(() => null);
  try {
    return await Promise.race([look, late]);
  } catch (error) {
    if (error instanceof HostevacError) return null;
    throw error;
  } finally {
    over.abort();
    // One that comes late says nothing any more.
    look.catch(() => undefined);
  }
}

/** What the stretch since the last tick has cost, for an attempt that ends here. */
async function bookLast(ctx: MigrationContext): Promise<void> {
  const { source, vm, account, figures } = ctx.record;
  if (account === null) return;
  const cpu = await ctx.deps.throttleOf(source).guestCpu({ host: source, vm });
  const booked = book(account, figures, cpu, cpu.share);
  await ctx.save({ account: booked.account, figures: booked.figures });
}

/** True where guests cannot be throttled and the policy goes on without; that gave way is recorded, once. */
async function goesUnthrottled(ctx: MigrationContext): Promise<boolean> {
  if (ctx.policy.throttling === 'required') return false;
  const { source, vm, relaxed } = ctx.record;
  const reason = await ctx.deps.throttleOf(source).unavailable(source);
  if (reason === null) return false;
  if (!relaxed.some(({ requirement }) => requirement === 'throttling')) {
    await ctx.save({ relaxed: [...relaxed, { requirement: 'throttling', atMs: ctx.now(), why: reason.message }] });
    await ctx.event('move.relaxed', `${vm}: goes on without throttling: ${reason.message}`);
  }
  return true;
}

function withoutThrottle<State>(decision: Decision<State>): Decision<State> {
  const { action, reason } = decision;
  if (action.kind !== 'run' || action.share === 1) return decision;
  return { ...decision, action: { ...action, share: 1 }, reason: `${reason}; it cannot be throttled here` };
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
  /** False: the policy goes on without throttling, for it cannot be had here. */
  readonly throttles: boolean;
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
  if (applied.throttles) await applyShare(ctx, action.share, applied);
  if (action.downtimeLimitMs !== applied.downtimeLimitMs) {
    await ctx.sourceHypervisor.setDowntimeLimit(ctx.lease, source, vm, downtimeLimit(action.downtimeLimitMs));
    applied.downtimeLimitMs = action.downtimeLimitMs;
  }
}

async function applyShare(ctx: MigrationContext, share: number, applied: Applied): Promise<void> {
  const { source, vm } = ctx.record;
  const throttle = ctx.deps.throttleOf(source);
  const now = ctx.deps.clock.monotonic();
  if (share < 1) {
    if (share !== applied.share || now - applied.throttledAt >= THROTTLE_RENEW_MS) {
      await throttle.set(ctx.lease, { host: source, vm, share, validForMs: THROTTLE_VALID_MS });
      applied.throttledAt = now;
    }
  } else if (applied.share !== 1) {
    await throttle.release(ctx.lease, { host: source, vm });
  }
  applied.share = share;
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
    if (sample.status === 'active' || sample.status === 'preSwitchover') return { cause: 'resumed' };
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    if (ctx.now() - began >= SILENCE_MS) {
      return {
        cause: 'broken',
        reason: because('migrationStuck', `${vm}: switching over did not end within ${SILENCE_MS / 1_000}s`),
      };
    }
    await ctx.paceOrChange(SWITCHOVER_LOOK_MS);
  }
}
