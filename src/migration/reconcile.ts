/**
 * The steps that find out what is true: `reconciling` before anything is done, `verifying` after a migration has
 * finished, `cleaning` after it has not. They ask both ends and leave the meaning to assess.ts.
 */
import { HostevacError, type Reason } from '../domain/errors.ts';
import type { GuestCpu } from '../throttling/throttle.ts';
import { closeAccount } from './accounting.ts';
import { type Assessed, assess, type Seen } from './assess.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { reconcilingShutdown } from './shutdown.ts';
import { seenAt } from './sight.ts';

/**
 * How long an unknown truth is asked for again, fleet ms: longer than a management network's hiccup, short enough that
 * an operation with an unreachable host ends with that as its reason. Giving up claims nothing about the VM.
 */
const PATIENCE_MS = 60_000;
/** A copy takes a moment to come up after its last byte; two sightings are not taken at one instant either. */
export const SETTLE_MS = 10_000;
const LOOK_AGAIN_MS = 1_000;

interface Looked extends Assessed {
  readonly source: Seen;
  readonly destination: Seen;
}

/**
 * Asks both ends. A verdict that two looks at different instants could produce by themselves (the migration finished
 * between them) is believed only after it has been seen for `SETTLE_MS`.
 */
async function look(ctx: MigrationContext): Promise<Looked> {
  const { vm, source, destination } = ctx.record;
  // A host that hangs is waited for longer than the lease lasts.
  const [atSource, atDestination] = await ctx.during(
    Promise.all([seenAt(ctx.deps, source, vm), seenAt(ctx.deps, destination, vm)]),
  );
  ctx.unseen = atSource === null || atDestination === null;
  // At the first look nobody has noted the uuid yet; then the source's copy says which VM is meant.
  const uuid = ctx.record.uuid ?? (atSource?.present ? atSource.uuid : null);
  const earlierIds = await earlierIdsOf(ctx, atSource);
  const postCopy = ctx.record.account?.arriving === true;
  return {
    ...assess({ ...ctx.record, uuid, earlierIds, postCopy }, atSource, atDestination),
    source: atSource,
    destination: atDestination,
  };
}

/**
 * The id that the source's migration carries, if it is that of an earlier move of this VM from there. A move that was
 * given up unseen (its host did not answer) may have left a migration running; whoever holds the VM's lease goes on with it.
 */
async function earlierIdsOf(ctx: MigrationContext, atSource: Seen): Promise<ReadonlySet<string>> {
  const id = atSource?.present ? (atSource.outgoing?.migrationId ?? null) : null;
  if (id === null || id === ctx.record.id) return new Set();
  const earlier = await ctx.deps.records.move(id);
  return new Set(earlier?.vm === ctx.record.vm && earlier.source === ctx.record.source ? [id] : []);
}

/** How long a verdict must last before it is believed, fleet ms; 0 for one that is not named. */
type Doubts = Readonly<Partial<Record<Assessed['verdict'], number>>>;
export const DOUBTS: Doubts = { unknown: PATIENCE_MS, contradiction: SETTLE_MS };
/** Where a migration was said to have finished, everything else is doubtful. */
const DOUBTS_AFTER_THE_END: Doubts = {
  ...DOUBTS,
  finished: PATIENCE_MS,
  runningOurs: SETTLE_MS,
  switchingOver: SETTLE_MS,
  inPostCopy: SETTLE_MS,
  neverStarted: SETTLE_MS,
  leftovers: SETTLE_MS,
};

/**
 * A source that died right after its last byte leaves a destination that is about to run with all of the guest: nothing
 * is concluded, and above all nothing ended, before that could be seen.
 */
function doubt(ctx: MigrationContext, looked: Looked, doubts: Doubts): number {
  // A post-copy cannot be given up: whoever stops looking leaves a guest that waits for memory.
  // Who drove it before may have died between the word to the source and the note that it was heard.
  const { account, state } = ctx.record;
  if (looked.verdict === 'unknown' && (account?.arriving === true || state === 'postcopy'))
    return doubts.unknown === 0 ? 0 : Number.POSITIVE_INFINITY;
  // A source that is back soon can be tidied.
  if (looked.verdict === 'finished' && looked.source !== null) return 0;
  const died = looked.verdict === 'refused' && looked.reason.code === 'sourceDied' && ctx.record.migrateSent;
  return Math.max(doubts[looked.verdict] ?? 0, died && looked.destination?.present ? SETTLE_MS : 0);
}

/**
 * Looks until the verdict is one that may be acted on. What counts is when a look began: one whose answers come late, and
 * not together, may be of two different moments however long it took.
 */
