/**
 * Which look at a guest to take next: before a migration starts, within a few seconds in all, and now and then while it
 * runs. What is looked for is the rate, seen in looks that end before the guest comes round, and the working set, seen in
 * looks that last longer than that. How a look is taken is the hypervisor's business. Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';

/** A look as it came back: its real length (ms), what was dirtied in it, and the standard error of that (bytes). */
export interface TakenLook {
  readonly windowMs: number;
  readonly bytes: number;
  readonly errorBytes: number;
}

/** The shortest that QEMU takes: MIN_CALC_TIME_MS in migration/dirtyrate.h. */
const SHORTEST_MS = 50;
/** What a look takes beside its window. */
const OVERHEAD_MS = 50;
const LADDER_MS = [50, 100, 250, 500] as const;
/** A look that is off by more (standard error over value) is too short to tell anything: the next ones are left out. */
const TELLS_LITTLE = 0.25;
/** Asked for 50 ms, a hypervisor that counts in whole seconds comes back with 1000. */
const WHOLE_SECONDS_FROM_MS = 900;
const TWO_SECONDS_MS = 2_000;
/** Once the working set has been seen: so many more looks at the rate, if there is time. */
const RATE_LOOKS = 4;

/**
 * The next window (ms) before a start; null: that was all. `taken` in order, `spentMs` since the first began, what lies
 * between looks included. A window of 50, 100, 250, 500 ms in turn as long as the guest goes on to new memory, then one
 * that takes all the time left; once it has come round, some more looks of three quarters of a round. Where a first look
 * shows next to nothing, the middle ones are left out. On a hypervisor that counts whole seconds one of 1 s and one of 2 s,
 * whose overhead comes on top of the budget.
 */
export function nextWindowMs(taken: readonly TakenLook[], spentMs: number, budgetMs: number): number | null {
  const first = taken[0];
  if (first !== undefined && first.windowMs >= WHOLE_SECONDS_FROM_MS) return nextWholeSeconds(taken, budgetMs);
  const roomMs = Math.floor(budgetMs - spentMs - OVERHEAD_MS);
  if (!(roomMs >= SHORTEST_MS)) return null;
  const wantedMs = wantedWindowMs(taken);
  return wantedMs === null ? null : Math.min(roomMs, wantedMs);
}

function nextWholeSeconds(taken: readonly TakenLook[], budgetMs: number): number | null {
  const lookedMs = taken.reduce((sum, { windowMs }) => sum + windowMs, 0);
  return taken.length === 1 && lookedMs + TWO_SECONDS_MS <= budgetMs + OVERHEAD_MS ? TWO_SECONDS_MS : null;
}

/** null: enough. Infinity: as long as there is time. */
function wantedWindowMs(taken: readonly TakenLook[]): number | null {
  const longestMs = taken.reduce((most, { windowMs }) => Math.max(most, windowMs), 0);
  const roundMs = roundOf(taken);
  if (roundMs === null) {
    const last = taken.at(-1);
    const rungs = last !== undefined && tellsLittle(last) ? LADDER_MS.slice(-1) : LADDER_MS;
    const next = rungs.find((rungMs) => rungMs > longestMs * 1.2);
    if (next !== undefined) return next;
    return longestMs > LADDER_MS[3] * 1.2 ? null : Number.POSITIVE_INFINITY;
  }
  // Twice round at least: a guest that writes at random comes to the last pages late.
  if (longestMs < roundMs * 2) return Math.ceil(roundMs * 2.5);
  const rateMs = Math.max(SHORTEST_MS, Math.round(roundMs * 0.75));
  const rateLooks = taken.filter(({ windowMs }) => windowMs <= roundMs * 0.9).length;
  // Its rate shows in no look: only that it is at least so fast.
  if (roundMs < SHORTEST_MS * 1.2) return longestMs < LADDER_MS[3] ? LADDER_MS[3] : null;
  return rateLooks < RATE_LOOKS ? rateMs : null;
}

