/**
 * Text for a terminal: how wide it is, how it is cut and padded, colours, and names made harmless. Pure; it knows nothing
 * of operations.
 */

export { counted, printable } from '../domain/format.ts';

export type Colour = 'red' | 'green' | 'yellow' | 'cyan' | 'dim' | 'bold';
const SGR: Readonly<Record<Colour, readonly [number, number]>> = {
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
  dim: [2, 22],
  bold: [1, 22],
};
export type Paint = (colour: Colour, text: string) => string;

export const plain: Paint = (_colour, text) => text;
export const ansi: Paint = (colour, text) => `\u001b[${SGR[colour][0]}m${text}\u001b[${SGR[colour][1]}m`;

/** https://no-color.org: any non-empty value switches colours off. */
export function paintFor(env: NodeJS.ProcessEnv, isTty: boolean): Paint {
  const noColour = env['NO_COLOR'];
  return isTty && (noColour === undefined || noColour === '') && env['TERM'] !== 'dumb' ? ansi : plain;
}

const graphemes = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
const WIDE =
  /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1faff}\u{20000}-\u{3fffd}]/u;
const ZERO = /^[\p{Mn}\p{Me}\p{Cf}]+$/u;

function graphemeWidth(grapheme: string): number {
  if (ZERO.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}

/** Columns that a text takes, without its colours. */
export function displayWidth(text: string): number {
  const bare = withoutColours(text);
  if (/^[\u0020-\u007e]*$/.test(bare)) return bare.length;
  let width = 0;
  for (const { segment } of graphemes.segment(bare)) width += graphemeWidth(segment);
  return width;
}

export function withoutColours(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character starts a colour
  return text.replace(/\u001b\[[0-9;]*m/g, '');
}

/** At most `columns` wide; what was cut shows as `…`. For text without colours. */
export function cut(text: string, columns: number): string {
  if (columns <= 0) return '';
  if (displayWidth(text) <= columns) return text;
  let out = '';
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment);
    if (width + next > columns - 1) break;
    out += segment;
    width += next;
  }
  return `${out}…`;
}

/** Exactly `columns` wide: cut, or filled with blanks. For text without colours. */
export function pad(text: string, columns: number, align: 'left' | 'right' = 'left'): string {
  const short = cut(text, columns);
  const blanks = ' '.repeat(Math.max(0, columns - displayWidth(short)));
  return align === 'left' ? short + blanks : blanks + short;
}

/** A part of a line with its colour, so that a line is laid out and cut before it is coloured. */
export interface Span {
  readonly text: string;
  readonly colour?: Colour | undefined;
}

/** Spans one after the other, at most `columns` wide in all. */
export function joinSpans(spans: readonly Span[], columns: number, paint: Paint): string {
  let left = columns;
  let out = '';
  for (const span of spans) {
    if (left <= 0) break;
    const text = cut(span.text, left);
    left -= displayWidth(text);
    out += span.colour === undefined ? text : paint(span.colour, text);
    if (text !== span.text) break;
  }
  return out;
}

/** A name as it can be pasted into a shell. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_./:=@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
