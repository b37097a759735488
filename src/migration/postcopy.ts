/**
 * The step `postcopy`: until the guest has gone over it can still be called off, from then on nothing ends it but its end.
 * Nothing times out here; a broken connection is made anew for as long as it takes, and who asks to stop is told why not.
 */
import { HostevacError, type Reason } from '../domain/errors.ts';
import type { MigrationProgress } from '../domain/operation.ts';
import type { MigrationSample } from '../hypervisors/hypervisor.ts';
import { type Applied, applyGrant } from './applying.ts';
import { bookArrival, openArrival } from './arrival.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { NO_HANDOVER } from './handover.ts';
import { BREAKS } from './prepare.ts';
import { DOUBTS, lookUntilSure, unthrottleEarly } from './reconcile.ts';
import { ended, lastWord } from './switchover.ts';

const LOOK_MS = 1_000;
const BEGINNING_LOOK_MS = 100;
/** One that has not begun by then was not heard: it is looked at again from the start. */
const BEGINS_WITHIN_MS = 10_000;
/** No byte for this long, and both ends answer: the connection is silently dead, and TCP would say so in a quarter of an hour. */
const SILENCE_MS = 10_000;
/** Between two attempts to connect anew, doubled each time. */
const FIRST_RETRY_MS = 2_000;
const LONGEST_RETRY_MS = 30_000;

/** Nobody answering is no reason to stop looking. */
const DOUBTS_IN_POST_COPY = { ...DOUBTS, unknown: 0 };

export async function postcopy(ctx: MigrationContext): Promise<StepOutcome> {
  const early = await untilBegun(ctx);
  if (early !== undefined) return early;
  // The guest does not run there any more.
  await unthrottleEarly(ctx);
  // What the controller wanted it to keep to was for the guest's sake.
  ctx.bandwidthCap = ctx.policy.maxBandwidthBytesPerSec;
  ctx.handover = NO_HANDOVER;
  const why = ctx.record.reason;
  const applied: Applied = {
    throttles: false,
    grant: 0,
    othersWait: false,
    isAwaited: false,
    maxStallMs: 0,
    share: null,
    throttledAt: 0,
  };
  const connection = new Connection();
  const refusals = new Refusals();
  for (;;) {
    const looked = await lookUntilSure(ctx, DOUBTS_IN_POST_COPY);
    if (looked.verdict === 'finished') {
      await ctx.during(attempt(() => bookArrival(ctx)));
      return { cause: 'finished' };
    }
    if (looked.verdict === 'contradiction') return { cause: 'contradiction', reason: looked.reason };
    if (looked.verdict !== 'inPostCopy' && looked.verdict !== 'unknown')
      return { cause: 'lostSight', reason: looked.reason };

    const told: (Reason | null)[] = [looked.verdict === 'unknown' ? looked.reason : null, await refusals.asked(ctx)];
    const keeping = attempt(async () => {
      const sample = await ctx.sourceHypervisor.sample(ctx.record.source, ctx.record.vm);
      if (sample === null) return;
      await applyGrant(ctx, applied);
      // First what the guest waits for: a destination that hangs for want of a page answers nothing before it is there.
      told.push(await connection.keep(ctx, sample, looked.destination !== null));
      await ctx.save({ progress: progressOf(sample, applied.grant) });
      await bookArrival(ctx);
    });
    const trouble = await ctx.during(keeping);
    await say(ctx, [...told, looked.verdict === 'unknown' ? null : trouble], why);
    await ctx.paceOrChange(LOOK_MS);
  }
}

/**
 * Switches it, unless that has been done, and waits until the guest goes on at its destination. What says something else
 * first; undefined: it does. Nobody else is asked from the one word to the other: the guest may stand still meanwhile.
 */
