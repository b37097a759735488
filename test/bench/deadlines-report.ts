/** What came of the deadlines: which were met, at what harm beside the least possible. Pure. */

import type { Possible } from '../convergence/oracle.ts';
import { caseName, DEADLINE_CASES, type DeadlineCase, planName } from './deadline-cases.ts';
import { type Hotter, leastPossible } from './least.ts';
import { alignedTable, markdownTable } from './markdown.ts';
import type { Result } from './results.ts';

const HARM_TIMES = 1.25;
/** Where the least is next to nothing, a switchover is many times that. */
const UNNOTICED_CPU_MS = 300;
/** Better than so nobody knows a guest after three seconds: what must hold must hold for one that is so much hotter. */
const KNOWN_TO: Hotter = { rateTimes: 1.1, workingSetTimes: 1.05 };
/** And the end this long before the deadline: rates of sending and clocks are not known better (2%, and 0.1 s). */
const inTimeMs = (maxTimeMs: number): number => (maxTimeMs - 100) / 1.02;
/** What two clocks may differ by. */
const ROUNDING_MS = 10;

export interface Kept {
  readonly wanted: DeadlineCase;
  readonly runs: readonly Result[];
  /** Of them, that ended in time. */
  readonly met: number;
  /** Least possible; null: none is. */
  readonly leastCpuMs: number | null;
  /** The same for the time that the slowest run took: what is above it is not the price of being early. */
  readonly leastInItsTimeCpuMs: number | null;
  /** The same for a guest that is a little hotter, with a little time to spare: what somebody must plan for who does not know it exactly. */
  readonly leastForHotterCpuMs: number | null;
  /** Where the oracle's own plan was played on the same guests. */
  readonly played: readonly Result[];
}

export function keptOf(results: readonly Result[]): Kept[] {
  return DEADLINE_CASES.flatMap((wanted) => {
    const runs = results.filter((one) => one.profile === wanted.profile && one.contender === caseName(wanted));
    if (runs.length === 0) return [];
    const least = leastPossible(runs, wanted);
    const tookMs = runs.reduce((most, run) => Math.max(most, totalOf(run)), 0);
    const inItsTime = leastPossible(runs, { ...wanted, maxTimeMs: tookMs });
    const forHotter = leastPossible(runs, { ...wanted, maxTimeMs: inTimeMs(wanted.maxTimeMs) }, KNOWN_TO);
    const met = runs.filter((run) => isMet(run, wanted)).length;
    return [
      {
        wanted,
        runs,
        met,
        leastCpuMs: harmOf(least),
        leastInItsTimeCpuMs: harmOf(inItsTime),
        leastForHotterCpuMs: harmOf(forHotter),
        played: results.filter((one) => one.profile === wanted.profile && one.contender === planName(wanted)),
      },
    ];
  });
}

function isMet(run: Result, { maxTimeMs }: DeadlineCase): boolean {
  return run.done && totalOf(run) <= maxTimeMs + ROUNDING_MS;
}

function harmOf(possible: Possible | null): number | null {
  return possible?.feasible === true ? possible.harmCpuMs : null;
}

function totalOf({ totalMs, wallMs }: Result): number {
  return totalMs ?? wallMs;
}

const HEADER = [
  'guest',
  'floor',
  'deadline s',
  'met',
  'took s',
  'harm CPU-s',
  'least possible',
  'in that time',
  'to be planned for',
  "oracle's plan took s",
  'and cost CPU-s',
  'least share',
];

function rowsOf(results: readonly Result[]): string[][] {
  return keptOf(results).map(({ wanted, runs, met, played, ...least }) => [
    wanted.profile,
    `${Math.round(wanted.floor * 100)}%`,
    String(wanted.maxTimeMs / 1_000),
    `${met}/${runs.length}`,
    runs.map((run) => (run.done ? seconds(totalOf(run)) : '-')).join(', '),
    runs.map((run) => seconds(run.harmCpuMs)).join(', '),
    ...[least.leastCpuMs, least.leastInItsTimeCpuMs, least.leastForHotterCpuMs].map((ms) =>
      ms === null ? '-' : seconds(ms),
    ),
    played.map((run) => (run.done ? seconds(totalOf(run)) : '-')).join(', ') || '-',
    played.map((run) => seconds(run.harmCpuMs)).join(', ') || '-',
    runs.map(({ claims }) => `${Math.round((claims?.figures.minShare ?? 0) * 1_000) / 10}%`).join(', '),
  ]);
}