function tellsLittle({ bytes, errorBytes }: TakenLook): boolean {
  return !(bytes * TELLS_LITTLE > errorBytes);
}

/** How long the guest takes for its working set, as far as the looks show that it has come round; else null. */
function roundOf(taken: readonly TakenLook[]): number | null {
  const telling = taken.filter((look) => !tellsLittle(look));
  const longest = telling.reduce<TakenLook | null>((a, b) => (a === null || b.windowMs > a.windowMs ? b : a), null);
  if (longest === null) return null;
  const fastest = telling.reduce((most, { bytes, windowMs }) => Math.max(most, bytes / windowMs), 0);
  const roundMs = longest.bytes / fastest;
  // A guest that has not come round writes as much in each ms of a long look as of a short one.
  return roundMs < longest.windowMs * 0.6 ? roundMs : null;
}

/** Time between looks while a migration runs, and after one that was unlike those before. */
const LOOK_EVERY_MS = 2_500;
const SURPRISED_EVERY_MS = 1_000;
const SURPRISE = 1.6;
const LONGEST_RUNNING_MS = 2_000;
/** Older looks say little of how fast it is now. */
const RECENT_MS = 30_000;
/** So much must be dirtied to be counted well by page sampling (one page in 16 of 4 KiB: some 200 hits). */
const TELLING_BYTES = 12 * 2 ** 20;
const LEAST_SHARE = 0.05;

/**
 * The next look (wall time, ms) at a guest that is being migrated; null: not yet. About every 2.5 s, sooner after a
 * surprise. It lasts until a telling amount has been dirtied, but not until the guest comes round, so that it shows the
 * rate: the passes show the working set. A guest held to a share (0..1) dirties in proportion, so looks get longer.
 */
export function nextLookWhileRunning(evidence: readonly DirtyWindow[], share: number, nowMs: number): number | null {
  const live = evidence.filter(({ source, atMs }) => source !== 'history' && atMs >= nowMs - RECENT_MS);
  const sampled = live.filter(({ source }) => source === 'sampling');
  const lastAtMs = sampled.reduce((last, { atMs }) => Math.max(last, atMs), Number.NEGATIVE_INFINITY);
  if (nowMs - lastAtMs < (surprising(live) ? SURPRISED_EVERY_MS : LOOK_EVERY_MS)) return null;
  const { bytesPerMs, setBytes } = seen(live);
  const roundMs = bytesPerMs > 0 ? setBytes / bytesPerMs : Number.POSITIVE_INFINITY;
  const tellingMs = bytesPerMs > 0 ? TELLING_BYTES / bytesPerMs : Number.POSITIVE_INFINITY;
  const cpuMs = Math.min(tellingMs, roundMs * 0.7);
  const wallMs = cpuMs / Math.max(LEAST_SHARE, Math.min(1, share));
  return Math.round(Math.max(SHORTEST_MS, Math.min(LONGEST_RUNNING_MS, wallMs)));
}

/** The fastest look and the largest: a guest is at least so fast, and its working set at least so large. */
function seen(looks: readonly DirtyWindow[]): { bytesPerMs: number; setBytes: number } {
  return {
    bytesPerMs: looks.reduce((most, { bytes, cpuMs }) => (cpuMs > 0 ? Math.max(most, bytes / cpuMs) : most), 0),
    setBytes: looks.reduce((most, { bytes }) => Math.max(most, bytes), 0),
  };
}

/** The last look is unlike what those before it let expect. */
function surprising(looks: readonly DirtyWindow[]): boolean {
  const last = looks.reduce<DirtyWindow | null>((a, b) => (a === null || b.atMs >= a.atMs ? b : a), null);
  const before = looks.filter((look) => look !== last);
  if (last === null || before.length === 0) return false;
  const { bytesPerMs, setBytes } = seen(before);
  const expected = Math.min(setBytes, bytesPerMs * last.cpuMs);
  const margin = 2 * last.errorBytes;
  return last.bytes > expected * SURPRISE + margin || last.bytes + margin < expected / SURPRISE;
}
