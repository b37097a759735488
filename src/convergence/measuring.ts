/**
 * Which look at a guest to take next: before a migration starts, within a few seconds in all, and now and then while it
 * runs. What is looked for is the rate, seen in looks that end before the guest comes round, and the working set, seen in
 * looks that last longer than that. How a look is taken is the hypervisor's business. Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';
import { isSound } from './evidence.ts';

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
/** A first look that is off by more (standard error over value): the next rung would tell little as well. */
const TELLS_LITTLE = 0.25;
/** QEMU tells whole MiB/s: of a slower guest two looks of different length are worth more than one. */
const SLOW_BYTES_PER_MS = (8 * 2 ** 20) / 1_000;
const SLOW_PART = 0.7;
/** Asked for 50 ms, a hypervisor that counts in whole seconds comes back with 1000. */
const WHOLE_SECONDS_FROM_MS = 900;
const TWO_SECONDS_MS = 2_000;
/** A guest that writes in a long look so much less a ms than in the short ones has come round. */
const COME_ROUND = 0.65;
/** In rounds: looks up to here show the rate, looks from there on the working set. */
const SHOWS_RATE = 0.9;
const SHOWS_SET = 2;
/** Standard error over value. Better than the guest keeps to its own rate is of no use. */
const EXACT = 0.03;
/**
 * A guest that dirties no more than this part of what can be sent meanwhile adds no more than that to its migration: the link
 * would idle for longer than an exact figure is worth. No fewer looks are believed, together no shorter.
 */
const NEXT_TO_NOTHING = 0.05;
const BELIEVED_LOOKS = 2;
const BELIEVED_MS = 300;
const LOOKS_LIMIT = 12;

/**
 * The next window (ms) before a start; null: that was all. `taken` in order, `spentMs` since the first began, what lies
 * between looks included. 50, 100, 250, 500 ms in turn as long as the guest goes on to new memory, then all the time left;
 * once it has come round, more looks within a round or beyond two rounds, whichever of rate and working set is known worse,
 * until both are exact. On a hypervisor that counts whole seconds one look of 1 s and one of 2 s, whose overhead comes on
 * top of the budget. Sooner for a guest that hardly writes, beside the `pathBytesPerSec` that can be sent (0: not known).
 */
export function nextWindowMs(
  taken: readonly TakenLook[],
  spentMs: number,
  budgetMs: number,
  pathBytesPerSec = 0,
): number | null {
  const [first] = taken;
  if (isNextToNothing(taken, pathBytesPerSec)) return null;
  if (first !== undefined && first.windowMs >= WHOLE_SECONDS_FROM_MS) return nextWholeSeconds(taken, budgetMs);
  const roomMs = Math.floor(budgetMs - spentMs - OVERHEAD_MS);
  if (!(roomMs >= SHORTEST_MS) || taken.length >= LOOKS_LIMIT) return null;
  const roundMs = roundOf(taken);
  const wantedMs = roundMs === null ? climbing(taken, roomMs) : sharpening(taken, roundMs);
  return wantedMs === null ? null : Math.round(Math.max(SHORTEST_MS, Math.min(roomMs, wantedMs)));
}

function isNextToNothing(taken: readonly TakenLook[], pathBytesPerSec: number): boolean {
  const ms = taken.reduce((sum, { windowMs }) => sum + windowMs, 0);
  if (taken.length < BELIEVED_LOOKS || ms < BELIEVED_MS) return false;
  const most = taken.reduce((sum, { bytes, errorBytes }) => sum + bytes + 2 * errorBytes, 0);
  return (most * 1_000) / ms <= NEXT_TO_NOTHING * pathBytesPerSec;
}

function nextWholeSeconds(taken: readonly TakenLook[], budgetMs: number): number | null {
  const lookedMs = taken.reduce((sum, { windowMs }) => sum + windowMs, 0);
  return taken.length === 1 && lookedMs + TWO_SECONDS_MS <= budgetMs + OVERHEAD_MS ? TWO_SECONDS_MS : null;
}

/** As long as it has not come round. */
function climbing(taken: readonly TakenLook[], roomMs: number): number {
  const longestMs = taken.reduce((most, { windowMs }) => Math.max(most, windowMs), 0);
  const [first] = taken;
  const little = first !== undefined && exactness([first]) > TELLS_LITTLE;
  const next = LADDER_MS.find((rungMs) => rungMs > longestMs * (little ? 3 : 1.2));
  if (next !== undefined) return next;
  const slow = rateOf(taken) < SLOW_BYTES_PER_MS;
  return slow && longestMs <= LADDER_MS[3] * 1.2 ? roomMs * SLOW_PART : roomMs;
}

