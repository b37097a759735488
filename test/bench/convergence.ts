/** Entry of `npm run bench:convergence`: which runs are still to be done, one after the other, then the report. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { catchInterrupt, exitCodeOfSignal, Interrupted } from '../../src/cli/signals.ts';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { type Machine, probeMachine, qemuVersion } from '../../src/lab/guests.ts';
import { labDirOf } from '../../src/lab/manifest.ts';
import { qemusOf } from '../../src/lab/processes.ts';
import { stopLab } from '../../src/lab/stop.ts';
import { cpuTimes, othersCores } from '../lab/quiet.ts';
import { CONTENDERS } from './contenders/all.ts';
import { estimate, helpText, hours, type Options, optionsOf, UsageError } from './options.ts';
import { appendResult, counted, type Order, type Result, readResults, stillToDo } from './results.ts';
import { type RunContext, runOnce, type Terms } from './run.ts';
import { terminalTable } from './tables.ts';
import { writeReport } from './write-report.ts';

const LIMIT_MS = 60_000;
const MAX_STALL_MS = 300;
/** Sockets' paths are short, so is this one; the same each time, so that what a killed run has left is found and ended. */
const STATE_DIR = '/tmp/hostevac-bench';
const QUIET_CORES = 0.5;
const QUIET_LOOK_MS = 1_000;
const QUIET_LIMIT_MS = 60_000;
const FAULTS_IN_A_ROW = 3;

async function main(): Promise<number> {
  const options = optionsOf(process.argv.slice(2));
  if (options.help) {
    process.stdout.write(helpText(LIMIT_MS));
    return 0;
  }
  const terms: Terms = {
    bandwidthBytesPerSec: options.bandwidthBytesPerSec,
    maxStallMs: MAX_STALL_MS,
    limitMs: LIMIT_MS,
  };
  refuseOtherTerms(options.results, readResults(options.results), terms);
  if (!options.reportOnly) await runAll(options, terms);
  const results = counted(readResults(options.results)).filter(
    ({ profile, contender }) => options.profiles.includes(profile) && options.contenders.includes(contender),
  );
  process.stdout.write(terminalTable(results));
  if (options.reportOnly) for (const path of writeReport(options.report, results)) process.stdout.write(`${path}\n`);
  return results.some(({ memoryFaults }) => memoryFaults.length > 0) ? 1 : 0;
}

function refuseOtherTerms(path: string, results: readonly Result[], terms: Terms): void {
  const other = results.find((result) => JSON.stringify(result.terms) !== JSON.stringify(terms));
  if (other === undefined) return;
  const said = JSON.stringify(other.terms);
  throw new UsageError(`${resolve(path)} holds runs under other terms (${said}); name another file with --results`);
}

async function runAll(options: Options, terms: Terms): Promise<void> {
  const todo = stillToDo(options, readResults(options.results));
  if (todo.length === 0) return;
  const { likelySec, mostSec } = estimate(todo.length, LIMIT_MS);
  say(`${todo.length} runs, about ${hours(likelySec)}, at the most ${hours(mostSec)}; Ctrl-C is harmless`);
  const interruption = catchInterrupt();
  // The last resort of a second Ctrl-C, of a fault here: no QEMU stays.
  process.on('exit', killLeft);
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  try {
    await stopLab(STATE_DIR);
    const machine = await machineOf(readResults(options.results)[0], interruption.signal);
    const context: RunContext = { stateDir: STATE_DIR, machine, terms, signal: interruption.signal };
    await untilDone(options, context);
  } finally {
    await stopLab(STATE_DIR);
    interruption.dispose();
  }
}

async function untilDone(options: Options, context: RunContext): Promise<void> {
  let faults = 0;
  for (;;) {
    const [order, ...rest] = stillToDo(options, readResults(options.results));
    if (order === undefined) return;
    if (!options.howeverBusy) await untilQuiet(context.signal);
    const label = `${order.profile} ${order.contender} ${order.run}`;
    try {
      const result = await once(context, order);
      appendResult(options.results, result);
      faults = 0;
      say(`${label}: ${inShort(result)} (${rest.length} left)`);
    } catch (error) {
      context.signal.throwIfAborted();
      faults += 1;
      const words = error instanceof Error ? (error.stack ?? error.message) : String(error);
      say(`${label}: could not be carried out: ${words}`);
      if (faults >= FAULTS_IN_A_ROW) throw error;
    }
  }
}

function once(context: RunContext, order: Order): Promise<Result> {
  const contender = CONTENDERS.find(({ name }) => name === order.contender);
  if (contender === undefined) throw new Error(`there is no contender ${order.contender}`);
  return runOnce(context, order, contender);
}

/** The same guests in all runs, also of a benchmark that goes on after an interruption. */
async function machineOf(first: Result | undefined, signal: AbortSignal): Promise<RunContext['machine']> {
  const version = await qemuVersion(process.env['PATH']);
  if (first !== undefined) return { ...first.machine, qemu: version.text, accel: 'tcg' };
  const scratch = mkdtempSync(join(tmpdir(), 'hevb-'));
  try {
    const machine: Machine = await probeMachine('tcg', version, scratch, signal);
    return { ...machine, qemu: version.text };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Goes on after a while all the same: the run says of itself that it was disturbed. */
async function untilQuiet(signal: AbortSignal): Promise<void> {
  for (const since = performance.now(); performance.now() - since < QUIET_LIMIT_MS; ) {
    const before = cpuTimes([]);
    await abortableSleep(QUIET_LOOK_MS, signal);
    signal.throwIfAborted();
    if (othersCores(before, cpuTimes([])) < QUIET_CORES) return;
  }
  say(`others use more than ${QUIET_CORES} of ${availableParallelism()} cores; measuring all the same`);
}

function inShort(result: Result): string {
  const { done, wallMs, harmCpuMs, longestStretchMs, othersCores: others, disturbed, memoryFaults, note } = result;
  const words = [
    done ? `${(wallMs / 1_000).toFixed(1)} s` : 'not done',
    `harm ${(harmCpuMs / 1_000).toFixed(2)} s`,
    `longest stretch ${longestStretchMs.toFixed(0)} ms`,
    `others ${others.toFixed(2)} cores${disturbed ? ', disturbed' : ''}`,
    ...(memoryFaults.length > 0 ? [`MEMORY: ${memoryFaults[0]}`] : []),
    ...(note === null ? [] : [note]),
  ];
  return words.join(', ');
}

function killLeft(): void {
  for (const { pid } of qemusOf(labDirOf(STATE_DIR))) process.kill(pid, 'SIGKILL');
}

function say(line: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error instanceof Interrupted) {
    say('interrupted; the same command goes on from here');
    process.exitCode = exitCodeOfSignal(error.signal);
  } else if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  } else throw error;
}
