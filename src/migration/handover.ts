/**
 * Handing a link from one migration to the next without a gap (decision 0034): one that is about to end steps back a little,
 * the next one connects with that little and waits for the rest before anything is decided about its guest.
 */
import { HEAD_START_BYTES_PER_SEC } from '../bandwidth/allocate.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';

/** The next one takes some 0.2 s to connect, more on a busy machine. */
export const HEAD_START_REAL_MS = 500;
/** From here on it is about to end. */
const SOON_REAL_MS = 600;
/** One that was thought to end soon is not any more. */
const NOT_SOON_REAL_MS = 2_000;
/** A head start that comes to nothing is given up. */
const PATIENCE_REAL_MS = 5_000;
/** On a path that carries less than so many times what a head start takes, stepping back for one costs more than it gains. */
const WORTH_TIMES = 32;

/** What a migration knows of it, of itself. */
export interface Handover {
  /** Expected to end within moments. */
  readonly endsSoon: boolean;
  /** What it keeps to while the next one begins beside it, bytes/s; null: no limit of that kind. */
  readonly stepsBackTo: number | null;
  /** It has begun with less than it needs. */
  readonly hasHeadStart: boolean;
  /** False: it had one that came to nothing. */
  readonly mayHaveOne: boolean;
}

export const NO_HANDOVER: Handover = { endsSoon: false, stepsBackTo: null, hasHeadStart: false, mayHaveOne: true };

/** Rebalances have time, and are to stand in nobody's way. */
export function headStartOf(ctx: MigrationContext, pathBytesPerSec: number, isSent: boolean): boolean {
  if (isSent) return ctx.handover.hasHeadStart;
  const may = ctx.isPrepared && ctx.handover.mayHaveOne && ctx.tier === 'evacuation' && canBeSlow(ctx);
  return may && ctx.foreseen?.headStartPays === true && isWorth(pathBytesPerSec);
}

/**
 * Whether it steps back for the next one, from what it has been granted: while it ends (until it clearly does not) and
 * somebody stands by. True: it asks for something else from now on.
 */
export function stepBack(
  ctx: MigrationContext,
  etaMs: number | null,
  grant: { readonly bytesPerSec: number; readonly isAwaited: boolean },
): boolean {
  const { clock } = ctx.deps;
  const before = ctx.handover;
  const endsSoon = etaMs !== null && etaMs <= clock.fleetMs(before.endsSoon ? NOT_SOON_REAL_MS : SOON_REAL_MS);
  const steps = endsSoon && (before.stepsBackTo !== null || (grant.isAwaited && isWorth(grant.bytesPerSec)));
  const stepsBackTo = steps ? (before.stepsBackTo ?? grant.bytesPerSec - HEAD_START_BYTES_PER_SEC) : null;
  ctx.handover = { ...before, endsSoon, stepsBackTo };
  return stepsBackTo !== before.stepsBackTo;
}

/** libvirt's smallest limit is more than a head start. */
function canBeSlow(ctx: MigrationContext): boolean {
  return ctx.sourceHypervisor.bandwidthStepBytesPerSec <= HEAD_START_BYTES_PER_SEC;
}

function isWorth(bytesPerSec: number): boolean {
  return bytesPerSec >= WORTH_TIMES * HEAD_START_BYTES_PER_SEC;
}

/** When to look next so as not to miss the moment at which the next one could begin; null: not near. */
export function lookBeforeEndMs(ctx: MigrationContext, etaMs: number | null): number | null {
  const beforeMs = (etaMs ?? 0) - ctx.deps.clock.fleetMs(HEAD_START_REAL_MS);
  return beforeMs > 0 ? beforeMs : null;
}

/** The head start of one attempt, if it has one. */
export class HeadStart {
  readonly #ctx: MigrationContext;
  /** Real monotonic time. */
  #sinceMs: number | null = null;

  constructor(ctx: MigrationContext) {
    this.#ctx = ctx;
  }

  /**
   * Waits for the rest. Not undefined: those before it do not end after all, so it waits for its turn again. `inDoubt`: nobody
   * is given anything now, whatever ends.
   */
  async wait(inDoubt: boolean): Promise<StepOutcome | undefined> {
    const ctx = this.#ctx;
    const now = ctx.deps.clock.monotonic();
    if (this.#sinceMs === null || inDoubt) this.#sinceMs = now;
    ctx.handover = { ...ctx.handover, hasHeadStart: true };
    if (now - this.#sinceMs >= PATIENCE_REAL_MS) {
      ctx.handover = { ...ctx.handover, mayHaveOne: false };
      const message = `${ctx.record.vm}: what it was to follow did not end; it waits for its turn again`;
      return { cause: 'requeue', reason: because('internal', message) };
    }
    await ctx.idleOrChange();
    return undefined;
  }

  /** It has what it needs, or has ended: its max time begins here. Also where another look of this attempt began the wait. */
  async end(): Promise<void> {
    const ctx = this.#ctx;
    if (!ctx.handover.hasHeadStart) return;
    this.#sinceMs = null;
    ctx.handover = { ...ctx.handover, hasHeadStart: false };
    await ctx.save({ headStartMs: Math.max(0, ctx.now() - (ctx.record.startedAtMs ?? ctx.now())) });
  }
}