/** null: exact enough. */
function sharpening(taken: readonly TakenLook[], roundMs: number): number | null {
  const setMs = Math.max(roundMs * (SHOWS_SET + 0.5), 2 * SHORTEST_MS);
  const setError = exactness(taken.filter(({ windowMs }) => windowMs >= roundMs * SHOWS_SET));
  // It comes round within the shortest look: only that its rate is at least so high can be seen.
  const rateShows = roundMs * SHOWS_RATE > SHORTEST_MS;
  const rateError = rateShows ? exactness(taken.filter(({ windowMs }) => windowMs <= roundMs * SHOWS_RATE)) : 0;
  if (Math.max(setError, rateError) <= EXACT) return null;
  return setError >= rateError ? setMs : roundMs * 0.75;
}

/** Standard error over value of looks at one and the same figure, taken together. Infinity: they tell nothing. */
function exactness(looks: readonly TakenLook[]): number {
  const precision = looks.reduce((sum, { bytes, errorBytes }) => sum + (bytes / Math.max(1, errorBytes)) ** 2, 0);
  return precision > 0 ? 1 / Math.sqrt(precision) : Number.POSITIVE_INFINITY;
}

/** Bytes per ms of looks taken together. */
function rateOf(looks: readonly TakenLook[]): number {
  const ms = looks.reduce((sum, { windowMs }) => sum + windowMs, 0);
  return ms > 0 ? looks.reduce((sum, { bytes }) => sum + bytes, 0) / ms : 0;
}

/** How long the guest takes for its working set, as far as the looks show that it has come round; else null. */
function roundOf(taken: readonly TakenLook[]): number | null {
  const byLength = [...taken].sort((a, b) => a.windowMs - b.windowMs);
  const longest = byLength.at(-1);
  if (longest === undefined) return null;
  // The fastest of the shortest, the shortest two, ... : the more of them, the less chance, as long as none has come round.
  const shorter = byLength.filter(({ windowMs }) => windowMs * 1.8 <= longest.windowMs);
  const rates = shorter.map((_, index) => sure(shorter.slice(0, index + 1)));
  const fastest = rates.reduce((most, rate) => Math.max(most, rate), 0);
  const ownRate = (longest.bytes + longest.errorBytes) / longest.windowMs;
  if (!(ownRate < fastest * COME_ROUND)) return null;
  const mean = shorter.reduce((most, _, index) => Math.max(most, rateOf(shorter.slice(0, index + 1))), 0);
  // Looks that cannot be (a window of 0 ms, a negative error) come to no rate at all.
  return mean > 0 ? longest.bytes / mean : null;
}

/** What they show at least: the rate less its standard error. */
function sure(looks: readonly TakenLook[]): number {
  return rateOf(looks) * Math.max(0, 1 - exactness(looks));
}

/** Time between looks while a migration runs, and after one that was unlike those before. */
const LOOK_EVERY_MS = 2_500;
const SURPRISED_EVERY_MS = 300;
/** A guest that is held back and needs it no more is to have its CPU back within two seconds: two looks must agree by then. */
const THROTTLED_EVERY_MS = 200;
const LONGEST_THROTTLED_MS = 500;
const SURPRISE = 1.6;
/** So few that, after a change, the looks before it are soon forgotten. */
const COMPARED_LOOKS = 4;
const LONGEST_RUNNING_MS = 2_000;
/** Older looks say little of how fast it is now. */
const RECENT_MS = 30_000;
/** So much must be dirtied to be counted well by page sampling (one page in 16 of 4 KiB: some 200 hits). */
const TELLING_BYTES = 12 * 2 ** 20;
const LEAST_SHARE = 0.05;

/**
 * The next look (wall time, ms) at a guest that is being migrated; null: not yet. About every 2.5 s, sooner after a
 * surprise. It lasts until a telling amount has been dirtied, but not until the guest comes round, so that it shows the
 * rate: the passes show the working set. A guest held to a share (0..1) dirties in proportion, so looks get longer, and as it
 * pays for every moment, one follows the other.
 */
export function nextLookWhileRunning(evidence: readonly DirtyWindow[], share: number, nowMs: number): number | null {
  const live = recent(evidence, nowMs);
  const throttled = share < 1;
  const everyMs = throttled ? THROTTLED_EVERY_MS : surprising(live) ? SURPRISED_EVERY_MS : LOOK_EVERY_MS;
  if (nowMs - lastSampledAtMs(live) < everyMs) return null;
  return tellingMs(live, share, throttled ? LONGEST_THROTTLED_MS : LONGEST_RUNNING_MS);
}

