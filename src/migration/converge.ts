/**
 * The convergence loop while bytes move: sample, budget, decide, throttle. What to do is the controller's decision;
 * carrying it out is applying.ts, how it ends switchover.ts.
 */
import type { Controller, ConvergenceSample, Decision } from '../convergence/controller.ts';
import { controllerFor } from '../convergence/controllers.ts';
import { nextLookWhileRunning } from '../convergence/measuring.ts';
import { PRESET_BEHAVIOURS } from '../convergence/policies/behaviours.ts';
import { maintenance } from '../convergence/policies/maintenance.ts';
import type { PolicyBehaviour } from '../convergence/policy-behaviour.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationProgress } from '../domain/operation.ts';
import type { MigrationSample } from '../hypervisors/hypervisor.ts';
import { book, openAccount } from './accounting.ts';
import { type Applied, applyDecision, applyGrant } from './applying.ts';
import { briefingOf } from './briefing.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { HeadStart, lookBeforeEndMs, stepBack } from './handover.ts';
import { LooksBeside } from './measuring.ts';
import { Progressing, SILENCE_MS } from './progressing.ts';
import { ended, lastWord } from './switchover.ts';

/** One decision per second of fleet time or sooner where it says so, but no more than 20 a real second. */
const TICK_MS = 1_000;
const SHORTEST_TICK_REAL_MS = 50;
/** One that ends within this gives way to nobody. */
const ALMOST_DONE_MS = 10_000;
/** While it connects. */
const SETUP_LOOK_MS = 50;

/** QEMU tells the rate of the last whole 100 ms, and waits for the end of those in which it had sent all it might. */
const RATE_KNOWN_REAL_MS = 250;

/** The time in which it was sent with next to nothing, so that others could end, is none of its own. */
function policyOf(ctx: MigrationContext): MigrationContext['policy'] {
  const { policy, record } = ctx;
  return record.headStartMs === 0 ? policy : { ...policy, maxTimeMs: policy.maxTimeMs + record.headStartMs };
}

function tickMs(ctx: MigrationContext, wantedMs: number | null): number {
  return Math.max(Math.min(TICK_MS, wantedMs ?? TICK_MS), ctx.deps.clock.fleetMs(SHORTEST_TICK_REAL_MS));
}

export async function precopy(ctx: MigrationContext): Promise<StepOutcome> {
  const looks = new LooksBeside(ctx, { mayBeThrottled: true });
  try {
    return await converge(ctx, controllerFor(ctx.policy.controller, await knownBehaviours(ctx)), looks);
  } catch (error) {
    // What could be throttled at the start cannot be any more (the guard cannot write its journal, say).
    if (error instanceof HostevacError && error.code === 'throttleUnavailable') {
      return { cause: 'broken', reason: error.toReason() };
    }
    throw error;
  } finally {
    looks.stop();
  }
}

