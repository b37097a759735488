/**
 * Looking at how a guest dirties memory: before the start, for the prediction, and beside the loop while it is migrated. A
 * look costs the guest next to nothing and never fails a migration; where a hypervisor cannot tell, the passes have to do.
 */
import { OVER } from '../clock/clock.ts';
import { compactEvidence } from '../convergence/history.ts';
import { isSurprised, nextLookAtStart, nextLookWhileWaiting, nextWindowMs } from '../convergence/measuring.ts';
import { HostevacError } from '../domain/errors.ts';
import type { DirtyWindow } from '../domain/prediction.ts';
import type { DirtyingMeasured } from '../hypervisors/hypervisor.ts';
import type { GuestCpu } from '../throttling/throttle.ts';
import type { MigrationContext, MigrationDeps } from './context.ts';
import { mostOnPath } from './demand.ts';

/** Before the start, all looks together (fleet ms). */
const BUDGET_MS = 3_000;
/** While it waits for its turn, all of it is looked at again after this; in a fast simulation rather real time counts. */
const STALE_MS = 60_000;
const STALE_REAL_MS = 10_000;
/**
 * Of all guests of a host that wait together, two are looked at in a second (real time): a look is some 10 to 60 ms of a
 * core of that host (hypervisors/qemu/dirty-rate.ts).
 */
const BESIDE_REAL_MS = 500;

/** A look that gives nothing is tried again after so long (fleet ms), and so often. */
const NOTHING_MS = 250;
const MOST_NOTHINGS = 4;

/** While it looks the lease is looked at this often, real ms. */
const KEEP_EVERY_MS = 500;

/** How many are waited with in this process, by host. */
const waiting = new WeakMap<MigrationDeps, Map<string, number>>();

function count(deps: MigrationDeps, host: string, change: number): number {
  const counts = waiting.get(deps) ?? new Map<string, number>();
  waiting.set(deps, counts);
  const now = (counts.get(host) ?? 0) + change;
  counts.set(host, now);
  return now;
}

/** Looks at a guest whose turn may come: all of it now if too little is known to predict from, else now and then. */
export class LooksWhileWaiting {
  readonly #ctx: MigrationContext;
  readonly #beside: LooksBeside;
  /** When all of it was looked at last. */
  #lookedAtMs: number | null;
  /** Looks beside, and when the last one began (real ms): also of those that told nothing. */
  #turn = 0;
  #beganMs = Number.NEGATIVE_INFINITY;

  constructor(ctx: MigrationContext) {
    this.#ctx = ctx;
    this.#beside = new LooksBeside(ctx, { mayBeThrottled: false });
    this.#lookedAtMs = ctx.record.evidence.findLast(({ source }) => source === 'sampling')?.atMs ?? null;
    count(ctx.deps, ctx.record.source, 1);
  }

