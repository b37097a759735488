/**
 * A series of runs of which each is a line in a file of results: which are still to be done, one after the other, on a
 * machine that nobody else uses. Interrupted anywhere, it goes on where it was.
 */
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
import type { Contender } from './contenders/contender.ts';
import { estimate, hours, UsageError } from './options.ts';
import { appendResult, type Order, type Result, readResults } from './results.ts';
import { type RunContext, runOnce, type Terms } from './run.ts';

/** Sockets' paths are short, so is this one; the same each time, so that what a killed run has left is found and ended. */
const STATE_DIR = '/tmp/hostevac-bench';
const QUIET_CORES = 0.5;
const QUIET_LOOK_MS = 1_000;
const QUIET_LIMIT_MS = 60_000;
const FAULTS_IN_A_ROW = 3;

export interface Series {
  /** Its file of results. */
  readonly results: string;
  readonly terms: Terms;
  readonly howeverBusy: boolean;
  /** Given what there is already. */
  stillToDo(results: readonly Result[]): readonly Order[];
  contenderOf(order: Order): Contender;
}

/** Throws `UsageError` for a file with runs under other terms, `Interrupted`, and a fault that comes three times in a row. */
export async function carryOut(series: Series): Promise<void> {
  refuseOtherTerms(series);
  const results = readResults(series.results);
  const todo = series.stillToDo(results);
  if (todo.length === 0) return;
  const { likelySec, mostSec } = estimate(todo.length, series.terms.limitMs);
  say(`${todo.length} runs, about ${hours(likelySec)}, at the most ${hours(mostSec)}; Ctrl-C is harmless`);
  const interruption = catchInterrupt();
  // The last resort of a second Ctrl-C, of a fault here: no QEMU stays.
  process.on('exit', killLeft);
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  try {
    await stopLab(STATE_DIR);
    const machine = await machineOf(results[0], interruption.signal);
    const { signal } = interruption;
    await untilDone(series, { stateDir: STATE_DIR, machine, terms: series.terms, signal });
  } finally {
    await stopLab(STATE_DIR);
    interruption.dispose();
  }
}

/** The entry of a benchmark: its exit code, also when it was interrupted or asked for what there is not. */
export async function runMain(main: () => Promise<number>): Promise<void> {
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
}

function refuseOtherTerms({ results: path, terms }: Series): void {
  const other = readResults(path).find((result) => JSON.stringify(result.terms) !== JSON.stringify(terms));
  if (other === undefined) return;
  const said = JSON.stringify(other.terms);
  throw new UsageError(`${resolve(path)} holds runs under other terms (${said}); name another file with --results`);
}

async function untilDone(series: Series, context: RunContext): Promise<void> {
  let faults = 0;
  for (;;) {
    const [order, ...rest] = series.stillToDo(readResults(series.results));
    if (order === undefined) return;
    if (!series.howeverBusy) await untilQuiet(context.signal);
    const label = `${order.profile} ${order.contender} ${order.run}`;
    try {
      const result = await runOnce(context, order, series.contenderOf(order));
      appendResult(series.results, result);
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
  const {
    done,
    wallMs,
    harmCpuMs,
    longestStretchMs,
    longestStretchAtMs,
    othersCores: others,
    disturbed,
    memoryFaults,
    note,
  } = result;
  const words = [
    done ? `${(wallMs / 1_000).toFixed(1)} s` : 'not done',
    `harm ${(harmCpuMs / 1_000).toFixed(2)} s`,
    `longest stretch ${longestStretchMs.toFixed(0)} ms at ${((longestStretchAtMs ?? 0) / 1_000).toFixed(2)} s`,
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
