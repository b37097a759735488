/**
 * What a migration has cost its guest, from samples of its CPU time taken from outside: the same sums for every contender.
 * Pure. Times are real ms of one monotonic clock, CPU time is ms, demand is cores.
 */
import type { GuestPhase } from '../../src/lab/guest/layout.ts';

/** CPU time that each vCPU has got so far, and which part of it at the destination. */
export interface CpuSample {
  readonly atMs: number;
  readonly gotMs: readonly number[];
  readonly thereMs: number;
}

/** The guest's own count of its timer's ticks. */
export interface TickSample {
  readonly atMs: number;
  readonly ticks: number;
}

export interface Stretch {
  readonly fromMs: number;
  readonly toMs: number;
}

/** The phase that a guest is in after so many ticks. Throttled guests miss ticks, so time alone does not tell. */
export function phaseAt(phases: readonly GuestPhase[], ticks: number): number {
  const cycle = phases.reduce((sum, phase) => sum + phase.ticks, 0);
  let left = ticks % cycle;
  for (const [index, phase] of phases.entries()) {
    if (left < phase.ticks) return index;
    left -= phase.ticks;
  }
  return phases.length - 1;
}

/** Cores used between two moments; NaN when no sample lies on either side. */
export function coresUsed(samples: readonly CpuSample[], { fromMs, toMs }: Stretch): number {
  const within = samples.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  const [first, last] = [within[0], within.at(-1)];
  if (first === undefined || last === undefined || first === last) return Number.NaN;
  return (total(last) - total(first)) / (last.atMs - first.atMs);
}

/** After a phase begins its first look of ticks may be a little late: that much at either end of it says nothing. */
const EDGE_MS = 300;

/** Cores that the guest uses in each phase while nobody holds it back; NaN for one that was not seen long enough. */
export function demandByPhase(
  phases: readonly GuestPhase[],
  samples: readonly CpuSample[],
  ticks: readonly TickSample[],
  { fromMs, toMs }: Stretch,
): number[] {
  if (phases.length === 1) return [coresUsed(samples, { fromMs, toMs })];
  return phases.map((_, phase) => {
    const seen = ticks.filter(
      (look) => phaseAt(phases, look.ticks) === phase && look.atMs >= fromMs && look.atMs <= toMs,
    );
    const [first, last] = [seen[0], seen.at(-1)];
    if (first === undefined || last === undefined) return Number.NaN;
    return coresUsed(samples, { fromMs: first.atMs + EDGE_MS, toMs: last.atMs - EDGE_MS });
  });
}

/** Cores that the guest would use at a moment: those of the phase that it was last seen in. */
export function demandOver(
  phases: readonly GuestPhase[],
  demands: readonly number[],
  ticks: readonly TickSample[],
): (atMs: number) => number {
  if (phases.length === 1) return () => demands[0] ?? Number.NaN;
  // Phases that do the same need the same; one that was never seen alone (the last of several) is told by its twin.
  const known = phases.map((phase, index) => {
    const own = demands[index] ?? Number.NaN;
    if (!Number.isNaN(own)) return own;
    const twin = phases.findIndex(
      (other, at) => other.pagesPerTick === phase.pagesPerTick && !Number.isNaN(demands[at] ?? Number.NaN),
    );
    return demands[twin] ?? Number.NaN;
  });
  return (atMs) => {
    const seen = ticks.findLast((look) => look.atMs <= atMs) ?? ticks[0];
    return known[seen === undefined ? 0 : phaseAt(phases, seen.ticks)] ?? Number.NaN;
  };
}

/**
 * CPU time that the guest would have used and did not get, ms. Not rounded up to 0: a little below it tells how exact this is.
 */
export function harmCpuMs(
  samples: readonly CpuSample[],
  demandAt: (atMs: number) => number,
  { fromMs, toMs }: Stretch,
): number {
  let harm = 0;
  let before: CpuSample | undefined;
  for (const sample of samples) {
    if (sample.atMs < fromMs) {
      before = sample;
      continue;
    }
    if (before !== undefined) {
      // What got in a sample that lies half before counts by the half.
      const from = Math.max(before.atMs, fromMs);
      const to = Math.min(sample.atMs, toMs);
      const whole = sample.atMs - before.atMs;
      const got = whole > 0 ? ((total(sample) - total(before)) * Math.max(0, to - from)) / whole : 0;
      harm += demandAt(sample.atMs) * Math.max(0, to - from) - got;
    }
    before = sample;
    if (sample.atMs >= toMs) break;
  }
  return harm;
}