  /** Afterwards enough is known, or nobody can tell more. Throws as `lookBeforeStart` does. */
  async know(): Promise<void> {
    const ctx = this.#ctx;
    const seen = this.#beside.take();
    if (seen.length > 0) await remember(ctx, seen);
    if (this.#isStale()) {
      await lookBeforeStart(ctx);
      this.#lookedAtMs = ctx.now();
      return;
    }
    const nowMs = ctx.deps.clock.monotonic();
    if (nowMs - this.#beganMs < count(ctx.deps, ctx.record.source, 0) * BESIDE_REAL_MS) return;
    if (!this.#beside.begin(nextLookWhileWaiting(ctx.record.evidence, ctx.now(), this.#turn))) return;
    this.#turn += 1;
    this.#beganMs = nowMs;
  }

  #isStale(): boolean {
    const { deps } = this.#ctx;
    if (this.#lookedAtMs === null) return true;
    const staleMs = Math.max(STALE_MS, deps.clock.fleetMs(STALE_REAL_MS));
    return this.#ctx.now() - this.#lookedAtMs > staleMs;
  }

  stop(): void {
    this.#beside.stop();
    count(this.#ctx.deps, this.#ctx.record.source, -1);
  }
}

const AT_START_EVERY_REAL_MS = 50;
/** One look that is unlike those before may have gone wrong: so many more are waited for, no longer than this (real ms). */
const BELIEVED_AFTER = 2;
const DOUBT_REAL_MS = 1_500;

/**
 * Looks again and again until `work` is done: what is known of a guest may be some seconds old when its turn has come. After
 * a look that is unlike those before also beyond that, until it is clear which are right.
 */
export async function lookMeanwhile<T>(ctx: MigrationContext, work: Promise<T>): Promise<T> {
  const beside = new LooksBeside(ctx, { mayBeThrottled: false });
  const over = new AbortController();
  const seen: DirtyWindow[] = [];
  const look = async (): Promise<void> => {
    beside.begin(nextLookAtStart([...ctx.record.evidence, ...seen], ctx.now()));
    await ctx.deps.clock.sleepReal(AT_START_EVERY_REAL_MS, over.signal);
    seen.push(...beside.take());
  };
  const { clock } = ctx.deps;
  const beganMs = clock.monotonic();
  const inDoubt = (): boolean =>
    seen.length < BELIEVED_AFTER &&
    clock.monotonic() - beganMs < DOUBT_REAL_MS &&
    isSurprised([...ctx.record.evidence, ...seen], ctx.now());
  let working = true;
  const done = work.finally(() => {
    working = false;
  });
  const looking = async (): Promise<void> => {
    while (!over.signal.aborted && (working || inDoubt())) {
      // Whoever works keeps the lease himself, and is not left alone with it.
      if (!working) await ctx.check();
      await look();
    }
  };
  const looked = looking();
  // Told when the work is done, not before.
  looked.catch(() => undefined);
  try {
    const result = await done;
    await looked;
    if (seen.length > 0) await remember(ctx, seen);
    return result;
  } finally {
    over.abort(OVER);
    beside.stop();
  }
}

async function remember(ctx: MigrationContext, windows: readonly DirtyWindow[]): Promise<void> {
  const evidence = [...ctx.record.evidence, ...windows];
  await ctx.save({ evidence: compactEvidence(evidence, ctx.now(), { keepOtherwise: true }) });
}

/**
 * Looks at a guest that nobody throttles. Afterwards the record has what was seen, and the throttle knows how much CPU the
 * guest demands from as long a stretch. Throws as `check` does, at once, when the lease is lost or this process stops.
 */
async function lookBeforeStart(ctx: MigrationContext): Promise<void> {
  const windows = await whileHeld(ctx, (signal) => looksOf(ctx, signal));
  if (windows.length > 0) await remember(ctx, windows);
}

/** Where its CPU time cannot be told it cannot be throttled either: whether it may go on like that is for the policy to say. */
function notHere(error: unknown): void {
  if (!(error instanceof HostevacError) || error.code !== 'throttleUnavailable') throw error;
}

async function looksOf(ctx: MigrationContext, signal: AbortSignal): Promise<DirtyWindow[]> {
  const { source, vm } = ctx.record;
  const began = ctx.now();
  const path = await mostOnPath(ctx);
  const throttle = ctx.deps.throttleOf(source);
  // Counts from here on, beside the looks; it answers when there is a little to tell.
  const counting = throttle.guestCpu({ host: source, vm }).catch(notHere);
  counting.catch(() => undefined);
  const taken: DirtyingMeasured[] = [];
  const windows: DirtyWindow[] = [];
  let nothing = 0;
  while (!signal.aborted) {
    const windowMs = nextWindowMs(taken, ctx.now() - began, BUDGET_MS, path);
    if (windowMs === null) break;
    const measured = await ctx.sourceHypervisor.measureDirtying(source, vm, windowMs, signal, ctx.lease);
    if (measured === null) {
      // Somebody else may be looking at it; that passes.
      nothing += 1;
      if (nothing >= MOST_NOTHINGS) break;
      await ctx.deps.clock.sleep(NOTHING_MS, signal);
      continue;
    }
    taken.push(measured);
    windows.push({ atMs: ctx.now(), cpuMs: measured.windowMs, ...bytesOf(measured), source: 'sampling' });
  }
  await counting;
  if (!signal.aborted) await throttle.guestCpu({ host: source, vm }).catch(notHere);
  return windows;
}

/**
 * Work that only looks, and may therefore be left to itself: when the lease is lost, or this process stops, its signal
 * aborts and this throws as `check` does, without waiting for the work's end. A successor waits for the release of a lost
 * lease for two seconds only (predecessors.ts), and a look may take longer. What comes of the work then is nobody's.
 */
async function whileHeld<T>(ctx: MigrationContext, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const over = new AbortController();
  const signal = AbortSignal.any([ctx.signal, over.signal]);
  const watch = async (): Promise<void> => {
    while (!over.signal.aborted) {
      await ctx.check();
      await ctx.deps.clock.sleepReal(KEEP_EVERY_MS, signal);
    }
  };
  const working = work(signal);
  try {
    return await Promise.race([working, watch().then(() => working)]);
  } finally {
    over.abort(OVER);
  }
}

function bytesOf({ bytes, errorBytes }: DirtyingMeasured): Pick<DirtyWindow, 'bytes' | 'errorBytes'> {
  return { bytes, errorBytes };
}

/** Looks beside a loop, one at a time; the loop never waits for one. */
export class LooksBeside {
  readonly #ctx: MigrationContext;
  readonly #mayBeThrottled: boolean;
  readonly #over = new AbortController();
  #seen: DirtyWindow[] = [];
  #underWay = false;
  #fault: unknown = null;

  /** One that nobody throttles gets what it wants, however little that has become. */
  constructor(ctx: MigrationContext, { mayBeThrottled }: { readonly mayBeThrottled: boolean }) {
    this.#ctx = ctx;
    this.#mayBeThrottled = mayBeThrottled;
  }

  /** What has been seen since this was asked last. Throws what went wrong with a look that no host is to blame for. */
  take(): readonly DirtyWindow[] {
    if (this.#fault !== null) throw this.#fault;
    const seen = this.#seen;
    this.#seen = [];
    return seen;
  }

  /** Begins another look, unless one is under way; true: it has. null: it is not time for one. */
  begin(windowMs: number | null): boolean {
    if (windowMs === null || this.#underWay || this.#over.signal.aborted) return false;
    this.#underWay = true;
    void this.#look(windowMs).finally(() => {
      this.#underWay = false;
    });
    return true;
  }

  async #look(windowMs: number): Promise<void> {
    const { source, vm } = this.#ctx.record;
    const signal = AbortSignal.any([this.#ctx.signal, this.#over.signal]);
    try {
      const throttle = this.#ctx.deps.throttleOf(source);
      const before = await throttle.guestCpu({ host: source, vm });
      if (signal.aborted) return;
      const { lease, sourceHypervisor } = this.#ctx;
      const measured = await sourceHypervisor.measureDirtying(source, vm, windowMs, signal, lease);
      if (measured === null || signal.aborted) return;
      const after = await throttle.guestCpu({ host: source, vm });
      if (signal.aborted) return;
      const cpuMs = measured.windowMs * (this.#mayBeThrottled ? gotShare(before, after) : 1);
      this.#seen.push({ atMs: this.#ctx.now(), cpuMs, ...bytesOf(measured), source: 'sampling' });
    } catch (error) {
      // The loop asks the same host every tick and says what is wrong with it; without this look it knows a little less.
      if (!signal.aborted && !(error instanceof HostevacError)) this.#fault = error;
    }
  }

  /** No more looks. One that is under way is not waited for: it ends by itself, and what comes of it is left out. */
  stop(): void {
    this.#over.abort(OVER);
  }
}

/** CPU that a guest got between two moments as a share of what it demands, 0..1. */
function gotShare(before: GuestCpu, after: GuestCpu): number {
  const wantedMs = after.demandCores * (after.atMs - before.atMs);
  return wantedMs > 0 ? Math.min(1, (after.gotCpuMs - before.gotCpuMs) / wantedMs) : 1;
}
