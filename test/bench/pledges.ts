/** What this project says of its convergence, each held against what was measured. Pure. */
import { PROFILE_NAMES, profileNamed } from '../../src/lab/profiles.ts';
import { rateOf } from '../lab/twin.ts';
import { FLOOR } from './contenders/ours.ts';
import { leastPossible } from './least.ts';
import type { Result } from './results.ts';
import { type Comparison, compare, predictedOnes, quantile, type Summary, summarise } from './summary.ts';

const HARDEST = 'leastHarm-1';
const GENTLEST = 'leastHarm-0';
const AGGRESSIONS = ['leastHarm-0', 'leastHarm-0.5', HARDEST];
const PEER = 'autoConverge';

export interface Pledge {
  readonly what: string;
  /** In words, with the figures that it is about. */
  readonly measured: string;
  /** null: not measured. */
  readonly holds: boolean | null;
}

/** `peers`: all that are not ours. */
export function pledges(results: readonly Result[], peers: readonly string[]): Pledge[] {
  const summaries = summarise(results);
  const found = (profile: string, contender: string): Summary | undefined =>
    summaries.find((one) => one.profile === profile && one.contender === contender);
  return [
    reference(found),
    ...AGGRESSIONS.map((contender) => hotOnes(found, contender, results)),
    ...AGGRESSIONS.map((contender) => otherPeers(found, contender, profilesOf(results), peers)),
    nearOracle(results, found),
    mild(results),
    ...predicted(results),
  ];
}

type Find = (profile: string, contender: string) => Summary | undefined;

function profilesOf(results: readonly Result[]): string[] {
  return [...new Set(results.map(({ profile }) => profile))];
}

/** Bytes/s in its busiest phase. */
function busiest(profile: string): number {
  const name = PROFILE_NAMES.find((known) => known === profile);
  if (name === undefined) return 0;
  const { tickHz, phases, ...rest } = profileNamed(name);
  return Math.max(...phases.map((phase) => rateOf({ ...rest, tickHz, phases: [phase] })));
}

/** Some seconds of one profile are like others of it; of these they are not. */
function isSteady(profile: string): boolean {
  const name = PROFILE_NAMES.find((known) => known === profile);
  return name !== undefined && profileNamed(name).phases.length === 1;
}

function reference(find: Find): Pledge {
  const what =
    'reference guest, aggression 1, against auto-converge: harm at most 1/4, total at most 1/5, within max stall';
  const [ours, peer] = [find('reference', HARDEST), find('reference', PEER)];
  if (ours === undefined || peer === undefined) return { what, measured: '', holds: null };
  const { harmRatio, totalRatio } = compare(ours, peer);
  const measured = `harm ${text(harmRatio)}, total ${text(totalRatio)}, longest stretch ${Math.round(ours.longestStretchMs.most)} ms`;
  const holds = harmRatio !== null && totalRatio !== null && harmRatio <= 0.25 && totalRatio <= 0.2;
  return { what, measured, holds: holds && ours.withinMaxStall && ours.done === ours.runs };
}

function hotOnes(find: Find, contender: string, results: readonly Result[]): Pledge {
  const what = `guests that write more than twice what is sent, all the time, ${contender} against auto-converge: harm at most half, at no more time`;
  const limit = 2 * (results[0]?.terms.bandwidthBytesPerSec ?? Number.POSITIVE_INFINITY);
  const compared = profilesOf(results)
    .filter((profile) => isSteady(profile) && busiest(profile) > limit)
    .flatMap((profile) => {
      const [ours, peer] = [find(profile, contender), find(profile, PEER)];
      return ours === undefined || peer === undefined ? [] : [againstOne(ours, peer)];
    });
  if (compared.length === 0) return { what, measured: '', holds: null };
  const measured = `harm / total: ${compared.map(({ words }) => words).join(', ')}`;
  return { what, measured, holds: compared.every(({ holds }) => holds) };
}

/** One that is never done has no harm to compare with: what it has done until it was cancelled moved nothing. */
function againstOne(ours: Summary, peer: Summary): { readonly words: string; readonly holds: boolean } {
  const { profile, harmRatio, totalRatio, verdict } = compare(ours, peer);
  const done = ours.done === ours.runs;
  if (totalRatio === null) {
    const harms = `${seconds(peer.harmCpuMs.median)} CPU-s by then, ours ${seconds(ours.harmCpuMs.median)}`;
    return {
      words: `${profile}: it was not done in ${peer.runs - peer.done} of ${peer.runs} (${harms})`,
      holds: done && verdict === 'ours',
    };
  }
  const less = harmRatio !== null && harmRatio <= 0.5 && totalRatio !== null && totalRatio <= 1;
  return { words: `${profile} ${text(harmRatio)} / ${text(totalRatio)}`, holds: done && less };
}

function otherPeers(find: Find, contender: string, profiles: readonly string[], peers: readonly string[]): Pledge {
  const what = `${contender} against all that stay within max stall: less harm at no more time, or less time at no more harm`;
  const compared: Comparison[] = profiles.flatMap((profile) =>
    peers.flatMap((name) => {
      const [ours, peer] = [find(profile, contender), find(profile, name)];
      return ours === undefined || peer === undefined || !peer.withinMaxStall ? [] : [compare(ours, peer)];
    }),
  );
  if (compared.length === 0) return { what, measured: '', holds: null };
  const count = (verdict: Comparison['verdict']) => compared.filter((one) => one.verdict === verdict).length;
  const lost = compared.filter(({ verdict }) => verdict === 'peer' || verdict === 'trade');
  const measured = `better ${count('ours')}, equal ${count('equal')}, neither done ${count('none')}${lost
    .map(
      (one) =>
        `; ${one.profile}: ${one.peer} ${one.verdict === 'peer' ? 'better' : 'a trade'} (${text(one.harmRatio)} / ${text(one.totalRatio)})`,
    )
    .join('')}`;
  const whole = profiles.every((profile) => {
    const ours = find(profile, contender);
    return ours === undefined || (ours.done === ours.runs && ours.broken === 0 && ours.withinMaxStall);
  });
  return {
    what,
    measured: `${measured}${whole ? '' : '; not all of ours were done, whole and within max stall'}`,
    holds: whole && lost.length === 0,
  };
}

