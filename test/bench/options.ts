/** What the benchmark may be asked, and what it answers to --help. */
import { parseArgs } from 'node:util';
import { nearest } from '../../src/domain/suggest.ts';
import { durationText, rateText } from '../../src/domain/units.ts';
import { PROFILE_NAMES } from '../../src/lab/profiles.ts';
import { CONTENDERS } from './contenders/all.ts';

const MIB = 2 ** 20;

export const LIMIT_MS = 60_000;
export const MAX_STALL_MS = 300;

/** Those that a benchmark of convergence is about, in the order of the tables. */
export const PROFILES = [
  'reference',
  'idle',
  'mild',
  'near',
  'hot',
  'random',
  'fierce',
  'large',
  'bursty',
  'turning',
  'pair',
] as const;

export interface Options {
  readonly profiles: readonly string[];
  readonly contenders: readonly string[];
  readonly runs: number;
  readonly results: string;
  readonly bandwidthBytesPerSec: number;
  /** One that is not done by then is cancelled. */
  readonly limitMs: number;
  readonly reportOnly: boolean;
  /** Neither waits for a quiet machine nor does a disturbed run again: for trying things out. */
  readonly howeverBusy: boolean;
  readonly report: string;
  readonly help: boolean;
}

export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** Throws `UsageError` with all that is wrong. */
export function optionsOf(args: readonly string[]): Options {
  const { values } = parsed(args);
  const faults: string[] = [];
  const names = (option: string, text: string, known: readonly string[]): string[] => {
    const given = text.split(',').map((name) => name.trim());
    for (const name of given.filter((one) => !known.includes(one))) {
      const meant = nearest(name, known);
      faults.push(
        `--${option}: there is no ${JSON.stringify(name)}${meant === undefined ? '' : `; did you mean ${meant}?`} There are ${known.join(', ')}`,
      );
    }
    return given;
  };
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1 || runs > 1_000) {
    faults.push(`--runs: ${JSON.stringify(values.runs)} is no whole number from 1 to 1000`);
  }
  const bandwidth = rateText.safeParse(values.bandwidth);
  if (!bandwidth.success) faults.push(`--bandwidth: ${JSON.stringify(values.bandwidth)} is no rate such as 40MiB/s`);
  const limit = durationText.safeParse(values.limit);
  if (!limit.success) faults.push(`--limit: ${JSON.stringify(values.limit)} is no duration such as 60s`);
  const options = {
    profiles: names('profiles', values.profiles, PROFILE_NAMES),
    contenders: names(
      'contenders',
      values.contenders,
      CONTENDERS.map(({ name }) => name),
    ),
    runs,
    results: values.results,
    bandwidthBytesPerSec: bandwidth.success ? bandwidth.data : 0,
    limitMs: limit.success ? limit.data : 0,
    reportOnly: values['report-only'],
    howeverBusy: values['however-busy'],
    report: values.report,
    help: values.help,
  };
  if (faults.length > 0) throw new UsageError(faults.join('\n'));
  return options;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        profiles: { type: 'string', default: PROFILES.join(',') },
        contenders: { type: 'string', default: CONTENDERS.map(({ name }) => name).join(',') },
        runs: { type: 'string', default: '5' },
        results: { type: 'string', default: 'docs/benchmarks/convergence.jsonl' },
        bandwidth: { type: 'string', default: `${(40 * MIB) / MIB}MiB/s` },
        limit: { type: 'string', default: `${LIMIT_MS / 1_000}s` },
        'report-only': { type: 'boolean', default: false },
        'however-busy': { type: 'boolean', default: false },
        report: { type: 'string', default: 'docs/benchmarks' },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

/** Of a run, beside the migration: boot, looking at the guest before and after, reading its memory, end of the lab. */
const AROUND_SEC = 11;
/** Of a migration, on average over all profiles and contenders. */
const MEAN_SEC = 22;

export function estimate(runs: number, limitMs: number): { readonly likelySec: number; readonly mostSec: number } {
  return { likelySec: runs * (AROUND_SEC + MEAN_SEC), mostSec: runs * (AROUND_SEC + limitMs / 1_000) };
}

export function hours(sec: number): string {
  return sec < 5_400 ? `${Math.ceil(sec / 60)} min` : `${(sec / 3_600).toFixed(1)} h`;
}

export function helpText(): string {
  const all = PROFILES.length * CONTENDERS.length * 5;
  const { likelySec, mostSec } = estimate(all, LIMIT_MS);
  return `npm run bench:convergence -- [options]

Migrates lab guests between two real QEMUs on this machine, each time by another contender, and measures from outside how
long it took and what it cost the guest. A run that is in the results file is not done again, so it may be interrupted
(Ctrl-C) and started anew at any time. With all profiles and contenders, 5 runs each, that is ${all} runs: about ${hours(likelySec)},
${hours(mostSec)} at the most. Needs QEMU 9 or later, root, and a machine on which nothing else runs: a run that others
disturbed is done again.

  --profiles a,b      ${PROFILES.join(', ')} (others of docs/lab.md on request)
  --contenders a,b    ${CONTENDERS.map(({ name }) => name).join(', ')}
  --runs N            of each pair (5)
  --bandwidth RATE    of every migration (40MiB/s)
  --limit DURATION    after which one is cancelled (${LIMIT_MS / 1_000}s); runs of another limit or bandwidth need a results file of their own
  --however-busy      neither waits for a quiet machine nor does a disturbed run again: for trying things out
  --results FILE      one JSON line for each run (docs/benchmarks/convergence.jsonl)
  --report DIR        where --report-only writes (docs/benchmarks)
  --report-only       measures nothing; writes tables, JSON and the chart from the results file

Contenders:
${CONTENDERS.map(({ name, what }) => `  ${name.padEnd(18)}  ${what}`).join('\n')}
`;
}