/**
 * The longest time for which one vCPU was seen to get nothing at all: from the last sample that saw it get some to the last
 * one that saw none since. It may have been longer by up to a sampling interval at its end and shorter by one at its begin.
 */
export function longestStretch(samples: readonly CpuSample[], vcpu: number, { fromMs, toMs }: Stretch): Stretch | null {
  let longest: Stretch | null = null;
  let since: CpuSample | undefined;
  for (const sample of samples) {
    if (sample.atMs < fromMs || sample.atMs > toMs) continue;
    if (since === undefined || (sample.gotMs[vcpu] ?? 0) > (since.gotMs[vcpu] ?? 0)) {
      since = sample;
      continue;
    }
    const stretch = { fromMs: since.atMs, toMs: sample.atMs };
    if (longest === null || lengthOf(stretch) > lengthOf(longest)) longest = stretch;
  }
  return longest;
}

/** The longest of any vCPU that uses CPU at all in the stretch; null: none that a sampler sees. */
export function longestOfAll(samples: readonly CpuSample[], stretch: Stretch): Stretch | null {
  const vcpus = samples[0]?.gotMs.length ?? 0;
  let longest: Stretch | null = null;
  for (let vcpu = 0; vcpu < vcpus; vcpu += 1) {
    const got = samples.map(({ gotMs }) => gotMs[vcpu] ?? 0);
    const busy = (got.at(-1) ?? 0) > (got[0] ?? 0);
    const own = busy ? longestStretch(samples, vcpu, stretch) : null;
    if (own !== null && (longest === null || lengthOf(own) > lengthOf(longest))) longest = own;
  }
  return longest;
}

/** Its length, ms; 0: there is none. */
export function longestStretchMs(samples: readonly CpuSample[], stretch: Stretch): number {
  const longest = longestOfAll(samples, stretch);
  return longest === null ? 0 : lengthOf(longest);
}

/** What a thread that is only told something uses is less than this, ms; a guest at its timer uses more. */
const NOTHING_MS = 0.02;

/** How long nothing ran between the last CPU time at the source and the first at the destination; null: it never ran there. */
export function observedDowntimeMs(samples: readonly CpuSample[], { fromMs, toMs }: Stretch): number | null {
  const within = samples.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  const here = (sample: CpuSample): number => total(sample) - sample.thereMs;
  const grew = (of: (sample: CpuSample) => number) => (sample: CpuSample, index: number) => {
    const before = within[index - 1];
    return before !== undefined && of(sample) - of(before) > NOTHING_MS;
  };
  const left = within.findLastIndex(grew(here));
  const arrived = within.findIndex((sample, index) => index > left && grew(({ thereMs }) => thereMs)(sample, index));
  const [last, first] = [within[left], within[arrived]];
  return last === undefined || first === undefined ? null : first.atMs - last.atMs;
}

const WINDOW_MS = 200;
const NORMAL = 0.9;

/** When the guest had its CPU back: the begin of the first window after `sinceMs` with nearly all it wants; else the last moment. */
export function backToNormalMs(
  samples: readonly CpuSample[],
  demandAt: (atMs: number) => number,
  sinceMs: number,
): number {
  const last = samples.at(-1)?.atMs ?? sinceMs;
  for (let from = sinceMs; from + WINDOW_MS <= last; from += WINDOW_MS / 2) {
    const used = coresUsed(samples, { fromMs: from, toMs: from + WINDOW_MS });
    if (used >= NORMAL * demandAt(from)) return from;
  }
  return last;
}

/** What lies between two samples: median, and what 99 of 100 do not exceed, ms. */
export function resolutionMs(samples: readonly CpuSample[]): { readonly median: number; readonly most: number } {
  const gaps = samples.slice(1).map((sample, index) => sample.atMs - (samples[index]?.atMs ?? sample.atMs));
  gaps.sort((one, other) => one - other);
  return { median: gaps[Math.floor(gaps.length / 2)] ?? 0, most: gaps[Math.floor(gaps.length * 0.99)] ?? 0 };
}

function total({ gotMs }: CpuSample): number {
  return gotMs.reduce((sum, got) => sum + got, 0);
}

function lengthOf({ fromMs, toMs }: Stretch): number {
  return toMs - fromMs;
}