function nearOracle(results: readonly Result[], find: Find): Pledge {
  const what = 'aggression 1: harm at most 1.5 times the least possible, or 0.3 CPU-s above it';
  const compared = profilesOf(results).flatMap((profile) => {
    const ours = find(profile, HARDEST);
    const least = leastOf(results, profile);
    if (ours === undefined || least === null) return [];
    // One that gave up has spared its guest, and moved nothing.
    return [{ profile, harm: ours.done === ours.runs ? ours.harmCpuMs.median : Number.POSITIVE_INFINITY, least }];
  });
  if (compared.length === 0) return { what, measured: '', holds: null };
  const measured = compared
    .map(({ profile, harm, least }) => `${profile} ${seconds(harm)} of ${seconds(least)}`)
    .join(', ');
  return { what, measured, holds: compared.every(({ harm, least }) => harm <= Math.max(1.5 * least, least + 300)) };
}

/** By the oracle, under the terms of ours; null: it does not know such guests. */
export function leastOf(results: readonly Result[], profile: string): number | null {
  const runs = results.filter((one) => one.profile === profile);
  const maxTimeMs = runs[0]?.terms.limitMs ?? 0;
  const least = leastPossible(runs, { floor: FLOOR, maxTimeMs });
  return least?.feasible === true ? least.harmCpuMs : null;
}

function mild(results: readonly Result[]): Pledge {
  const what = 'mild guests, aggression 0: harm below 2% of their CPU, or 0.2 CPU-s';
  const bandwidth = results[0]?.terms.bandwidthBytesPerSec ?? 0;
  const runs = results.filter(
    ({ profile, contender }) => contender === GENTLEST && isSteady(profile) && busiest(profile) < bandwidth / 2,
  );
  if (runs.length === 0) return { what, measured: '', holds: null };
  const most = (run: Result) => Math.max(200, 0.02 * run.wallMs * (run.demandCores[0] ?? 0));
  const measured = profilesOf(runs).map((profile) => {
    const harms = runs.filter((run) => run.profile === profile).map(({ harmCpuMs }) => harmCpuMs);
    return `${profile} ${seconds(Math.max(...harms))} at the most`;
  });
  return { what, measured: measured.join(', '), holds: runs.every((run) => run.done && run.harmCpuMs <= most(run)) };
}

/** Beyond these a guest's end depends on chance, and a figure for it says little. */
const NEAR = { low: 0.7, high: 1.3 };

function predicted(results: readonly Result[]): Pledge[] {
  const all = predictedOnes(results);
  const isChance = ({ run }: (typeof all)[number]): boolean => {
    const ratio = (run.writtenBytesPerSec ?? Number.NaN) / run.terms.bandwidthBytesPerSec;
    return !isSteady(run.profile) || (ratio > NEAR.low && ratio < NEAR.high);
  };
  const known = all.filter((one) => !isChance(one));
  const chance = all.filter(isChance);
  const parts = known.map(({ totalPart }) => totalPart);
  const harmOff = known.map(({ harmOffMs, run }) =>
    harmOffMs <= 300 ? 0 : run.harmCpuMs > 0 ? harmOffMs / run.harmCpuMs : Number.POSITIVE_INFINITY,
  );
  const [median, most, harm] = [quantile(parts, 0.5), quantile(parts, 0.9), quantile(harmOff, 0.5)];
  const held = (of: typeof all) => of.filter(({ totalWithin }) => totalWithin).length;
  return [
    {
      what: 'total predicted before the start: off by at most 10% at the median, 25% at 90 of 100',
      measured: known.length === 0 ? '' : `${percent(median)}, ${percent(most)} over ${known.length} runs`,
      holds: known.length === 0 ? null : median <= 0.1 && most <= 0.25,
    },
    {
      what: 'harm predicted before the start: off by at most 25% or 0.3 CPU-s at the median',
      measured:
        known.length === 0
          ? ''
          : `${seconds(
              quantile(
                known.map(({ harmOffMs }) => harmOffMs),
                0.5,
              ),
            )} CPU-s, within either in ${harmOff.filter((off) => off <= 0.25).length} of ${known.length}`,
      holds: known.length === 0 ? null : harm <= 0.25,
    },
    {
      what: 'guests that change or write about what is sent: 85 of 100 totals within the interval of nine in ten',
      measured: chance.length === 0 ? '' : `${held(chance)} of ${chance.length}`,
      holds: chance.length === 0 ? null : held(chance) >= 0.85 * chance.length,
    },
  ];
}

function text(value: number | null): string {
  return value === null ? '-' : value.toFixed(2);
}

function seconds(ms: number): string {
  return (Math.abs(ms) < 5 ? 0 : ms / 1_000).toFixed(2);
}

function percent(part: number): string {
  return `${(part * 100).toFixed(1)}%`;
}
