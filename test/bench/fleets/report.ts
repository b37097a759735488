/** The tables of emptied simulated fleets. Pure. */
import { markdownTable } from '../markdown.ts';
import type { Result } from './results.ts';
import { RULES } from './rules.ts';

/** Who empties hosts, ours first. */
const CONTENDERS: readonly { readonly name: string; readonly what: string }[] = [
  { name: 'ours', what: 'the product, policy `maintenance`' },
  { name: 'emergency', what: 'the product, policy `emergency`' },
  ...RULES.map(({ name, what }) => ({ name, what: `${what}, auto-converge with QEMU's defaults` })),
];

type Outcome = Result['outcomes'][string];

function median(values: readonly number[]): number {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  return ((sorted[Math.ceil(middle) - 1] ?? Number.NaN) + (sorted[Math.floor(middle)] ?? Number.NaN)) / 2;
}

function spread(values: readonly number[], digits: number): string {
  if (values.length === 0) return '-';
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return `${median(values).toFixed(digits)} (${low.toFixed(digits)}..${high.toFixed(digits)})`;
}

/** Of those who are done. */
function outcomesOf(results: readonly Result[], who: string): { readonly result: Result; readonly outcome: Outcome }[] {
  return results.flatMap((result) => {
    const outcome = result.outcomes[who];
    return outcome?.done === true ? [{ result, outcome }] : [];
  });
}

/** Ours to theirs, where both are done. */
function ratios(results: readonly Result[], who: string, of: (outcome: Outcome) => number): number[] {
  return outcomesOf(results, who).flatMap(({ result, outcome }) => {
    const ours = result.outcomes['ours'];
    return ours?.done === true ? [of(ours) / of(outcome)] : [];
  });
}

interface Row {
  readonly title: string;
  readonly results: readonly Result[];
}

/** Each scenario, then all. */
function rowsOf(results: readonly Result[]): Row[] {
  const names = [...new Set(results.map(({ scenario }) => scenario))].sort();
  const rows = names.map((name): Row => {
    const those = results.filter(({ scenario }) => scenario === name);
    return { title: `\`${name}\`: ${those[0]?.title}`, results: those };
  });
  return [...rows, { title: 'all', results }];
}

/** How long it takes, in lower bounds. */
function timesTable(results: readonly Result[]): string {
  const rows = rowsOf(results).map(({ title, results: those }) => [
    title,
    String(those.length),
    spread(
      those.map(({ guests }) => guests),
      0,
    ),
    spread(
      those.map(({ boundMs }) => boundMs / 1_000),
      0,
    ),
    spread(
      those.map(({ heldMs, boundMs }) => heldMs / boundMs),
      2,
    ),
    ...CONTENDERS.map(({ name }) =>
      spread(
        outcomesOf(those, name).map(({ result, outcome }) => outcome.makespanMs / result.boundMs),
        2,
      ),
    ),
  ]);
  const header = [
    'scenario',
    'seeds',
    'guests',
    'lower bound s',
    'all at the floor',
    ...CONTENDERS.map(({ name }) => name),
  ];
  return markdownTable(header, rows);
}

/** Ours, `maintenance`, to each of the others. */
function ratiosTable(results: readonly Result[]): string {
  const others = CONTENDERS.filter(({ name }) => name !== 'ours');
  const rows = rowsOf(results).map(({ title, results: those }) => [
    title,
    spread(
      outcomesOf(those, 'ours').map(({ outcome }) => outcome.harmCpuMs / 1_000),
      0,
    ),
    ...others.flatMap(({ name }) => [
      spread(
        ratios(those, name, ({ makespanMs }) => makespanMs),
        2,
      ),
      spread(
        ratios(those, name, ({ harmCpuMs }) => harmCpuMs),
        2,
      ),
    ]),
  ]);
  const header = ['scenario', 'harm CPU-s', ...others.flatMap(({ name }) => [`time to ${name}`, `harm to ${name}`])];
  return markdownTable(header, rows);
}

export function tableOf(results: readonly Result[]): string {
  return `${timesTable(results)}\n${ratiosTable(results)}`;
}

export function reportText(results: readonly Result[]): string {
  const who = CONTENDERS.map(({ name, what }) => `- \`${name}\`: ${what}`).join('\n');
  const done = outcomesOf(results, 'ours').length;
  return `# Emptying hosts of simulated fleets

Written by \`npm run bench:fleets -- --report-only\` from what \`npm run bench:fleets\` played, in virtual time: the product's
workflows, planner and budget on fleets that are drawn from the files in test/bench/fleets/scenarios, each with several seeds.
All hosts are to be emptied at once. Medians, and the spread. Ours was done in ${done} of ${results.length}.

## Time, in lower bounds

${timesTable(results)}
## Ours (\`maintenance\`) to others

${ratiosTable(results)}
${who}

Time: from the requests to the end of the last migration. Lower bound: what the guests have in use, each page once, over the
links that it must pass, to wherever there is room (src/bandwidth/lower-bound.ts); it does not know that guests write, nor that
a host's memory is full sooner than its guests' pages in use say. *All at the floor*: the same for pre-copy that holds every
guest at 10% from the first byte. Harm: CPU time that the guests did not get, counted at the simulated fleet. The rules get the
destinations that \`ours\` chose, so that only order, rates and throttling differ. Nothing takes time there but bytes, looks and
the product's own waits: no process starts, no Redis answers late.
`;
}
