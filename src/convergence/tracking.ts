/**
 * What the samples of a running migration tell, kept from one to the next: where it stands, what its passes say of the
 * guest's dirtying, what is sent with. Decides nothing. A sample that cannot be (counters that go back, another
 * migration's, figures that are no numbers) changes nothing but `said`; what was known before stands. Pure.
 */
import type { DirtyWindow } from '../domain/prediction.ts';
import { formatSize } from '../domain/units.ts';
import type { ConvergenceSample } from './controller.ts';
import type { GuestFacts, Pattern } from './dirty-model.ts';
import type { Standing } from './forward.ts';

/** QEMU looks how it stands after each burst (see forward.ts). */
const BURST_MS = 100;
/** Rates of the last so many samples: what is sent with is their median. */
const RATES_KEPT = 7;
const RATES_AGE_MS = 6_000;
/** Transferred more than so many times of what may be sent: these are not this migration's counters. */
const IMPOSSIBLY_FAST = 4;
const IMPOSSIBLY_FAST_BYTES = 64 * 2 ** 20;
/** A pass that found so much of the working set has filled it. */
const FILLED = 0.95;
/** So many samples in a row that agree with each other are believed against one before them. */
const BELIEVED_AFTER = 4;
/** Counters are read one after another, so a little more may remain than there is. */
const ROUNDING = 1.05;

interface Rate {
  readonly atMs: number;
  readonly bytesPerSec: number;
}

export interface Tracked {
  readonly guest: GuestFacts;
  /** The last sample that could be; null: none yet. */
  readonly last: ConvergenceSample | null;
  /** Began at, and CPU time (share x time, ms) that the guest has got in it. `seen`: from its start. */
  readonly pass: { readonly beganAtMs: number; readonly cpuMs: number; readonly seen: boolean };
  readonly rates: readonly Rate[];
  /** Samples in a row that could not be. */
  readonly badInARow: number;
  /** Of those, the last one that could be, were it not for the ones before; and how many in a row agree with each other. */
  readonly rejected: { readonly sample: ConvergenceSample; readonly agreeing: number } | null;
  /** Kinds of nonsense that have been told. */
  readonly said: readonly string[];
}

export interface Tracking {
  readonly next: Tracked;
  /** False: the sample says nothing. */
  readonly sane: boolean;
  /** True: a pass has begun since the last sample. */
  readonly newPass: boolean;
  readonly windows: readonly DirtyWindow[];
  readonly notes: readonly string[];
}

export function startTracking(guest: GuestFacts): Tracked {
  return {
    guest,
    last: null,
    pass: { beganAtMs: 0, cpuMs: 0, seen: false },
    rates: [],
    badInARow: 0,
    rejected: null,
    said: [],
  };
}

/** What was known of the guest before, for what a pass has dirtied. */
export interface KnownOfGuest {
  readonly workingSetBytes: number | null;
  readonly pattern: Pattern | null;
  /** When it last began to behave otherwise, fleet time. */
  readonly changedAtMs: number | null;
}

/** `downtimeLimitMs`: in force. */
export function track(
  state: Tracked,
  sample: ConvergenceSample,
  downtimeLimitMs: number,
  known: KnownOfGuest,
): Tracking {
  const fault = faultOf(state, sample);
  if (fault !== null) {
    const told = state.said.includes(fault.kind);
    const rejected = rejectedWith(state, sample);
    if (rejected !== null && rejected.agreeing >= BELIEVED_AFTER)
      return startAnew(state, sample, downtimeLimitMs, known);
    const said = told ? state.said : [...state.said, fault.kind];
    return {
      next: { ...state, badInARow: state.badInARow + 1, rejected, said },
      sane: false,
      newPass: false,
      windows: [],
      notes: told ? [] : [`${fault.what}; this sample is left out and the last decision holds`],
    };
  }
  const demandCores = isCount(sample.demandCores) ? sample.demandCores : state.guest.demandCores;
  const gotShare = isCount(sample.gotShare) ? Math.min(1, sample.gotShare) : shareOf(sample);
  const silent = sample.rateBytesPerSec <= 0 && state.last !== null;
  const said = silent && !state.said.includes('silent') ? [...state.said, 'silent'] : state.said;
  const followed = follow(state, sample, gotShare, downtimeLimitMs, known);
  const looks = sample.windows.filter(isLook);
  return {
    next: {
      guest: { ...state.guest, demandCores },
      last: sample,
      pass: followed.pass,
      rates: ratesWith(state, sample),
      badInARow: 0,
      rejected: null,
      said,
    },
    sane: true,
    newPass: state.last !== null && sample.pass !== state.last.pass,
    windows: [...looks, ...followed.windows],
    notes: said === state.said ? [] : ['nothing is being sent; decided with the rate of before'],
  };
}