/** Time between looks at a guest that waits for its turn. */
const WAITING_EVERY_MS = 2_000;
const LONGEST_WAITING_MS = 1_000;
/** After a surprise they differ in length: the short ones show the new rate, the long ones the new working set. */
const SURPRISED_TIMES = [1, 3, 9] as const;

/**
 * The next look (ms) at a guest that waits for its turn; null: not yet. Every two seconds, sooner after a surprise: so that it
 * is known whether it keeps to its ways, and the new ones where it does not. `turn`: how many such looks have been taken.
 */
export function nextLookWhileWaiting(evidence: readonly DirtyWindow[], nowMs: number, turn: number): number | null {
  const live = recent(evidence, nowMs);
  const surprised = surprising(live);
  if (nowMs - lastSampledAtMs(live) < (surprised ? SURPRISED_EVERY_MS : WAITING_EVERY_MS)) return null;
  const times = surprised ? (SURPRISED_TIMES[turn % SURPRISED_TIMES.length] ?? 1) : 1;
  return Math.min(LONGEST_RUNNING_MS, times * tellingMs(live, 1, LONGEST_WAITING_MS));
}

const LONGEST_AT_START_MS = 500;

/** A look (ms) just before the start, one of several in a row, whose lengths differ as after a surprise. */
export function nextLookAtStart(evidence: readonly DirtyWindow[], nowMs: number): number {
  const live = recent(evidence, nowMs);
  const times = SURPRISED_TIMES[live.length % SURPRISED_TIMES.length] ?? 1;
  return Math.min(LONGEST_AT_START_MS, times * tellingMs(live, 1, LONGEST_AT_START_MS));
}

/** True: the last look is unlike those before, so that it takes another one to believe it. */
export function isSurprised(evidence: readonly DirtyWindow[], nowMs: number): boolean {
  return surprising(recent(evidence, nowMs));
}

function recent(evidence: readonly DirtyWindow[], nowMs: number): DirtyWindow[] {
  return evidence.filter(
    (window) => window.source !== 'history' && isSound(window) && window.atMs >= nowMs - RECENT_MS,
  );
}

function lastSampledAtMs(live: readonly DirtyWindow[]): number {
  const sampled = live.filter(({ source }) => source === 'sampling');
  return sampled.reduce((last, { atMs }) => Math.max(last, atMs), Number.NEGATIVE_INFINITY);
}

/** Until a telling amount has been dirtied at this share, at most `longestMs`. */
function tellingMs(live: readonly DirtyWindow[], share: number, longestMs: number): number {
  const bytesPerMs = live.reduce((most, { bytes, cpuMs }) => Math.max(most, bytes / cpuMs), 0);
  const setBytes = live.reduce((most, { bytes }) => Math.max(most, bytes), 0);
  const comesRound = live.some(({ bytes, cpuMs }) => bytes / cpuMs < bytesPerMs * COME_ROUND);
  const roundMs = comesRound ? setBytes / bytesPerMs : Number.POSITIVE_INFINITY;
  const enoughMs = bytesPerMs > 0 ? TELLING_BYTES / bytesPerMs : Number.POSITIVE_INFINITY;
  const wallMs = Math.min(enoughMs, roundMs * 0.7) / Math.max(LEAST_SHARE, Math.min(1, share));
  return Math.round(Math.max(SHORTEST_MS, Math.min(longestMs, wallMs)));
}

/**
 * The last look is unlike what the few before it let expect. Dirtying slows down with time and never goes back: a longer
 * look shows at least as much as a shorter one, and at most so much more as it is longer.
 */
function surprising(looks: readonly DirtyWindow[]): boolean {
  const byTime = [...looks].sort((a, b) => a.atMs - b.atMs);
  const last = byTime.at(-1);
  const before = byTime.slice(-1 - COMPARED_LOOKS, -1);
  if (last === undefined || before.length === 0) return false;
  const least = Math.max(...before.map(({ bytes, cpuMs }) => bytes * Math.min(1, last.cpuMs / cpuMs)));
  const most = Math.min(...before.map(({ bytes, cpuMs }) => bytes * Math.max(1, last.cpuMs / cpuMs)));
  const margin = 2 * last.errorBytes;
  return last.bytes > most * SURPRISE + margin || last.bytes + margin < least / SURPRISE;
}
