/** docs/reliability.md: which faults were met in which states, how often, and what came of it. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { markdownTable } from '../../bench/markdown.ts';
import { FAULTS } from './faults.ts';
import { type ChaosResult, readResults } from './results.ts';
import { STEPS } from './steps.ts';

const path = (name: string): string => fileURLToPath(new URL(`../../../docs/${name}`, import.meta.url));
export const RESULTS = path('reliability.jsonl');
const REPORT = path('reliability.md');
const BEGIN = '<!-- what `npm run chaos` writes begins here -->';
const END = '<!-- and ends here -->';

/** Between its marks; what people wrote around them stays. */
export function writeReport(): void {
  const before = existsSync(REPORT) ? readFileSync(REPORT, 'utf8') : `${BEGIN}\n${END}\n`;
  const [from, to] = [before.indexOf(BEGIN), before.indexOf(END)];
  if (from < 0 || to < from) throw new Error(`${REPORT} has no "${BEGIN}" and "${END}"`);
  const text = reportText(readResults(RESULTS));
  writeFileSync(REPORT, `${before.slice(0, from)}${BEGIN}\n\n${text}\n${before.slice(to)}`);
}

/** Each cell: how often it was played, and how often something was wrong, if ever. */
export function reportText(results: readonly ChaosResult[]): string {
  const rows = FAULTS.map((fault) => [
    fault.name,
    ...STEPS.map((step) => {
      const those = results.filter((one) => one.step === step && one.fault === fault.name);
      const wrong = those.filter(({ problems }) => problems.length > 0).length;
      if (those.length === 0) return '-';
      const idle = those.filter(({ hit, problems }) => !hit && problems.length === 0).length;
      const words = [
        ...(idle === those.length ? ['nothing there'] : [String(those.length)]),
        ...(wrong === 0 ? [] : [`**${wrong} wrong**`]),
      ];
      return words.join(', ');
    }),
  ]);
  const wrong = results.filter(({ problems }) => problems.length > 0);
  const lost = results.filter(({ lost }) => lost.length > 0);
  return [
    `${results.length} runs, ${results.length - wrong.length} of them with nothing wrong. In ${lost.length} the guest ended with the QEMU process that was killed, and the operation said so.`,
    '',
    markdownTable(['fault', ...STEPS], rows),
    ...(wrong.length === 0 ? [] : ['', 'What was wrong:', '', ...wrong.map(wrongLine)]),
    '',
    '`nothing there`: in that state there was nothing to strike; the move had to end well all the same.',
    '',
    ...FAULTS.map(({ name, what }) => `- \`${name}\`: ${what}`),
    '',
  ].join('\n');
}

function wrongLine({ run, step, fault, problems }: ChaosResult): string {
  return `- ${step} ${fault} (${run === 'table' ? run : `seed ${run}`}): ${problems.join('; ')}`;
}
