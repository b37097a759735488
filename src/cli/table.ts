/** Tables in text: columns as wide as their content, the flexible one cut to what is left. Pure. */
import { type Colour, cut, displayWidth, type Paint, pad } from './text.ts';

export interface TableColumn {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** Gives way first when the table is too wide, down to this many columns; the last one to give way is cut at the edge. */
  readonly shrinkTo?: number;
  /** Left out altogether when the table is still too wide; the highest goes first. */
  readonly dropFirst?: number;
}
export interface TableCell {
  readonly text: string;
  readonly colour?: Colour | undefined;
}

const GAP = 2;

/** Lines of a table, each at most `columns` wide; a heading line first. */
export function tableLines(
  columns: readonly TableColumn[],
  rows: readonly (readonly TableCell[])[],
  width: number,
  paint: Paint,
): string[] {
  const layout = layOut(columns, rows, width);
  const line = (cells: readonly TableCell[]): string =>
    layout
      .map(({ index, size }, position) => {
        const cell = cells[index] ?? { text: '' };
        const last = position === layout.length - 1 && columns[index]?.align !== 'right';
        const text = last ? cut(cell.text, size) : pad(cell.text, size, columns[index]?.align);
        return cell.colour === undefined || text === '' ? text : paint(cell.colour, text);
      })
      .join(' '.repeat(GAP))
      .trimEnd();
  return [line(columns.map((column) => ({ text: column.title, colour: 'bold' }))), ...rows.map(line)];
}

function layOut(
  columns: readonly TableColumn[],
  rows: readonly (readonly TableCell[])[],
  width: number,
): { index: number; size: number }[] {
  let kept = columns.map((column, index) => ({
    index,
    column,
    size: Math.max(displayWidth(column.title), ...rows.map((row) => displayWidth(row[index]?.text ?? ''))),
  }));
  const total = (): number => kept.reduce((sum, { size }) => sum + size, 0) + GAP * (kept.length - 1);
  const minTotal = (): number =>
    kept.reduce((sum, { size, column }) => sum + Math.min(size, column.shrinkTo ?? size), 0) + GAP * (kept.length - 1);
  while (minTotal() > width) {
    const drop = kept.filter(({ column }) => column.dropFirst !== undefined);
    if (drop.length === 0) break;
    const worst = drop.reduce((a, b) => ((b.column.dropFirst ?? 0) > (a.column.dropFirst ?? 0) ? b : a));
    kept = kept.filter((entry) => entry !== worst);
  }
  // From the right: reasons are long and stand last, names are short and stand first.
  for (const entry of [...kept].reverse()) {
    if (entry.column.shrinkTo === undefined) continue;
    const excess = total() - width;
    if (excess > 0) entry.size = Math.max(Math.min(entry.size, entry.column.shrinkTo), entry.size - excess);
  }
  // Nothing more to give way: the rightmost columns end at the edge.
  let left = width;
  return kept
    .map(({ index, size }) => {
      const room = Math.max(0, Math.min(size, left));
      left -= room + GAP;
      return { index, size: room };
    })
    .filter(({ size }) => size > 0);
}
