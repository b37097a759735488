/** Writes what `--report-only` is for: Markdown, JSON and the chart. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { chart, type Line, typical } from './chart.ts';
import { CHARTED_OURS, CHARTED_PEER, CHARTED_PROFILE, GUEST } from './charted.ts';
import type { Result } from './results.ts';
import { predictionErrors, summarise } from './summary.ts';
import { comparisonsOf, markdown } from './tables.ts';

/** The files written. */
export function writeReport(directory: string, results: readonly Result[]): string[] {
  mkdirSync(directory, { recursive: true });
  const written: string[] = [];
  const write = (name: string, text: string): void => {
    const path = join(directory, name);
    writeFileSync(path, text);
    written.push(path);
  };
  write('convergence.md', markdown(results));
  const summaries = summarise(results);
  const json = {
    summaries,
    comparisons: comparisonsOf(summaries),
    predictions: predictionErrors(results),
    runs: results.map(({ trace, ...rest }) => rest),
  };
  write('convergence.json', `${JSON.stringify(json, null, 1)}\n`);
  const lines = linesOf(results);
  if (lines.length === 2) write('hot.svg', chart(lines, GUEST));
  return written;
}

function linesOf(results: readonly Result[]): Line[] {
  const of = (contender: string): Result | undefined =>
    typical(results.filter((one) => one.profile === CHARTED_PROFILE && one.contender === contender));
  const name = CHARTED_OURS.find((contender) => of(contender) !== undefined);
  const ours = name === undefined ? undefined : of(name);
  const peer = of(CHARTED_PEER);
  if (ours === undefined || peer === undefined || name === undefined) return [];
  return [
    { label: name.startsWith('leastHarm') ? 'hostevac' : `hostevac (${name})`, kind: 'ours', result: ours },
    { label: "QEMU's auto-converge", kind: 'peer', result: peer },
  ];
}
