/** A report as text: one line per finding, below each that is to be mended what to do, and the sum at the end. Pure. */
import type { Report, Verdict } from '../doctor/finding.ts';
import { type Colour, counted, displayWidth, type Paint, pad, printable } from './text.ts';

const WORDS: Readonly<Record<Verdict, { readonly text: string; readonly colour: Colour }>> = {
  ok: { text: 'ok', colour: 'green' },
  warning: { text: 'WARNING', colour: 'yellow' },
  fault: { text: 'FAULT', colour: 'red' },
  notChecked: { text: 'not checked', colour: 'dim' },
};
const GAP = '  ';

/** Nothing is cut: a remedy that is not read to its end mends nothing. */
export function reportLines({ findings }: Report, paint: Paint): string[] {
  const cells = findings.map(({ id, subject, verdict, found, remedy }) => ({
    word: WORDS[verdict],
    id: printable(id),
    subject: printable(subject),
    found: printable(found),
    remedy: remedy === null ? null : printable(remedy),
  }));
  const width = (texts: readonly string[]): number => Math.max(...texts.map(displayWidth));
  const [words, ids, subjects] = [
    width(['VERDICT', ...cells.map(({ word }) => word.text)]),
    width(['CHECK', ...cells.map(({ id }) => id)]),
    width(['OF', ...cells.map(({ subject }) => subject)]),
  ];
  const head = [pad('VERDICT', words), pad('CHECK', ids), pad('OF', subjects), 'FOUND'].join(GAP);
  return [
    paint('bold', head),
    ...cells.flatMap(({ word, id, subject, found, remedy }) => [
      [paint(word.colour, pad(word.text, words)), pad(id, ids), pad(subject, subjects), found].join(GAP),
      ...(remedy === null ? [] : [`${' '.repeat(words)}${GAP}${paint('bold', `-> ${remedy}`)}`]),
    ]),
    '',
    summary(findings),
  ];
}

function summary(findings: Report['findings']): string {
  const number = (verdict: Verdict): number => findings.filter((finding) => finding.verdict === verdict).length;
  const [faults, warnings, unchecked] = [number('fault'), number('warning'), number('notChecked')];
  const rest = unchecked === 0 ? '' : `; ${unchecked} not checked`;
  if (faults + warnings === 0) return `nothing is wrong (${number('ok')} checked${rest})`;
  return `${counted(faults, 'fault')}, ${counted(warnings, 'warning')}, ${number('ok')} ok${rest}`;
}
