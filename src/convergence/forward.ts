/**
 * One migration played forward for one hypothesis of its guest and one plan of throttling: pass by pass, as QEMU does it
 * (see src/hypervisors/simulated/passes.ts, whose arithmetic is held against real QEMU). What several hypotheses say
 * together is `predict.ts`. Pure.
 *
 * A pass ends after the first whole burst after which what is left of it would fit the downtime limit; what was dirtied
 * meanwhile and does not wait anyway is added, and that is the next pass, or the switchover where it fits. So a step of
 * this game is a pass, whatever its length.
 */
import type { GuestFacts, Hypothesis } from './dirty-model.ts';
import { dirtiedBytes } from './dirtying.ts';
import { usualHandoverMs } from './downtime.ts';

/** When the guest is slowed, and how much. `nextPass`: it runs free until the pass that is being sent has ended. */
export interface ThrottlePlan {
  readonly share: number;
  readonly begins: 'now' | 'nextPass';
  /** With `nextPass`: so long before the pass that is being sent ends, so that it is in force when the next one begins. */
  readonly leadMs?: number;
  /** With `now`: so much later, for nothing is done at once. */
  readonly lateMs?: number;
}

/** Where a migration stands. Before its start: pass 0, nothing sent. */
export interface Standing {
  readonly pass: number;
  /** Of this pass, still to be sent. In the first pass zero pages (which cost nothing) are not counted. */
  readonly leftBytes: number;
  /** CPU time (share x time, ms) that the guest has got since this pass began. */
  readonly cpuMsInPass: number;
  readonly passElapsedMs: number;
  /** What is sent with, bytes/s; what is granted or seen, whichever is less. */
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
  readonly guest: GuestFacts;
}

/** From now to its end. */
export interface Outcome {
  /** False: not within `limitMs`; the other figures are those at the limit. */
  readonly ends: boolean;
  readonly totalMs: number;
  readonly downtimeMs: number;
  readonly transferredBytes: number;
  readonly harmCpuMs: number;
  /** Over all of it, the downtime as a share of 0. */
  readonly meanShare: number;
}

/** QEMU's BUFFER_DELAY (migration/migration.c): what so much time may carry it sends at once, and then looks how it stands. */
const BURST_MS = 100;
const PAGE_BYTES = 4_096;
/** From the beginning of a pass until a throttle that was waiting for it bites: event, decision, quota. */
const REACTION_MS = 20;
/** A migration that has not ended after so many passes is called endless: with the shortest it is more than 8 minutes. */
const MAX_PASSES = 5_000;
/** Rounding must cost neither a burst nor a pass. */
const ROUNDING = 1e-9;

/**
 * From where it stands until it ends, at most `limitMs`. With a bandwidth of 0 it never ends. Same arguments, same outcome;
 * costs a few operations for each pass, and no more than one round where the passes repeat themselves. `onPass` is told what
 * each pass leaves, bytes; the first is the one being sent.
 */
export function playForward(
  from: Standing,
  guest: Hypothesis,
  plan: ThrottlePlan,
  limitMs: number,
  onPass?: (leftBytes: number) => void,
): Outcome {
  const bandwidth = Math.max(0, from.bandwidthBytesPerSec);
  const bytesPerMs = bandwidth / 1_000;
  const { demandCores, touchedBytes } = from.guest;
  const fits = bytesPerMs * from.downtimeLimitMs;

  let pass = Math.max(1, from.pass);
  let left = from.pass === 0 ? touchedBytes : Math.max(0, from.leftBytes);
  let passElapsedMs = from.pass === 0 ? 0 : from.passElapsedMs;
  let cpuMs = from.pass === 0 ? 0 : from.cpuMsInPass;
  let share = plan.begins === 'now' ? plan.share : 1;
  let totalMs = 0;
  let gotMs = 0;
  let sent = 0;
  const repeats = new Repetition(ROUNDING * Math.max(PAGE_BYTES, guest.workingSetBytes));

  for (let played = 0; played < MAX_PASSES; played += 1) {
    if (bytesPerMs <= 0) break;
    const counted = countedBytes(pass, from.guest);
    const toSend = Math.max(0, left - fits / counted);
    const ms = wholeBurstsMs(passElapsedMs, toSend / bytesPerMs);
    if (totalMs + ms >= limitMs) break;

    const sentNow = Math.min(left, ms * bytesPerMs);
    const leadMs = share === plan.share ? 0 : Math.min(ms, plan.leadMs ?? 0);
    const freeMs = played === 0 && plan.begins === 'now' ? Math.min(ms, plan.lateMs ?? 0) : 0;
    const passGotMs = freeMs + (ms - freeMs - leadMs) * share + leadMs * plan.share;
    totalMs += ms;
    gotMs += passGotMs;
    sent += sentNow;
    left -= sentNow;
    const dirtied = newlyDirtyBytes(guest, pass, left, cpuMs + passGotMs, touchedBytes);
    const fitsNow = left * counted + dirtied <= fits * (1 + ROUNDING);
    left += dirtied;
    onPass?.(left);
    if (fitsNow) {
      sent += left;
      const whole = left / bytesPerMs + usualHandoverMs(from.guest);
      if (totalMs + whole > limitMs) break;
      return outcomeOf({ ends: true, totalMs: totalMs + whole, gotMs, downtimeMs: whole, sent }, plan, demandCores);
    }
    // From here on every pass is made from its bytes alone: the same bytes again, and so for ever.
    if (played > 0 && repeats.seen(left)) break;
    pass += 1;
    passElapsedMs = 0;
    // The throttle comes a moment after the pass has begun, unless it is there already.
    cpuMs = leadMs > 0 ? 0 : Math.max(0, share - plan.share) * REACTION_MS;
    share = plan.share;
  }
  // Nothing changes any more: what it costs until the limit.
  const restMs = Math.max(0, limitMs - totalMs);
  totalMs += restMs;
  gotMs += restMs * share;
  sent += restMs * bytesPerMs;
  return outcomeOf({ ends: false, totalMs, gotMs, downtimeMs: 0, sent }, plan, demandCores);
}