async function converge<State>(
  ctx: MigrationContext,
  controller: Controller<State>,
  looks: LooksBeside,
): Promise<StepOutcome> {
  const { source, vm } = ctx.record;
  const hypervisor = ctx.sourceHypervisor;
  const throttle = ctx.deps.throttleOf(source);
  const progressing = new Progressing();
  let state: State | null = null;
  let applied: Applied | null = null;
  const headStart = new HeadStart(ctx);

  for (;;) {
    const sample = await hypervisor.sample(source, vm);
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'preSwitchover') return lastWord(ctx);
    if (sample.status === 'switchover') return { cause: 'switchingOver' };
    const over = ended(ctx, sample);
    if (over !== undefined) {
      await headStart.end();
      return over;
    }
    const stop = await stopAsked(ctx);
    if (stop !== undefined) {
      await bookLast(ctx);
      return stop;
    }
    const patienceMs = sample.status === 'setup' ? hypervisor.setupSilenceMs : SILENCE_MS;
    if (progressing.silentFor(sample) >= patienceMs) {
      return {
        cause: 'broken',
        reason: because(
          'migrationStuck',
          `${vm}: no byte was sent for ${patienceMs / 1_000}s (${source} to ${ctx.record.destination})`,
        ),
      };
    }

    if (sample.status === 'setup' || sample.totalBytes === 0) {
      // It has no counters yet.
      await ctx.paceOrChange(SETUP_LOOK_MS);
      continue;
    }

    // Not before the first sample: a guest that is found standing still does not wait for what a host looks like.
    state ??= controller.start(ctx.policy, ctx.briefing ?? (await briefingOf(ctx)));
    applied ??= {
      throttles: !(await goesUnthrottled(ctx)),
      grant: 0,
      othersWait: false,
      isAwaited: false,
      maxStallMs: null,
      share: null,
      throttledAt: 0,
    };
    const { givesWayTo, isHeadStart, isFaster, inDoubt, isTooLittle } = await applyGrant(ctx, applied);
    if (isTooLittle) {
      await bookLast(ctx);
      const why = `${vm}: it is to be sent slower than its hypervisor can be told; it waits for its turn again`;
      return { cause: 'requeue', reason: because('internal', why) };
    }
    if (givesWayTo !== null && !isAlmostDone(ctx)) {
      await bookLast(ctx);
      const reason = because(
        'cancelled',
        `${vm}: gives way to the evacuation of ${givesWayTo}; it starts again after it`,
      );
      return { cause: 'requeue', reason };
    }
    if ((isHeadStart || isFaster) && ctx.record.account === null) {
      // What it costs its guest counts from here, whatever is decided when.
      await ctx.save({ account: openAccount(await throttle.guestCpu({ host: source, vm })) });
    }
    if (isHeadStart) {
      const givenUp = await headStart.wait(inDoubt);
      if (givenUp !== undefined) return givenUp;
      continue;
    }
    await headStart.end();
    if (isFaster) {
      await ctx.paceOrChange(ctx.deps.clock.fleetMs(RATE_KNOWN_REAL_MS));
      continue;
    }
    const cpu = await throttle.guestCpu({ host: source, vm });
    const account = ctx.record.account ?? openAccount(cpu);
    const booked = book(account, ctx.record.figures, cpu, cpu.share);
    const evidence: ConvergenceSample = {
      atMs: sample.atMs,
      startedAtMs: ctx.record.startedAtMs ?? sample.atMs,
      pass: sample.pass,
      remainingBytes: sample.remainingBytes,
      transferredBytes: sample.transferredBytes,
      totalBytes: sample.totalBytes,
      rateBytesPerSec: sample.rateBytesPerSec,
      dirtyRateBytesPerSec: sample.dirtyRateBytesPerSec,
      grantBytesPerSec: applied.grant,
      share: cpu.share,
      gotShare: booked.gotShare,
      demandCores: booked.account.demandCores,
      harmCpuMs: booked.figures.harmCpuMs,
      windows: looks.take(),
      othersWait: applied.othersWait,
    };
    const began = ctx.deps.clock.monotonic();
    const decided: Decision<State> = controller.decide(state, evidence, policyOf(ctx));
    const tookMs = ctx.deps.clock.monotonic() - began;
    ctx.deps.onVerdict?.({ moveId: ctx.record.id, vm, action: decided.action.kind, tookMs });
    const decision = applied.throttles ? decided : withoutThrottle(decided);
    state = decision.next;
    const progress = progressOf(sample, applied.grant, decision);
    // What is about to be asked for, so that a successor knows of a throttle that we did not live to see.
    const asked = decision.action.kind === 'run' && applied.throttles ? decision.action.share : 1;
    const figures = { ...booked.figures, minShare: Math.min(booked.figures.minShare, asked) };
    await ctx.save({
      account: booked.account,
      figures,
      progress,
      ...(decision.evidence.length > 0 ? { evidence: [...decision.evidence] } : {}),
    });
    await tell(ctx, decision);
    if (decision.action.kind === 'abort') return { cause: 'gaveUp', reason: decision.action.reason };
    if (decision.action.kind === 'postCopy') return { cause: 'postCopy', reason: decision.action.reason };
    await applyDecision(ctx, decision.action, applied);
    if (stepBack(ctx, progress.etaMs, { bytesPerSec: applied.grant, isAwaited: applied.isAwaited }))
      await applyGrant(ctx, applied);
    looks.begin(nextLookWhileRunning(decision.evidence, decision.action.share, ctx.now()));
    const beforeEndMs = applied.othersWait ? lookBeforeEndMs(ctx, progress.etaMs) : null;
    await ctx.paceOrChange(Math.min(tickMs(ctx, decision.action.lookAgainMs), tickMs(ctx, beforeEndMs)));
  }
}

/**
 * Its policies by name. A migration that is adopted by a worker which does not know its policy is not given up for that: it
 * goes on as evacuations do, and that is told.
 */
async function knownBehaviours(ctx: MigrationContext): Promise<ReadonlyMap<string, PolicyBehaviour>> {
  const { name } = ctx.policy;
  const { behaviours } = ctx.deps;
  if (PRESET_BEHAVIOURS.has(name) || behaviours.has(name)) return behaviours;
  await ctx.event(
    'move.note',
    `${ctx.record.vm}: this worker does not know the policy ${name}; it goes on as with maintenance`,
  );
  return new Map([...behaviours, [name, { ...maintenance, name }]]);
}

/** What gave way is recorded once each; notes are events. */
async function tell(ctx: MigrationContext, { relaxed, notes }: Decision<unknown>): Promise<void> {
  const { vm } = ctx.record;
  for (const { requirement, why } of relaxed) {
    if (ctx.record.relaxed.some((known) => known.requirement === requirement)) continue;
    await ctx.save({ relaxed: [...ctx.record.relaxed, { requirement, atMs: ctx.now(), why }] });
    await ctx.event('move.relaxed', `${vm}: ${requirement} gives way: ${why}`);
  }
  for (const note of notes) await ctx.event('move.note', `${vm}: ${note}`);
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

/** To be begun again would cost its guest more than whoever waits for it would gain. */
function isAlmostDone(ctx: MigrationContext): boolean {
  const etaMs = ctx.record.progress?.etaMs ?? null;
  return etaMs !== null && etaMs <= ALMOST_DONE_MS;
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
    etaMs: decision.prediction?.totalMs.value ?? etaMs(sample),
    prediction: decision.prediction,
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
