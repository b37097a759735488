/** Entry of `npm run bench:deadlines`: real guests, each with a deadline and a floor that the oracle calls possible. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ours } from './contenders/ours.ts';
import { caseName, DEADLINE_CASES } from './deadline-cases.ts';
import { deadlinesMarkdown, deadlinesTable } from './deadlines-report.ts';
import { LIMIT_MS, MAX_STALL_MS, UsageError } from './options.ts';
import { counted, type Order, readResults, stillToDoOf } from './results.ts';
import { carryOut, runMain } from './series.ts';

const MIB = 2 ** 20;
const DEFAULT_RESULTS = 'docs/benchmarks/deadlines.jsonl';
const DEFAULT_REPORT = 'docs/benchmarks';

const HELP = `npm run bench:deadlines -- [options]

Migrates lab guests between two real QEMUs on this machine, each with a deadline and a floor under its CPU that can be kept
(${DEADLINE_CASES.length} of them), at aggression 1, and measures from outside whether they were kept and what that has cost, beside the least
possible harm. A run that is in the results file is not done again. Needs what bench:convergence needs.

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
      stillToDo: (results) => stillToDoOf(orders(runs), howeverBusy, results),
      contenderOf,
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
    DEADLINE_CASES.map((one) => ({ profile: one.profile, contender: caseName(one), run: index + 1 })),
  ).flat();
}

/** A floor that somebody means: it does not give way to the time. */
function contenderOf({ contender }: Order) {
  const wanted = DEADLINE_CASES.find((one) => caseName(one) === contender);
  if (wanted === undefined) throw new Error(`there is no case ${contender}`);
  return ours(contender, '', {
    controller: 'leastHarm',
    aggression: 1,
    minCpuShare: wanted.floor,
    maxTimeMs: wanted.maxTimeMs,
    precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
  });
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
