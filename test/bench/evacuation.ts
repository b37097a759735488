/**
 * Entry of `npm run bench:evacuation`: one host with eight guests is emptied to two others, by ours and by the rules of
 * others, in turn; then the table. `--runs N` (default 5), `--rules a,b`, `--report-only`. Interrupted, it goes on where it was.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { catchInterrupt } from '../../src/cli/signals.ts';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { type Machine, probeMachine, qemuVersion } from '../../src/lab/guests.ts';
import { profileNamed } from '../../src/lab/profiles.ts';
import { stopLab } from '../../src/lab/stop.ts';
import { harmCpuMs, meanRate, mostRate, sending } from './evacuation/figures.ts';
import { pagesOnceMs, precopyMs } from './evacuation/least.ts';
import { tableOf } from './evacuation/report.ts';
import { appendResult, type Result, readResults } from './evacuation/results.ts';
import { RULES, type Rule, serve } from './evacuation/rules.ts';
import { EGRESS, GUESTS, Scene } from './evacuation/scene.ts';
import { UsageError } from './options.ts';
import { runMain } from './series.ts';

const RESULTS = 'docs/benchmarks/evacuation.jsonl';
const REPORT = 'docs/benchmarks/evacuation.md';
const STATE_DIR = '/tmp/hostevac-bench-evacuation';
/** Guests that were held back have their CPU back before they are looked at. */
const AFTER_MS = 2_000;
/** Less than this is talk, bytes/s. */
const LEAST_OF_MIGRATION = 2 ** 20;
const TEN_SECONDS_MS = 10_000;
const PROFILES = GUESTS.map(profileNamed);

function optionsOf(args: readonly string[]) {
  const { values } = parseArgs({
    args: [...args],
    options: {
      runs: { type: 'string', default: '5' },
      rules: { type: 'string', default: RULES.map(({ name }) => name).join(',') },
      'report-only': { type: 'boolean', default: false },
    },
  });
  const named = values.rules.split(',');
  const unknown = named.filter((name) => !RULES.some((rule) => rule.name === name));
  if (unknown.length > 0) {
    throw new UsageError(
      `--rules: there is no ${unknown.join(', ')}; there are ${RULES.map(({ name }) => name).join(', ')}`,
    );
  }
  return {
    runs: Number(values.runs),
    rules: RULES.filter(({ name }) => named.includes(name)),
    reportOnly: values['report-only'],
  };
}

async function main(): Promise<number> {
  const { runs, rules, reportOnly } = optionsOf(process.argv.slice(2));
  if (!reportOnly) await carryOut(rules, runs);
  const results = readResults(RESULTS);
  process.stdout.write(tableOf(results, RULES));
  if (reportOnly) writeFileSync(REPORT, reportText(results));
  return results.some(({ faults }) => faults.length > 0) ? 1 : 0;
}

async function carryOut(rules: readonly Rule[], runs: number): Promise<void> {
  const interruption = catchInterrupt();
  const { signal } = interruption;
  mkdirSync(STATE_DIR, { recursive: true, mode: 0o700 });
  try {
    const version = await qemuVersion(process.env['PATH']);
    // The same guests in all runs, also after an interruption.
    const [first] = readResults(RESULTS);
    const machine: Machine =
      first === undefined
        ? await calibrated(version, signal)
        : { accel: 'tcg', loopsPerCpuSec: first.machine.loopsPerCpuSec };
    for (let run = 1; run <= runs; run += 1) {
      for (const rule of rules) {
        if (readResults(RESULTS).some((one) => one.rule === rule.name && one.run === run)) continue;
        const result: Result = await played(rule, run, { machine, qemu: version.text }, signal);
        signal.throwIfAborted();
        appendResult(RESULTS, result);
        const { makespanMs, leastMs, harmCpuMs: harm, meanEgress, mostEgress, faults, notes } = result;
        const rates = [meanEgress, mostEgress].map((rate) => (rate / 2 ** 20).toFixed(1)).join(', at the most ');
        const words = [...faults, ...notes].join('; ');
        process.stdout.write(
          `${rule.name} ${run}: ${(makespanMs / 1_000).toFixed(1)} s, ${(makespanMs / leastMs).toFixed(2)} of the bound, harm ${(harm / 1_000).toFixed(2)} CPU-s, ${rates} MiB/s ${words}\n`,
        );
      }
    }
  } finally {
    await stopLab(STATE_DIR);
    interruption.dispose();
  }
}