async function untilBegun(ctx: MigrationContext): Promise<StepOutcome | undefined> {
  const { source, vm } = ctx.record;
  const began = ctx.now();
  const { cancel } = await ctx.control();
  const refused = cancel ? null : await attempt(() => ctx.sourceHypervisor.beginPostCopy(ctx.lease, source, vm));
  for (;;) {
    const sample = await ctx.sourceHypervisor.sample(source, vm);
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'postCopy' || sample.status === 'postCopyPaused') {
      await openArrival(ctx, sample);
      return undefined;
    }
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    if (refused !== null) return { cause: 'broken', reason: refused };
    // The source refuses it if it has gone over by then.
    if (cancel) return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled`) };
    if (sample.status === 'preSwitchover') {
      const word = await lastWord(ctx);
      if (word.cause !== 'switchingOver') return word;
    } else if (ctx.now() - began >= BEGINS_WITHIN_MS) {
      const seconds = BEGINS_WITHIN_MS / 1_000;
      return {
        cause: 'lostSight',
        reason: because('hypervisorRefused', `${vm}: post-copy was asked for and has not begun in ${seconds}s`),
      };
    }
    await ctx.paceOrChange(BEGINNING_LOOK_MS);
  }
}

/** What a hypervisor does not answer, or refuses, ends nothing here; its words. */
async function attempt(work: () => Promise<void>): Promise<Reason | null> {
  try {
    await work();
    return null;
  } catch (error) {
    if (error instanceof HostevacError && BREAKS.has(error.code)) return error.toReason();
    throw error;
  }
}

/** Who wants it to stop is told once in the events, and all the time in the record. */
class Refusals {
  #told = '';

  async asked(ctx: MigrationContext): Promise<Reason | null> {
    const { vm, destination } = ctx.record;
    const control = await ctx.control();
    const refused = (code: Reason['code'], what: string): Reason =>
      because(
        code,
        `${vm}: ${what}, but it is in post-copy: it cannot be called off, for its memory is at both ends; it goes on until it has arrived at ${destination}`,
      );
    let reason: Reason | null = null;
    if (control.cancel) reason = refused('cancelled', 'was cancelled');
    else if (control.pause && control.pauseNow) reason = refused('cancelled', 'was to be paused now');
    else if (ctx.overdue()) reason = refused('deadlineExceeded', "the operation's deadline has passed");
    if (reason !== null && this.#told !== reason.message) await ctx.event('move.notCalledOff', reason.message);
    this.#told = reason?.message ?? '';
    return reason;
  }
}

/** Notices that nothing moves, and has the two ends connected anew. */
class Connection {
  #bytes = -1;
  #movedAtMs = 0;
  #retryMs = FIRST_RETRY_MS;
  #notBeforeMs = 0;
  #tries = 0;
  #words: Reason | null = null;

  /** What is wrong with the connection and done about it; null: nothing. */
  async keep(ctx: MigrationContext, sample: MigrationSample, destinationAnswers: boolean): Promise<Reason | null> {
    const { id, vm, source, destination } = ctx.record;
    if (sample.transferredBytes !== this.#bytes) {
      this.#bytes = sample.transferredBytes;
      this.#movedAtMs = sample.atMs;
    }
    const silent = destinationAnswers && sample.atMs - this.#movedAtMs >= SILENCE_MS;
    if (sample.status !== 'postCopyPaused' && !silent) {
      // A connection that has just been made anew has yet to show that it works.
      if (sample.atMs - this.#movedAtMs < LOOK_MS) {
        this.#retryMs = FIRST_RETRY_MS;
        this.#tries = 0;
        this.#words = null;
      }
      return this.#words;
    }
    if (ctx.now() < this.#notBeforeMs) return this.#words;
    this.#notBeforeMs = ctx.now() + this.#retryMs;
    this.#retryMs = Math.min(this.#retryMs * 2, LONGEST_RETRY_MS);
    this.#tries += 1;
    const trouble = await attempt(() =>
      ctx.sourceHypervisor.recoverPostCopy(ctx.lease, { vm, source, destination, migrationId: id }),
    );
    const seen = sample.status === 'postCopyPaused' ? 'is broken' : `is silent: no byte for ${SILENCE_MS / 1_000}s`;
    const done =
      trouble === null ? 'both ends were told to connect anew' : `connecting anew failed: ${trouble.message}`;
    const message = `${vm}: in post-copy, its connection from ${source} to ${destination} ${seen}; ${done} (attempt ${this.#tries})`;
    this.#words = because('linkFailed', message);
    await ctx.event('move.recovering', message);
    return this.#words;
  }
}

/** All of it in one sentence each; why it is in post-copy, when nothing is wrong. */
async function say(ctx: MigrationContext, told: readonly (Reason | null)[], why: Reason | null): Promise<void> {
  const words = told.filter((one) => one !== null);
  const [first] = words;
  const reason = first === undefined ? why : because(first.code, words.map(({ message }) => message).join('; '));
  if (reason?.message !== ctx.record.reason?.message) await ctx.save({ reason });
}

function progressOf(sample: MigrationSample, grantBytesPerSec: number): MigrationProgress {
  const { pass, remainingBytes, transferredBytes, totalBytes, rateBytesPerSec, dirtyRateBytesPerSec } = sample;
  return {
    pass,
    remainingBytes,
    transferredBytes,
    totalBytes,
    rateBytesPerSec,
    dirtyRateBytesPerSec,
    grantBytesPerSec,
    share: 1,
    etaMs: rateBytesPerSec > 0 ? (remainingBytes / rateBytesPerSec) * 1_000 : null,
    prediction: null,
    decision: 'in post-copy: it goes on at its destination, what is missing there follows',
  };
}
