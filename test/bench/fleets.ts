/**
 * Entry of `npm run bench:fleets`: hosts of simulated fleets emptied by ours and by the rules of others, in virtual time,
 * beside the lower bound; then the table. `--seeds N` (default 5), `--scenarios a,b`, `--report-only`. Interrupted, it goes
 * on where it was.
 */
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { z } from 'zod';
import { fleetSchema } from '../../src/domain/fleet.ts';
import { initialState } from '../../src/hypervisors/simulated/step.ts';
import { boundOf, type Emptied, heldAtFloor, pagesOnce } from './fleets/books.ts';
import { ours } from './fleets/ours.ts';
import { reportText, tableOf } from './fleets/report.ts';
import { appendResult, type Result, readResults } from './fleets/results.ts';
import { byRule, RULES } from './fleets/rules.ts';
import { readScenario, scenarioNames } from './fleets/scenario.ts';
import { UsageError } from './options.ts';
import { runMain } from './series.ts';

const RESULTS = 'docs/benchmarks/fleets.jsonl';
const REPORT = 'docs/benchmarks/fleets.md';
/** Beside the sources: the compiler takes no YAML along. */
const SCENARIOS = 'test/bench/fleets/scenarios';

const taskSchema = z.object({ scenario: z.string(), seed: z.number() });
type Task = z.infer<typeof taskSchema>;

async function played({ scenario: name, seed }: Task): Promise<Result> {
  const scenario = readScenario(SCENARIOS, name, seed);
  const fleet = fleetSchema.parse(scenario.fleet);
  const state = initialState(fleet);
  const bound = boundOf(fleet, state, scenario.evacuate, pagesOnce);
  const held = boundOf(fleet, state, scenario.evacuate, heldAtFloor);
  const began = performance.now();
  const { destinations, notes, ...emptied } = await ours(scenario, 'maintenance');
  const computeMs = performance.now() - began;
  const { destinations: _, notes: hurried, ...emergency } = await ours(scenario, 'emergency');
  const outcomes: Record<string, Emptied> = { ours: emptied, emergency };
  // Of guests that ours left behind nobody knows where they would go.
  if (emptied.done) for (const rule of RULES) outcomes[rule.name] = await byRule(scenario, rule, destinations);
  return {
    scenario: name,
    title: scenario.title,
    seed,
    hosts: fleet.hosts.length,
    emptied: scenario.evacuate.length,
    guests: destinations.size,
    boundMs: bound.ms,
    boundBy: bound.by ?? 'nothing',
    heldMs: held.ms,
    computeMs,
    outcomes,
    notes: [...notes, ...hurried],
  };
}

function optionsOf(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seeds: { type: 'string', default: '5' },
      scenarios: { type: 'string' },
      'report-only': { type: 'boolean', default: false },
    },
  });
  const known = scenarioNames(SCENARIOS);
  const named = values.scenarios?.split(',') ?? known;
  const unknown = named.filter((name) => !known.includes(name));
  if (unknown.length > 0)
    throw new UsageError(`--scenarios: there is no ${unknown.join(', ')}; there are ${known.join(', ')}`);
  const seeds = Number(values.seeds);
  if (!Number.isInteger(seeds) || seeds < 1)
    throw new UsageError(`--seeds: ${JSON.stringify(values.seeds)} is no whole number of at least 1`);
  return { named, seeds, reportOnly: values['report-only'] };
}

async function main(): Promise<number> {
  const { named, seeds, reportOnly } = optionsOf(process.argv.slice(2));
  const known = readResults(RESULTS);
  const tasks = named.flatMap((scenario) =>
    Array.from({ length: seeds }, (_, index) => ({ scenario, seed: index + 1 })).filter(
      (task) => !known.some((one) => one.scenario === task.scenario && one.seed === task.seed),
    ),
  );
  if (!reportOnly) await playAll(tasks);
  const results = readResults(RESULTS);
  process.stdout.write(tableOf(results));
  if (reportOnly) writeFileSync(REPORT, reportText(results));
  return results.some(({ outcomes, notes }) => outcomes['ours']?.done !== true || notes.length > 0) ? 1 : 0;
}

async function playAll(tasks: Task[]): Promise<void> {
  const lane = async (): Promise<void> => {
    const worker = new Worker(fileURLToPath(import.meta.url));
    try {
      for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
        const result = await answered(worker, task);
        appendResult(RESULTS, result);
        const { outcomes, boundMs, notes, computeMs } = result;
        const said = Object.entries(outcomes).map(
          ([name, { makespanMs, harmCpuMs, done }]) =>
            `${name} ${done ? (makespanMs / boundMs).toFixed(2) : 'NOT DONE'} (${(harmCpuMs / 1_000).toFixed(1)})`,
        );
        process.stdout.write(
          `${task.scenario} ${task.seed}: bound ${(boundMs / 1_000).toFixed(1)} s by ${result.boundBy}; times it (harm CPU-s): ${said.join(', ')}; ${(computeMs / 1_000).toFixed(1)} s to compute ours ${notes.join('; ')}\n`,
        );
      }
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: Math.min(tasks.length, availableParallelism()) }, lane));
}

function answered(worker: Worker, task: Task): Promise<Result> {
  return new Promise((resolve, reject) => {
    const heard = (result: Result): void => {
      worker.off('error', reject);
      resolve(result);
    };
    worker.once('message', heard).once('error', reject);
    worker.postMessage(task);
  });
}

async function work(): Promise<void> {
  parentPort?.on('message', async (task: unknown) => {
    parentPort?.postMessage(await played(taskSchema.parse(task)));
  });
}

await (isMainThread ? runMain(main) : work());