async function played(
  rule: Rule,
  run: number,
  { machine, qemu }: { readonly machine: Machine; readonly qemu: string },
  signal: AbortSignal,
): Promise<Result> {
  await stopLab(STATE_DIR);
  const scene = await Scene.open(STATE_DIR, machine, signal);
  let up: ChildProcess | null = null;
  try {
    if (rule.isOurs) up = await serve(scene);
    const before = await scene.counts();
    const fromMs = performance.now();
    const { done, notes, moves } = await rule.empty(scene, signal);
    const makespanMs = performance.now() - fromMs;
    signal.throwIfAborted();
    await abortableSleep(AFTER_MS, signal);
    const after = await scene.counts();
    const faults = await scene.faults();
    const sent = sending(scene.egress, LEAST_OF_MIGRATION) ?? { fromMs, toMs: fromMs };
    const bytes = (at: number): number => scene.egress.findLast(({ atMs }) => atMs <= at)?.bytes ?? 0;
    return {
      rule: rule.name,
      run,
      at: new Date().toISOString(),
      machine: { qemu, cpus: availableParallelism(), loopsPerCpuSec: machine.loopsPerCpuSec },
      done: done && faults.length === 0,
      makespanMs,
      leastMs: pagesOnceMs(PROFILES, EGRESS),
      sendingMs: sent.toMs - sent.fromMs,
      meanEgress: meanRate(scene.egress, sent.fromMs, sent.toMs),
      mostEgress: mostRate(scene.egress, TEN_SECONDS_MS),
      sentBytes: bytes(sent.toMs) - bytes(sent.fromMs),
      harmCpuMs: harmCpuMs(scene.guests, before, after),
      demandCores: scene.guests.reduce((sum, { cores }) => sum + cores, 0),
      moves: [...moves],
      faults,
      notes: [...notes],
    };
  } finally {
    scene.close();
    if (up !== null && up.exitCode === null) {
      const ended = once(up, 'exit');
      up.kill('SIGTERM');
      await ended;
    }
    await stopLab(STATE_DIR);
  }
}

async function calibrated(version: Awaited<ReturnType<typeof qemuVersion>>, signal: AbortSignal): Promise<Machine> {
  const scratch = mkdtempSync(join(tmpdir(), 'hevb-'));
  try {
    return await probeMachine('tcg', version, scratch, signal);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function reportText(results: readonly Result[]): string {
  const { maxStallMs, minCpuShare } = POLICY_PRESETS.maintenance;
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  const once = seconds(pagesOnceMs(PROFILES, EGRESS));
  const precopy = (floor: number): string =>
    seconds(precopyMs(PROFILES, { bandwidthBytesPerSec: EGRESS, maxStallMs, floor }));
  const rules = RULES.map(({ name, what }) => `- \`${name}\`: ${what}`).join('\n');
  return `# Emptying a host: measured

Written by \`npm run bench:evacuation -- --report-only\`. One host of the lab with two \`brisk\`, three \`mild\` and three \`idle\`
guests (docs/lab.md), 40 MiB/s out of it, two hosts to go to. Medians, and the spread.

${tableOf(results, RULES)}
${rules}

Makespan: from the request (ours: from the start of the command \`evacuate\`) to the end of the last migration. Lower bound: what
the guests have in use, each page once, at 40 MiB/s (${once}). With perfect knowledge and all guests at the policy's floor of
${minCpuShare * 100}% from the first byte on, pre-copy takes ${precopy(minCpuShare)} (the benchmark's oracle, one after the other, nothing between them). Harm: CPU time that the guests did not get, as their own counts of their
writes tell it. Egress: at the interface, headers included, from the first byte of a migration to the last. The link itself
carries a tenth more than the 40 MiB/s (docs/lab.md), which only the rule called four is free to use.

What keeps \`emergency\` from 1.2 times the bound (17.3 s; figures of 2026-11-28): its bytes alone, 658 MiB, are 16.4 s of the link;
2.4 s pass before the first of them (0.7 until the command has started beside guests that use 1.2 of the two cores, 0.4 for
the plan and the queue, 0.7 for looks at the first guest, 0.5 for its copy), and five times about 0.25 s between two guests, of
which the first bytes of the next are a part only where its guest loses nothing by that (decision 0034). Bytes could be saved by
slowing guests before their first byte, and were not: it is harm without a promise that it buys.
`;
}

await runMain(main);
