/** Runs summed up: medians with their spread for each profile and contender, and who did better than whom. Pure. */
import type { Interval } from '../../src/domain/prediction.ts';
import type { Result } from './results.ts';

export interface Spread {
  readonly median: number;
  readonly least: number;
  readonly most: number;
}

export interface Summary {
  readonly profile: string;
  readonly contender: string;
  readonly runs: number;
  readonly done: number;
  /** Runs after which the guest's memory was not whole: one is enough to void the contender. */
  readonly broken: number;
  /** Runs that others on the machine disturbed. */
  readonly disturbed: number;
  /** Of those that were done; null: none was. */
  readonly totalMs: Spread | null;
  readonly harmCpuMs: Spread;
  readonly longestStretchMs: Spread;
  readonly downtimeMs: Spread | null;
  readonly transferredBytes: Spread;
  /** True: no stretch without CPU was longer than the user allows, as far as samples tell. */
  readonly withinMaxStall: boolean;
}

/** In the order in which profiles and contenders first appear. */
export function summarise(results: readonly Result[]): Summary[] {
  return groupsOf(results).flatMap((runs) => summaryOf(runs) ?? []);
}

function groupsOf(results: readonly Result[]): Result[][] {
  const groups = new Map<string, Result[]>();
  for (const result of results) {
    const key = JSON.stringify([result.profile, result.contender]);
    groups.set(key, [...(groups.get(key) ?? []), result]);
  }
  return [...groups.values()];
}

function summaryOf(runs: readonly Result[]): Summary | null {
  const [first] = runs;
  const spread = (of: (result: Result) => number | null): Spread | null =>
    spreadOf(runs.map(of).filter((value) => value !== null));
  const [harmCpuMs, longestStretchMs, transferredBytes] = [
    spread((run) => run.harmCpuMs),
    spread((run) => run.longestStretchMs),
    spread((run) => run.transferredBytes),
  ];
  if (first === undefined || harmCpuMs === null || longestStretchMs === null || transferredBytes === null) return null;
  return {
    profile: first.profile,
    contender: first.contender,
    runs: runs.length,
    done: runs.filter(({ done }) => done).length,
    broken: runs.filter(({ memoryFaults }) => memoryFaults.length > 0).length,
    disturbed: runs.filter(({ disturbed }) => disturbed).length,
    totalMs: spread((run) => (run.done ? (run.totalMs ?? run.wallMs) : null)),
    harmCpuMs,
    longestStretchMs,
    downtimeMs: spread((run) => (run.done ? run.downtimeMs : null)),
    transferredBytes,
    withinMaxStall: runs.every((run) => run.longestStretchMs <= run.terms.maxStallMs + 2 * run.resolutionMs.median),
  };
}

function spreadOf(values: readonly number[]): Spread | null {
  const sorted = [...values].sort((one, other) => one - other);
  const middle = sorted.length / 2;
  const [below, above] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  const [least, most] = [sorted[0], sorted.at(-1)];
  if (below === undefined || above === undefined || least === undefined || most === undefined) return null;
  return { median: (below + above) / 2, least, most };
}

export interface PredictionError {
  readonly profile: string;
  readonly contender: string;
  /** Done runs with a prediction from before their start. */
  readonly runs: number;
  /** Measured less predicted, as a part of what was measured; sizes, without their signs. */
  readonly totalPart: Spread;
  /** Measured less predicted, sizes. */
  readonly harmCpuMs: Spread;
  /** Runs that came out within the interval of nine in ten. */
  readonly totalWithin: number;
  readonly harmWithin: number;
}

export interface Predicted {
  readonly run: Result;
  /** Measured less predicted, without its sign: as a part of what was measured, and in CPU ms. */
  readonly totalPart: number;
  readonly harmOffMs: number;
  /** Within the interval of nine in ten. */
  readonly totalWithin: boolean;
  readonly harmWithin: boolean;
}

