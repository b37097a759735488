/** The table of the benchmark of evacuations. Pure. */
import { markdownTable } from '../markdown.ts';
import type { Result } from './results.ts';

const MIB = 2 ** 20;

interface Spread {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((one, other) => one - other);
  const middle = sorted.length / 2;
  const [left = 0, right = 0] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]];
  return { median: (left + right) / 2, low: sorted[0] ?? 0, high: sorted.at(-1) ?? 0 };
}

const shown = ({ median, low, high }: Spread, digits: number): string =>
  `${median.toFixed(digits)} (${low.toFixed(digits)}..${high.toFixed(digits)})`;

export function tableOf(results: readonly Result[], rules: readonly { readonly name: string }[]): string {
  const of = (name: string): Result[] => results.filter(({ rule }) => rule === name);
  const ours = of('ours').filter(({ done }) => done);
  const rows = rules.flatMap(({ name }) => {
    const all = of(name);
    if (all.length === 0) return [];
    const those = all.filter(({ done }) => done);
    if (those.length === 0) return [[name, `0/${all.length}`, ...Array.from({ length: 9 }, () => '-')]];
    const spread = (value: (result: Result) => number): Spread => spreadOf(those.map(value));
    const [makespan, harm] = [spread((one) => one.makespanMs / 1_000), spread((one) => one.harmCpuMs / 1_000)];
    const against = (theirs: Spread, value: (result: Result) => number): string =>
      name === 'ours' || ours.length === 0 ? '' : (spreadOf(ours.map(value)).median / theirs.median).toFixed(2);
    return [
      [
        name,
        `${those.length}/${all.length}`,
        shown(makespan, 1),
        against(makespan, (one) => one.makespanMs / 1_000),
        shown(
          spread((one) => one.makespanMs / one.leastMs),
          2,
        ),
        shown(harm, 2),
        against(harm, (one) => one.harmCpuMs / 1_000),
        shown(
          spread((one) => one.sentBytes / MIB),
          0,
        ),
        shown(
          spread((one) => one.meanEgress / MIB),
          1,
        ),
        shown(
          spread((one) => one.mostEgress / MIB),
          1,
        ),
        String(all.filter(({ faults, notes }) => faults.length > 0 || notes.length > 0).length),
      ],
    ];
  });
  const header = [
    'rule',
    'done',
    'makespan s',
    'ours to it',
    'to the lower bound',
    'harm CPU-s',
    'ours to it',
    'sent MiB',
    'egress MiB/s',
    'most in 10 s',
    'with a note',
  ];
  return markdownTable(header, rows);
}