export async function lookUntilSure(ctx: MigrationContext, doubts: Doubts = DOUBTS): Promise<Looked> {
  const began = ctx.now();
  let since = began;
  let last: Looked | null = null;
  for (;;) {
    const lookBegan = ctx.now();
    const looked = await look(ctx);
    // Another verdict has to last for itself, but not for ever: two that take turns are no reason to hang.
    const changed = last?.verdict !== looked.verdict || last.reason.code !== looked.reason.code;
    if (last !== null && changed && lookBegan - began < 2 * PATIENCE_MS) since = lookBegan;
    last = looked;
    if (lookBegan - since >= doubt(ctx, looked, doubts)) return looked;
    if (ctx.record.reason?.message !== looked.reason.message) await ctx.save({ reason: looked.reason });
    await ctx.pace(LOOK_AGAIN_MS);
  }
}

export async function reconciling(ctx: MigrationContext): Promise<StepOutcome> {
  if (ctx.record.kind === 'shutdown') return reconcilingShutdown(ctx);
  const looked = await lookUntilSure(ctx);
  const { reason } = looked;
  if (ctx.record.uuid === null && looked.source?.present) await ctx.save({ uuid: looked.source.uuid });
  switch (looked.verdict) {
    case 'unknown':
      return { cause: 'unreachable', reason };
    case 'refused':
      // The truth has been seen: what an earlier attempt of ours held is free, unless something foreign is using it.
      if (reason.code !== 'foreignMigration') await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      // What waited for a VM that has died waits for nothing; the copy may have died with it and left its traces.
      if (reason.code === 'sourceDied') await discard(ctx);
      return { cause: 'refused', reason };
    case 'contradiction':
      return { cause: 'contradiction', reason };
    case 'leftovers':
      ctx.ending = (await ctx.control()).cancel ? 'cancel' : 'start';
      return { cause: 'leftovers', reason };
    case 'neverStarted': {
      // So that a copy that was asked for before is not made after this look: where the fleet fences, it knows us from here on.
      if (ctx.isTakenOver) await discard(ctx);
      await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      const control = await ctx.control();
      return control.cancel
        ? { cause: 'cancel', reason: because('cancelled', `${ctx.record.vm}: cancelled before it began`) }
        : { cause: 'neverStarted' };
    }
    default:
      // It was begun by an earlier move, or the store has lost when: its time counts from now, or it would never be over.
      if (looked.verdict !== 'finished' && ctx.record.startedAtMs === null)
        await ctx.save({ migrateSent: true, startedAtMs: ctx.now() });
      return { cause: looked.verdict };
  }
}

export async function verifying(ctx: MigrationContext): Promise<StepOutcome> {
  const { vm, source, destination, startedAtMs, headStartMs, figures } = ctx.record;
  const looked = await lookUntilSure(ctx, DOUBTS_AFTER_THE_END);
  if (looked.verdict === 'unknown') return { cause: 'unreachable', reason: looked.reason };
  if (looked.verdict === 'contradiction' || looked.verdict === 'refused') {
    return { cause: 'contradiction', reason: looked.reason };
  }
  if (looked.verdict !== 'finished') return { cause: 'notFinished', reason: looked.reason };
  // Its last byte has arrived: the next one need not wait until all is tidied here.
  await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
  // A hypervisor may know what it came to although nothing is left of it there.
  const sample = looked.source === null ? null : await ctx.sourceHypervisor.sample(source, vm);
  const endedAtMs = sample?.status === 'completed' ? Math.min(sample.atMs, ctx.now()) : ctx.now();
  const asked = looked.source?.present && ctx.record.account?.arriving !== true;
  const cpu = asked ? await lastCpu(ctx) : null;
  await ctx.during(ctx.destinationHypervisor.keepDefinition(ctx.lease, destination, vm));
  await unthrottle(ctx);
  if (looked.source?.present) await ctx.during(ctx.sourceHypervisor.retire(ctx.lease, source, vm));
  await ctx.save({
    figures: closeAccount(ctx.record.account, figures, {
      atMs: endedAtMs,
      cpu,
      totalMs: startedAtMs === null ? 0 : Math.max(0, endedAtMs - startedAtMs - headStartMs),
      downtimeMs: sample?.downtimeMs ?? figures.downtimeMs,
      transferredBytes: sample?.transferredBytes ?? ctx.record.progress?.transferredBytes ?? 0,
    }),
  });
  await ctx.deps.hostsChanged([source, destination]);
  return { cause: 'verified' };
}

/** What the source's vCPUs have got, now that they have stopped; null where that cannot be told any more. */
async function lastCpu(ctx: MigrationContext): Promise<GuestCpu | null> {
  const { vm, source } = ctx.record;
  try {
    return await ctx.deps.throttleOf(source).guestCpu({ host: source, vm });
  } catch (error) {
    if (error instanceof HostevacError && error.code !== 'leaseLost') return null;
    throw error;
  }
}