/** Samples that agree with each other but not with what was seen before. */
function rejectedWith(state: Tracked, sample: ConvergenceSample): Tracked['rejected'] {
  const { rejected } = state;
  if (faultOf({ ...state, last: null, rates: [] }, sample) !== null) return rejected;
  const agrees = rejected !== null && faultOf({ ...state, last: rejected.sample, rates: [] }, sample) === null;
  return { sample, agreeing: agrees ? rejected.agreeing + 1 : 1 };
}

/** It was the sample before them that could not be: what is known begins with this one. */
function startAnew(state: Tracked, sample: ConvergenceSample, downtimeLimitMs: number, known: KnownOfGuest): Tracking {
  const begun: Tracked = { ...startTracking(state.guest), said: state.said };
  const { next, ...rest } = track(begun, sample, downtimeLimitMs, known);
  const note = 'the counters go on from there: what was seen before them is forgotten';
  return { ...rest, next, notes: [...rest.notes, note] };
}

/** Where it stands after the last sample that could be. null: there was none yet. */
export function standing(state: Tracked, downtimeLimitMs: number, capBytesPerSec: number | null): Standing | null {
  const { last, guest, pass } = state;
  if (last === null) return null;
  return {
    pass: last.pass,
    leftBytes: leftBytes(last, guest),
    cpuMsInPass: pass.cpuMs,
    passElapsedMs: Math.max(0, last.atMs - pass.beganAtMs),
    bandwidthBytesPerSec: bandwidth(state, capBytesPerSec),
    downtimeLimitMs,
    guest,
  };
}

/** What it is sent with: the median of what was seen, never above what is granted. */
function bandwidth({ rates, last }: Tracked, capBytesPerSec: number | null): number {
  const most = Math.min(
    last !== null && isCount(last.grantBytesPerSec) && last.grantBytesPerSec > 0
      ? last.grantBytesPerSec
      : Number.POSITIVE_INFINITY,
    capBytesPerSec ?? Number.POSITIVE_INFINITY,
  );
  const sorted = rates.map(({ bytesPerSec }) => bytesPerSec).sort((one, other) => one - other);
  const median = sorted[Math.floor(sorted.length / 2)];
  if (median === undefined) return Number.isFinite(most) ? most : 0;
  return Math.min(most, median);
}

function ratesWith({ rates, last }: Tracked, sample: ConvergenceSample): readonly Rate[] {
  // What was sent with another grant says nothing of this one.
  const kept =
    last !== null && last.grantBytesPerSec === sample.grantBytesPerSec
      ? rates.filter(({ atMs }) => atMs > sample.atMs - RATES_AGE_MS)
      : [];
  const now = sample.rateBytesPerSec;
  if (!(now > 0)) return kept.length > 0 ? kept : rates;
  return [...kept, { atMs: sample.atMs, bytesPerSec: now }].slice(-RATES_KEPT);
}