interface Totals {
  readonly ends: boolean;
  readonly totalMs: number;
  readonly gotMs: number;
  readonly downtimeMs: number;
  readonly sent: number;
}

function outcomeOf(
  { ends, totalMs, gotMs, downtimeMs, sent }: Totals,
  plan: ThrottlePlan,
  demandCores: number,
): Outcome {
  return {
    ends,
    totalMs,
    downtimeMs,
    transferredBytes: sent,
    harmCpuMs: (totalMs - gotMs) * demandCores,
    meanShare: totalMs > 0 ? gotMs / totalMs : plan.share,
  };
}

/**
 * What a pass has made dirty and does not wait to be sent anyway (`waiting` bytes do). One that goes through its set comes
 * to a page again only after all others, so all that it wrote counts, up to what of the set does not wait; at random it
 * hits waiting pages as often as others.
 */
function newlyDirtyBytes(guest: Hypothesis, pass: number, left: number, cpuMs: number, touchedBytes: number): number {
  const dirtied = dirtiedBytes(guest, cpuMs);
  // Less than a page is not dirty.
  if (!(dirtied >= PAGE_BYTES)) return 0;
  const set = guest.workingSetBytes;
  // The first pass sends all memory, later ones what has been written: so much of what waits is of the working set.
  const waiting = Math.min(set, pass === 1 ? left * (set / Math.max(1, touchedBytes)) : left);
  return guest.pattern === 'sweep' ? Math.min(dirtied, set - waiting) : dirtied * (1 - waiting / set);
}

/** How long the pass that is being sent goes on, ms: whole bursts, until what is left of it would fit the downtime limit. */
export function passEndsInMs({
  pass,
  leftBytes,
  passElapsedMs,
  bandwidthBytesPerSec,
  downtimeLimitMs,
  guest,
}: Standing) {
  const bytesPerMs = Math.max(0, bandwidthBytesPerSec) / 1_000;
  if (bytesPerMs <= 0) return Number.POSITIVE_INFINITY;
  const left = pass === 0 ? guest.touchedBytes : leftBytes;
  const elapsedMs = pass === 0 ? 0 : passElapsedMs;
  const toSend = Math.max(0, left - (bytesPerMs * downtimeLimitMs) / countedBytes(Math.max(1, pass), guest));
  return wholeBurstsMs(elapsedMs, toSend / bytesPerMs);
}

/** From `elapsedMs` after a pass's begin until the end of the first whole burst that is over after so much sending. */
function wholeBurstsMs(elapsedMs: number, sendingMs: number): number {
  const bursts = Math.max(1, Math.ceil((elapsedMs + sendingMs) / BURST_MS - 1e-6));
  return Math.max(0, bursts * BURST_MS - elapsedMs);
}

/** As many bytes the source counts for each that is to be sent: in the first pass zero pages are among them. */
function countedBytes(pass: number, { memoryBytes, touchedBytes }: GuestFacts): number {
  return pass === 1 ? Math.max(1, memoryBytes / Math.max(1, touchedBytes)) : 1;
}

/** Notices that a sequence goes round, by comparing with a value that is renewed after 1, 2, 4, ... steps (Brent's). */
class Repetition {
  readonly #tolerance: number;
  #kept = Number.NaN;
  #steps = 0;
  #renewAfter = 1;

  constructor(tolerance: number) {
    this.#tolerance = tolerance;
  }

  seen(value: number): boolean {
    if (Math.abs(value - this.#kept) <= this.#tolerance) return true;
    this.#steps += 1;
    if (this.#steps === this.#renewAfter) {
      this.#kept = value;
      this.#steps = 0;
      this.#renewAfter *= 2;
    }
    return false;
  }
}