/**
 * Makes a failed or cancelled attempt undone: no outgoing migration, no throttle at the source, nothing waiting at the
 * destination, and the VM seen running. Each act is harmless where there is nothing to do, so it may be repeated.
 */
export async function cleaning(ctx: MigrationContext): Promise<StepOutcome> {
  const { source, destination } = ctx.record;
  const began = ctx.now();
  await unthrottleEarly(ctx);
  for (;;) {
    const before = await lookUntilSure(ctx);
    if (before.verdict === 'finished' || before.verdict === 'inPostCopy') return { cause: before.verdict };
    if (before.verdict === 'contradiction') return { cause: 'contradiction', reason: before.reason };
    if (before.verdict === 'unknown') return { cause: 'unreachable', reason: before.reason };
    if (before.verdict === 'refused' && before.reason.code === 'sourceDied') {
      if (ctx.record.migrateSent) return { cause: 'contradiction', reason: before.reason };
      // Shut off before anything was sent: what waited for it waits for nothing.
      await discard(ctx);
      await unthrottle(ctx);
      await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      return { cause: CLEANED[ctx.ending], reason: before.reason };
    }
    if (before.verdict === 'refused' && before.reason.code !== 'destinationDied') {
      // What is there now is not ours (another's migration, another VM of that name): it is left alone.
      await unthrottle(ctx);
      if (before.reason.code !== 'foreignMigration') await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      return { cause: 'cleanAfterFailure', reason: before.reason };
    }
    await cancelOutgoing(ctx);
    await unthrottle(ctx);
    // Looked at again: the migration may have finished while the order to end it was on its way.
    // A copy that has died is present no more, and may have left its traces.
    if (['leftovers', 'neverStarted'].includes((await look(ctx)).verdict)) await discard(ctx);
    const after = await look(ctx);
    // `refused` here is a destination that does not answer: nothing can be left on it that we could see or remove.
    if (after.verdict === 'neverStarted' || (after.verdict === 'refused' && after.reason.code === 'destinationDied')) {
      await ctx.deps.budget.release(ctx.budgetId, ctx.lease);
      await ctx.deps.hostsChanged([source, destination]);
      return { cause: CLEANED[ctx.ending], ...(ctx.record.reason === null ? {} : { reason: ctx.record.reason }) };
    }
    if (ctx.now() - began > PATIENCE_MS) return { cause: 'unreachable', reason: stillThere(ctx, after.reason) };
    await ctx.pace(LOOK_AGAIN_MS);
  }
}

/** One that goes into post-copy at this moment refuses; the next look says so. */
async function cancelOutgoing(ctx: MigrationContext): Promise<void> {
  const { vm, source } = ctx.record;
  try {
    await ctx.during(ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm));
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hypervisorRefused') throw error;
    if (!['inPostCopy', 'switchingOver'].includes((await look(ctx)).verdict)) throw error;
  }
}

/**
 * Where guests cannot be throttled there is nothing to lift, unless this migration has throttled: then nobody may say that
 * it is lifted before it is.
 */
async function unthrottle(ctx: MigrationContext): Promise<void> {
  const { vm, source, figures } = ctx.record;
  try {
    await ctx.deps.throttleOf(source).release(ctx.lease, { host: source, vm });
  } catch (error) {
    const nothingToLift = figures.minShare === 1;
    if (!nothingToLift || !(error instanceof HostevacError) || error.code !== 'throttleUnavailable') throw error;
  }
}

/**
 * Ending a migration takes a while, and its guest need not wait for its CPU meanwhile. What goes wrong here is done, and
 * told, when the throttle is lifted for certain.
 */
export async function unthrottleEarly(ctx: MigrationContext): Promise<void> {
  if (ctx.record.figures.minShare === 1) return;
  try {
    await unthrottle(ctx);
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code === 'leaseLost') throw error;
  }
}

/** Harmless where there is nothing. A copy that is no longer a waiting one is refused; the next look says what it is. */
async function discard(ctx: MigrationContext): Promise<void> {
  const { vm, destination } = ctx.record;
  try {
    await ctx.during(ctx.destinationHypervisor.discardIncoming(ctx.lease, destination, vm));
  } catch (error) {
    if (!(error instanceof HostevacError) || !['hypervisorRefused', 'hostUnreachable'].includes(error.code))
      throw error;
  }
}

const CLEANED = { failure: 'cleanAfterFailure', cancel: 'cleanAfterCancel', start: 'cleanToStart' } as const;

function stillThere(ctx: MigrationContext, reason: Reason): Reason {
  return because(
    reason.code,
    `${ctx.record.vm}: could not be cleaned up after ${PATIENCE_MS / 1_000}s: ${reason.message}`,
  );
}