/** Left of this pass. In the first one zero pages, which cost nothing, are not counted. */
function leftBytes(
  { pass, remainingBytes, transferredBytes, totalBytes }: ConvergenceSample,
  guest: GuestFacts,
): number {
  if (pass > 1) return remainingBytes;
  const left = guest.touchedBytes - transferredBytes;
  if (left > 0) return Math.min(left, remainingBytes);
  // More was touched than was known.
  return totalBytes > 0 ? remainingBytes * Math.min(1, guest.touchedBytes / totalBytes) : remainingBytes;
}

/** What was found at the end of a pass, bytes. `justBegun`: the sample is of the moment at which the next one began. */
interface PassEnd {
  readonly found: number;
  readonly leftOver: number;
  readonly burst: number;
  readonly justBegun: boolean;
}

interface Followed {
  readonly pass: Tracked['pass'];
  readonly windows: readonly DirtyWindow[];
}

/** The pass goes on, or it has ended and says how much was dirtied in it. */
function follow(
  state: Tracked,
  sample: ConvergenceSample,
  gotShare: number,
  downtimeLimitMs: number,
  known: KnownOfGuest,
): Followed {
  const { last, pass } = state;
  if (last === null) {
    // In the first pass nothing has been missed but the share that was in force: free, unless somebody else began it.
    const elapsedMs = Math.max(0, sample.atMs - sample.startedAtMs);
    const first = sample.pass <= 1;
    const beganAtMs = first ? sample.startedAtMs : sample.atMs;
    return { pass: { beganAtMs, cpuMs: first ? gotShare * elapsedMs : 0, seen: first }, windows: [] };
  }
  const passedMs = sample.atMs - last.atMs;
  if (sample.pass === last.pass) {
    return { pass: { ...pass, cpuMs: pass.cpuMs + gotShare * passedMs }, windows: [] };
  }
  const bytesPerMs = bandwidth(state, null) / 1_000;
  if (sample.pass > last.pass + 1) return missed(sample, last, gotShare);

  const counted = last.pass <= 1 ? Math.max(1, state.guest.memoryBytes / Math.max(1, state.guest.touchedBytes)) : 1;
  const fits = (bytesPerMs * downtimeLimitMs) / counted;
  const burst = (bytesPerMs * BURST_MS) / counted;
  const left = leftBytes(last, state.guest);
  const sent = sample.transferredBytes - last.transferredBytes;
  // Woken by the pass's end, what had not been sent by then is what is missing; else it began some time ago.
  const justBegun = left - sent >= fits - 2 * burst;
  const leftOver = justBegun ? clamp(left - sent, 0, fits) : Math.max(0, Math.min(left, fits - burst / 2));
  const elapsedMs = justBegun || bytesPerMs <= 0 ? 0 : clamp((sent - (left - leftOver)) / bytesPerMs, 0, passedMs);
  const next = { beganAtMs: sample.atMs - elapsedMs, cpuMs: gotShare * elapsedMs, seen: true };
  // A pass in which the guest changed its ways says nothing of how it is now, nor of how it was.
  const straddles = known.changedAtMs !== null && known.changedAtMs > pass.beganAtMs;
  if (!pass.seen || straddles) return { pass: next, windows: [] };

  const cpuMs = pass.cpuMs + gotShare * (passedMs - elapsedMs);
  const found = sample.remainingBytes + elapsedMs * bytesPerMs;
  return { pass: next, windows: [passWindow(sample.atMs, cpuMs, { found, leftOver, burst, justBegun }, known)] };
}

/**
 * What a pass has dirtied, from what was found at its end: that, and what was left over of the pass before, together. A
 * guest that goes through its set came to pages that were left over only if it has written all others; at random they were
 * as likely to be written as others.
 */
