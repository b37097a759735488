/** The table of emptied simulated fleets. Pure. */
import { markdownTable } from '../markdown.ts';
import type { Result } from './results.ts';
import { RULES } from './rules.ts';

const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
};

const spread = (values: readonly number[], digits: number): string =>
  values.length === 0
    ? '-'
    : `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}..${Math.max(...values).toFixed(digits)})`;

type Outcome = Result['outcomes'][string];

/** Of the runs of a scenario in which both are done. */
function ratios(results: readonly Result[], to: string, of: (outcome: Outcome) => number): number[] {
  return results.flatMap(({ outcomes }) => {
    const [ours, theirs] = [outcomes['ours'], outcomes[to]];
    return ours?.done === true && theirs?.done === true ? [of(ours) / of(theirs)] : [];
  });
}

function toBound(results: readonly Result[], who: string): number[] {
  return results.flatMap(({ outcomes, boundMs }) => {
    const outcome = outcomes[who];
    return outcome?.done === true ? [outcome.makespanMs / boundMs] : [];
  });
}

export function tableOf(results: readonly Result[]): string {
  const names = [...new Set(results.map(({ scenario }) => scenario))].sort();
  const row = (title: string, those: readonly Result[]): string[] => [
    title,
    spread(
      those.map(({ guests }) => guests),
      0,
    ),
    spread(
      those.map(({ boundMs }) => boundMs / 1_000),
      1,
    ),
    spread(toBound(those, 'ours'), 2),
    ...RULES.flatMap(({ name }) => [
      spread(toBound(those, name), 2),
      spread(
        ratios(those, name, ({ makespanMs }) => makespanMs),
        2,
      ),
      spread(
        ratios(those, name, ({ harmCpuMs }) => harmCpuMs),
        2,
      ),
    ]),
  ];
  const rows = names.map((name) => {
    const those = results.filter(({ scenario }) => scenario === name);
    return row(`\`${name}\`: ${those[0]?.title}`, those);
  });
  const header = [
    'scenario',
    'guests',
    'lower bound s',
    'ours to it',
    ...RULES.flatMap(({ name }) => [`${name} to it`, `ours to ${name}`, `harm, ours to ${name}`]),
  ];
  return markdownTable(header, [...rows, row('all', results)]);
}

export function reportText(results: readonly Result[]): string {
  const rules = RULES.map(({ name, what }) => `- \`${name}\`: ${what}, auto-converge with QEMU's defaults`).join('\n');
  const done = results.filter(({ outcomes }) => outcomes['ours']?.done === true).length;
  return `# Emptying hosts of simulated fleets

Written by \`npm run bench:fleets -- --report-only\` from what \`npm run bench:fleets\` played, in virtual time: the product's
workflows, planner and budget (policy \`maintenance\`) on fleets that are drawn from the files in test/bench/fleets/scenarios,
each with several seeds. Medians, and the spread. Ours was done in ${done} of ${results.length}.

${tableOf(results)}
${rules}

The rules get the destinations that ours chose, so that only order, rates and throttling differ. Makespan: from the requests,
all at once, to the end of the last migration. Lower bound: what the guests have in use, each page once, over the links that
it must pass, to wherever there is room (src/bandwidth/lower-bound.ts); it does not know that guests write. Harm: CPU time
that the guests did not get, counted at the simulated fleet. Nothing takes time there but bytes, looks and the product's own
waits: no process starts, no Redis answers late.
`;
}