function seconds(ms: number): string {
  return (Math.abs(ms) < 5 ? 0 : ms / 1_000).toFixed(2);
}

export function deadlinesTable(results: readonly Result[]): string {
  return `${alignedTable(HEADER, rowsOf(results))}\n${summary(results)}\n`;
}

function summary(results: readonly Result[]): string {
  const all = keptOf(results);
  const runs = all.reduce((sum, one) => sum + one.runs.length, 0);
  const met = all.reduce((sum, one) => sum + one.met, 0);
  const near = all.flatMap(({ runs: of, leastCpuMs, leastForHotterCpuMs }) => {
    if (leastCpuMs === null) return [];
    const planned = Math.max(leastCpuMs, leastForHotterCpuMs ?? 0);
    return of.map(({ done, harmCpuMs }) => ({
      strictly: done && harmCpuMs <= HARM_TIMES * leastCpuMs,
      nearly: done && harmCpuMs <= Math.max(HARM_TIMES * leastCpuMs, leastCpuMs + UNNOTICED_CPU_MS),
      knowingly: done && harmCpuMs <= Math.max(HARM_TIMES * planned, planned + UNNOTICED_CPU_MS),
    }));
  });
  const onQemu = all.flatMap(({ wanted, runs: of, leastCpuMs, played }) => {
    const inTime = played.filter((run) => isMet(run, wanted));
    if (leastCpuMs === null || inTime.length === 0) return [];
    const came = Math.max(leastCpuMs, inTime.reduce((sum, run) => sum + run.harmCpuMs, 0) / inTime.length);
    return of.map(({ done, harmCpuMs }) => done && harmCpuMs <= HARM_TIMES * came);
  });
  const plays = all.flatMap(({ wanted, played }) => played.map((run) => isMet(run, wanted)));
  const share = runs === 0 ? 0 : Math.round((met / runs) * 100);
  const strictly = near.filter((one) => one.strictly).length;
  const nearly = near.filter((one) => one.nearly).length;
  const knowingly = near.filter((one) => one.knowingly).length;
  const missing = DEADLINE_CASES.length - all.length;
  return `${met} of ${runs} met (${share}%); harm at most ${HARM_TIMES} times the least possible in ${strictly} of ${near.length}, that or 0.3 CPU-s above it in ${nearly}; that of what is to be planned for, in ${knowingly}.${plays.length === 0 ? '' : ` The oracle's own plans ended in time in ${plays.filter((met) => met).length} of ${plays.length}; where they did, ours did at most ${HARM_TIMES} times the harm that they came to in ${onQemu.filter((near) => near).length} of ${onQemu.length}.`}${missing === 0 ? '' : ` NOT MEASURED: ${missing} of ${DEADLINE_CASES.length} cases.`}`;
}

export function deadlinesMarkdown(results: readonly Result[]): string {
  const [first] = results;
  return `# Deadlines

Written by \`npm run bench:deadlines -- --report-only\`. Real guests of [the lab](../lab.md) at 40 MiB/s and a max stall of 300 ms, aggression 1, each
with a max time and a floor that the oracle calls possible and that do not give way to each other. *Least possible* is the
oracle's harm for what the guest was seen to write, with perfect knowledge, and *in that time* the same for a deadline at the
moment when ours was done: passes come whole, and a plan that ends just before its deadline is one of which nobody who does not
know the guest exactly can be sure. *To be planned for*: the least possible for a guest that writes ${KNOWN_TO.rateTimes} times
as fast over ${KNOWN_TO.workingSetTimes} times as much, with 2% and 0.1 s to spare, which is what somebody must plan for who knows guests and times no better than
that (-: nothing would do, and the least possible counts). *Oracle's plan*: what gives the least possible, each pass's share as planned, played by
the product on the same real guests with all the time there is: whether it ends in time there, and what it really costs (-: not played). *Least share* is the
smallest that the guest was given. How it is measured: [0022](../decisions/0022-how-convergence-is-measured.md).

${first === undefined ? 'Nothing has been measured.' : `QEMU ${first.machine.qemu} (TCG) on ${first.machine.cpus} cores, ${first.at.slice(0, 10)}. ${summary(results)}`}

${markdownTable(HEADER, rowsOf(results))}`;
}