function passWindow(
  atMs: number,
  cpuMs: number,
  { found, leftOver, burst, justBegun }: PassEnd,
  { workingSetBytes, pattern }: KnownOfGuest,
): DirtyWindow {
  const fresh = Math.max(0, found - leftOver);
  const set = Math.max(workingSetBytes ?? 0, found);
  const most = Math.min(found, set > leftOver ? fresh / (1 - leftOver / set) : found);
  const filled = workingSetBytes !== null && found >= FILLED * workingSetBytes;
  const sweep = filled ? found : fresh;
  const known = pattern !== null && (workingSetBytes !== null || pattern === 'sweep');
  const bytes = pattern === 'sweep' ? sweep : pattern === 'random' ? most : (fresh + most) / 2;
  const unsure = known ? 0 : (most - fresh) / 2;
  const timing = cpuMs > 0 ? (bytes / cpuMs) * (justBegun ? 10 : 50) : 0;
  const errorBytes = Math.hypot(justBegun ? burst / 10 : burst / 3, unsure, timing, 0.01 * bytes);
  return { atMs, cpuMs, bytes, errorBytes, source: 'pass' };
}

/** Several passes have ended unseen: all that is known of them is the rate that the hypervisor gives for the last one. */
function missed(sample: ConvergenceSample, last: ConvergenceSample, gotShare: number): Followed {
  const each = (sample.atMs - last.atMs) / (sample.pass - last.pass);
  const pass = { beganAtMs: sample.atMs - each / 2, cpuMs: (gotShare * each) / 2, seen: false };
  const bytes = (sample.dirtyRateBytesPerSec * each) / 1_000;
  if (!isCount(bytes) || bytes <= 0) return { pass, windows: [] };
  return {
    pass,
    windows: [{ atMs: sample.atMs, cpuMs: gotShare * each, bytes, errorBytes: bytes / 2, source: 'pass' }],
  };
}

interface Fault {
  readonly kind: string;
  readonly what: string;
}

/** Why a sample cannot be; null: it can. */
function faultOf({ last, rates }: Tracked, sample: ConvergenceSample): Fault | null {
  const figures = [
    'atMs',
    'startedAtMs',
    'pass',
    'remainingBytes',
    'transferredBytes',
    'totalBytes',
    'rateBytesPerSec',
  ] as const;
  for (const name of figures) {
    if (!isCount(sample[name])) return { kind: 'noNumber', what: `the hypervisor gives ${sample[name]} as ${name}` };
  }
  // Before it has begun a hypervisor has no counters; a guest without memory there is not.
  if (sample.totalBytes === 0) return { kind: 'nothing', what: 'the hypervisor counts no memory' };
  if (sample.remainingBytes > sample.totalBytes * ROUNDING) {
    const what = `the hypervisor says that ${formatSize(sample.remainingBytes)} of ${formatSize(sample.totalBytes)} remain`;
    return { kind: 'moreThanAll', what };
  }
  if (last === null) return null;
  if (sample.atMs <= last.atMs) return { kind: 'timeBack', what: 'a sample is older than the one before' };
  for (const name of ['pass', 'transferredBytes', 'startedAtMs'] as const) {
    if (sample[name] < last[name]) {
      return {
        kind: 'back',
        what: `the hypervisor's count of ${name} went back from ${last[name]} to ${sample[name]}`,
      };
    }
  }
  const most = Math.max(sample.grantBytesPerSec, last.grantBytesPerSec, ...rates.map(({ bytesPerSec }) => bytesPerSec));
  const possible = IMPOSSIBLY_FAST_BYTES + (IMPOSSIBLY_FAST * most * (sample.atMs - last.atMs)) / 1_000;
  const foreign =
    Math.abs(sample.totalBytes - last.totalBytes) > last.totalBytes * (ROUNDING - 1) ||
    (isCount(most) && sample.transferredBytes - last.transferredBytes > possible);
  return foreign ? { kind: 'foreign', what: 'the counters are those of another migration' } : null;
}

function isCount(value: number): boolean {
  return Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER;
}

function isLook({ atMs, cpuMs, bytes, errorBytes }: DirtyWindow): boolean {
  return isCount(atMs) && isCount(cpuMs) && isCount(bytes) && isCount(errorBytes);
}

function shareOf({ share }: ConvergenceSample): number {
  return isCount(share) ? Math.min(1, share) : 1;
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(high, Math.max(low, value));
}
