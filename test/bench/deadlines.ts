/** Entry of `npm run bench:deadlines`: real guests, each with a deadline and a floor that the oracle calls possible. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Policy } from '../../src/domain/policy.ts';
import type { Contender } from './contenders/contender.ts';
import { ours } from './contenders/ours.ts';
import { planned } from './contenders/planned.ts';
import { caseName, DEADLINE_CASES, type DeadlineCase, planName } from './deadline-cases.ts';
import { deadlinesMarkdown, deadlinesTable } from './deadlines-report.ts';
import { leastPossible } from './least.ts';
import { LIMIT_MS, MAX_STALL_MS, UsageError } from './options.ts';
import { counted, type Order, type Result, readResults, stillToDoOf } from './results.ts';
import { carryOut, runMain } from './series.ts';

const MIB = 2 ** 20;
const DEFAULT_RESULTS = 'docs/benchmarks/deadlines.jsonl';
const DEFAULT_REPORT = 'docs/benchmarks';

const HELP = `npm run bench:deadlines -- [options]

Migrates lab guests between two real QEMUs on this machine, each with a deadline and a floor under its CPU that can be kept
(${DEADLINE_CASES.length} of them), at aggression 1, and measures from outside whether they were kept and what that has cost, beside the least
possible harm; and plays the oracle's plan on the same guests, which shows what of it can be had on QEMU. A run that is in the
results file is not done again. Needs what bench:convergence needs.

  --runs N            of each case (1)
  --however-busy      neither waits for a quiet machine nor does a disturbed run again
  --results FILE      one JSON line for each run (${DEFAULT_RESULTS})
  --report DIR        where --report-only writes (${DEFAULT_REPORT})
  --report-only       measures nothing; writes the table from the results file
`;

async function main(): Promise<number> {
  const { values } = parsed(process.argv.slice(2));
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  const runs = Number(values.runs);
  if (!Number.isInteger(runs) || runs < 1 || runs > 1_000) {
    throw new UsageError(`--runs: ${JSON.stringify(values.runs)} is no whole number from 1 to 1000`);
  }
  const howeverBusy = values['however-busy'];
  if (!values['report-only']) {
    await carryOut({
      results: values.results,
      terms: { bandwidthBytesPerSec: 40 * MIB, maxStallMs: MAX_STALL_MS, limitMs: LIMIT_MS },
      howeverBusy,
      stillToDo: (results) => stillToDoOf(orders(runs), howeverBusy, results).filter(isPossible(counted(results))),
      contenderOf: (order) => contenderOf(order, values.results),
    });
  }
  const results = counted(readResults(values.results));
  process.stdout.write(deadlinesTable(results));
  if (values['report-only']) {
    mkdirSync(values.report, { recursive: true });
    const path = join(values.report, 'deadlines.md');
    writeFileSync(path, deadlinesMarkdown(results));
    process.stdout.write(`${path}\n`);
  }
  return results.some(({ memoryFaults }) => memoryFaults.length > 0) ? 1 : 0;
}

function orders(runs: number): Order[] {
  return Array.from({ length: runs }, (_, index) =>
    // The plans are for guests as they were seen by then.
    [caseName, planName].flatMap((nameOf) =>
      DEADLINE_CASES.map((one) => ({ profile: one.profile, contender: nameOf(one), run: index + 1 })),
    ),
  ).flat();
}

/** Plans are for guests that were seen, and there may be none for what one was seen to write. */
function isPossible(results: readonly Result[]): (order: Order) => boolean {
  return ({ profile, contender }) => {
    const wanted = DEADLINE_CASES.find((one) => one.profile === profile && planName(one) === contender);
    return wanted === undefined || planFor(wanted, results) !== null;
  };
}

/** A floor that somebody means: it does not give way to the time. */
function contenderOf({ contender, profile }: Order, results: string): Contender {
  const wanted = DEADLINE_CASES.find(
    (one) => one.profile === profile && [caseName, planName].some((nameOf) => nameOf(one) === contender),
  );
  if (wanted === undefined) throw new Error(`there is no case ${contender}`);
  const terms: Partial<Policy> = {
    controller: 'leastHarm',
    aggression: 1,
    minCpuShare: wanted.floor,
    precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
  };
  if (contender === caseName(wanted)) return ours(contender, '', { ...terms, maxTimeMs: wanted.maxTimeMs });
  const plan = planFor(wanted, counted(readResults(results)));
  if (plan === null) throw new Error(`${contender}: the oracle knows no plan`);
  // Whoever plays it has all the time there is: that it ends later than planned is to be seen.
  return planned(contender, plan, { ...terms, maxTimeMs: LIMIT_MS });
}

/** By case and the runs that it is made from: making one takes up to a second. */
const plans = new Map<string, readonly number[] | null>();

/** null: its guest has not been seen yet, or cannot be moved so. */
function planFor(wanted: DeadlineCase, results: readonly Result[]): readonly number[] | null {
  const runs = results.filter((one) => one.profile === wanted.profile && one.contender === caseName(wanted));
  const key = [wanted.profile, caseName(wanted), ...runs.map(({ at }) => at)].join(' ');
  const known = plans.get(key);
  if (known !== undefined) return known;
  const least = leastPossible(runs, wanted);
  const plan = least?.feasible === true ? least.shares : null;
  plans.set(key, plan);
  return plan;
}

function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        runs: { type: 'string', default: '1' },
        results: { type: 'string', default: DEFAULT_RESULTS },
        'report-only': { type: 'boolean', default: false },
        'however-busy': { type: 'boolean', default: false },
        report: { type: 'string', default: DEFAULT_REPORT },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

await runMain(main);