/** Runs that were done and predicted before their start. */
export function predictedOnes(results: readonly Result[]): Predicted[] {
  const within = (value: number, { low, high }: Interval): boolean => value >= low && value <= high;
  return results.flatMap((run) => {
    const predicted = run.claims?.predicted ?? null;
    if (!run.done || predicted === null) return [];
    const totalMs = run.totalMs ?? run.wallMs;
    return {
      run,
      totalPart: Math.abs(totalMs - predicted.totalMs.value) / totalMs,
      harmOffMs: Math.abs(run.harmCpuMs - predicted.harmCpuMs.value),
      totalWithin: within(totalMs, predicted.totalMs),
      harmWithin: within(run.harmCpuMs, predicted.harmCpuMs),
    };
  });
}

/** How far off predictions were, for each profile and contender that made any. */
export function predictionErrors(results: readonly Result[]): PredictionError[] {
  return groupsOf(results).flatMap((runs) => {
    const told = predictedOnes(runs);
    const [first] = told;
    const totalPart = spreadOf(told.map((one) => one.totalPart));
    const harmCpuMs = spreadOf(told.map((one) => one.harmOffMs));
    if (first === undefined || totalPart === null || harmCpuMs === null) return [];
    return {
      profile: first.run.profile,
      contender: first.run.contender,
      runs: told.length,
      totalPart,
      harmCpuMs,
      totalWithin: told.filter(({ totalWithin }) => totalWithin).length,
      harmWithin: told.filter(({ harmWithin }) => harmWithin).length,
    };
  });
}

/** The smallest of the values that so many (0..1) of them do not exceed; NaN of none. */
export function quantile(values: readonly number[], part: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

export type Verdict =
  | 'ours'
  | 'peer'
  /** One is quicker, the other harms less. */
  | 'trade'
  /** No difference that counts. */
  | 'equal'
  /** Neither was ever done, or one is void. */
  | 'none';

export interface Comparison {
  readonly profile: string;
  readonly ours: string;
  readonly peer: string;
  /** Ours by the peer's, of medians; null where one has none or the peer's is nothing. */
  readonly harmRatio: number | null;
  readonly totalRatio: number | null;
  readonly verdict: Verdict;
}

/** Differences below these are no differences: two runs of one contender differ as much. */
const SAME_PART = 0.03;
const SAME_HARM_MS = 100;
const SAME_TOTAL_MS = 100;

/**
 * By medians: who harms less in equal or less time, or is quicker at equal or less harm, has won. One that was not done in
 * most of its runs has lost against one that was.
 */
export function compare(ours: Summary, peer: Summary): Comparison {
  const { profile } = ours;
  const named = { profile, ours: ours.contender, peer: peer.contender };
  const harmRatio = ratio(ours.harmCpuMs.median, peer.harmCpuMs.median, SAME_HARM_MS);
  const [ourTotal, peerTotal] = [mostlyDone(ours), mostlyDone(peer)];
  if (ours.broken > 0 || peer.broken > 0 || (ourTotal === null && peerTotal === null)) {
    return { ...named, harmRatio: null, totalRatio: null, verdict: 'none' };
  }
  if (ourTotal === null || peerTotal === null) {
    return { ...named, harmRatio: null, totalRatio: null, verdict: ourTotal === null ? 'peer' : 'ours' };
  }
  const harm = sign(ours.harmCpuMs.median, peer.harmCpuMs.median, SAME_HARM_MS);
  const total = sign(ourTotal, peerTotal, SAME_TOTAL_MS);
  const verdict = harm === 0 && total === 0 ? 'equal' : harm * total < 0 ? 'trade' : harm + total < 0 ? 'ours' : 'peer';
  return { ...named, harmRatio, totalRatio: ourTotal / peerTotal, verdict };
}

function mostlyDone({ done, runs, totalMs }: Summary): number | null {
  return totalMs !== null && done * 2 > runs ? totalMs.median : null;
}

/** -1: less; 0: as good as equal; 1: more. */
function sign(one: number, other: number, same: number): number {
  const difference = one - other;
  return Math.abs(difference) <= Math.max(same, SAME_PART * Math.abs(other)) ? 0 : Math.sign(difference);
}

/** null: next to nothing has no ratio. */
function ratio(one: number, other: number, nothing: number): number | null {
  return other <= nothing ? null : Math.max(0, one) / other;
}
