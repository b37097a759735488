/**
 * The live display as text: a head line for the operation and one line per VM, for any terminal size. Pure; drawing it is
 * `live.ts`.
 */
import {
  ENDED_MOVE_STATES,
  type MoveState,
  type OperationRecord,
  type OperationState,
} from '../../domain/operation.ts';
import { formatDuration, formatRate, formatShare } from '../../domain/units.ts';
import { type Colour, counted, cut, displayWidth, joinSpans, type Paint, pad, printable, type Span } from '../text.ts';
import { endsIn } from './estimate.ts';
import { type Snapshot, type VmRow, vmRows, type Whole, wholeOf } from './rows.ts';

export interface ScreenSize {
  readonly columns: number;
  readonly rows: number;
}

export const MOVE_COLOUR: Readonly<Record<MoveState, Colour | undefined>> = {
  queued: 'dim',
  admitted: 'cyan',
  precopy: 'cyan',
  switchover: 'cyan',
  postcopy: 'cyan',
  verifying: 'cyan',
  stopping: 'cyan',
  done: 'green',
  shutOff: 'green',
  skipped: 'yellow',
  failed: 'red',
  cancelled: 'yellow',
  blocked: 'yellow',
};
export const OPERATION_COLOUR: Readonly<Record<OperationState, Colour | undefined>> = {
  queued: 'dim',
  planning: 'cyan',
  awaitingApproval: 'yellow',
  running: 'cyan',
  paused: 'yellow',
  done: 'green',
  partial: 'yellow',
  failed: 'red',
  cancelled: 'yellow',
  blocked: 'yellow',
};

/** The terminal needs a line for the cursor, and one that an event above may take. */
const SPARE_ROWS = 3;

/** All lines of the display, at most `size.rows - 3` of them, each at most `size.columns - 1` wide. */
export function screenLines(snapshot: Snapshot, size: ScreenSize, paint: Paint): string[] {
  // A character in the last column makes some terminals wrap at once.
  const columns = Math.max(1, size.columns - 1);
  const rows = vmRows(snapshot.record, snapshot.moves);
  const lines = [headLine(snapshot.record, wholeOf(snapshot, rows), columns, paint)];
  const waiting = waitingLine(snapshot.record, columns, paint);
  const room = Math.max(1, size.rows - SPARE_ROWS - 1 - (waiting === null ? 0 : 1));
  const shown = rows.length <= room ? rows : mostTelling(rows, Math.max(1, room - 1));
  const layout = layOut(shown, columns);
  for (const row of shown) lines.push(vmLine(row, layout, columns, paint));
  const hidden = rows.length - shown.length;
  if (hidden > 0)
    lines.push(
      paint('dim', cut(`  and ${counted(hidden, 'VM')} more (hostevac status ${snapshot.record.id})`, columns)),
    );
  if (waiting !== null) lines.push(waiting);
  return lines;
}

/** The operation in a few words: `evacuate node-a`, `balance 3 moves`. */
export function titleOf(record: OperationRecord): string {
  return record.request.kind === 'evacuateNode'
    ? `evacuate ${printable(record.request.host)}`
    : `balance ${counted(record.request.moves.length, 'move')}`;
}

export function headLine(record: OperationRecord, whole: Whole, columns: number, paint: Paint): string {
  const spans: Span[] = [
    { text: titleOf(record), colour: 'bold' },
    { text: '  ' },
    { text: record.state, colour: OPERATION_COLOUR[record.state] },
    { text: `  ${whole.done}/${counted(whole.total, 'VM')}${whole.skipped > 0 ? `, ${whole.skipped} skipped` : ''}` },
  ];
  const optional: string[] = [];
  optional.push(`elapsed ${formatDuration(whole.elapsedMs)}`);
  if (whole.etaMs !== null) optional.push(`eta ~${formatDuration(whole.etaMs)}`);
  if (whole.egress !== null) {
    optional.push(`egress ${formatRate(whole.egress.counted)} of ${formatRate(whole.egress.capacity)}`);
  }
  let width = spans.reduce((sum, span) => sum + displayWidth(span.text), 0);
  for (const text of optional) {
    // Whole words or nothing: half a figure misleads.
    if (width + 2 + displayWidth(text) > columns) continue;
    spans.push({ text: `  ${text}` });
    width += 2 + displayWidth(text);
  }
  return joinSpans(spans, columns, paint);
}

function waitingLine(record: OperationRecord, columns: number, paint: Paint): string | null {
  const first = record.waitingFor[0];
  if (first === undefined) return null;
  const more = record.waitingFor.length > 1 ? ` (and ${record.waitingFor.length - 1} more)` : '';
  return paint('dim', cut(`  waits for: ${printable(first)}${more}`, columns));
}

/** Running ones, then what went wrong, then what waits, then what is done; each in its own order. */
function mostTelling(rows: readonly VmRow[], room: number): VmRow[] {
  const rank = (row: VmRow): number => {
    if (
      row.progress !== null ||
      ['admitted', 'precopy', 'switchover', 'postcopy', 'verifying', 'stopping'].includes(row.state)
    )
      return 0;
    if (row.state === 'failed' || row.state === 'blocked') return 1;
    return ENDED_MOVE_STATES.has(row.state) ? 3 : 2;
  };
  const kept = new Set([...rows].sort((a, b) => rank(a) - rank(b)).slice(0, room));
  return rows.filter((row) => kept.has(row));
}

interface Layout {
  readonly vm: number;
  /** ` -> name`; 0: left out. */
  readonly destination: number;
  /** Inside the brackets; 0: no bar. */
  readonly bar: number;
}

const STATE_COLUMNS = 'switchover'.length;
const PERCENT_COLUMNS = ' 100%'.length;
/** Room for `p12  share 100%  eta 1m30s  38.2MiB/s` when there is any to spare. */
const DETAIL_COLUMNS = 39;
const ETA_COLUMNS = 'eta 1m30s'.length;
const PREDICTED_COLUMNS = 'ends in 12s (10..15s)'.length;

function layOut(rows: readonly VmRow[], columns: number): Layout {
  const longest = (texts: readonly string[]): number =>
    texts.reduce((max, text) => Math.max(max, displayWidth(text)), 0);
  const names = longest(rows.map((row) => printable(row.vm)));
  const destinations = longest(rows.map((row) => printable(row.destination ?? '?')));
  const fixed = 1 + STATE_COLUMNS + PERCENT_COLUMNS;
  const vm = Math.min(names, Math.max(4, Math.floor(columns * 0.3)));
  const afterName = columns - vm - fixed;
  const destination = afterName >= destinations + 4 + 12 ? Math.min(destinations, 24) + 4 : 0;
  const predicted = rows.some(({ progress }) => progress !== null && progress.prediction !== null);
  const details = DETAIL_COLUMNS + (predicted ? PREDICTED_COLUMNS - ETA_COLUMNS : 0);
  const free = afterName - destination - 3 - details;
  const bar =
    free >= 10
      ? Math.min(30, free)
      : afterName - destination - 2 - 16 >= 6
        ? Math.min(10, afterName - destination - 18)
        : 0;
  return { vm, destination, bar: Math.max(0, bar) };
}

/** One VM in one line, exactly as laid out, never wider than `columns`. */
function vmLine(row: VmRow, layout: Layout, columns: number, paint: Paint): string {
  const spans: Span[] = [{ text: pad(printable(row.vm), layout.vm) }];
  if (layout.destination > 0) {
    const destination = row.destination === null ? '' : ` -> ${printable(row.destination)}`;
    spans.push({ text: pad(destination, layout.destination) });
  }
  spans.push({ text: ' ' }, { text: pad(row.state, STATE_COLUMNS), colour: MOVE_COLOUR[row.state] });
  if (row.progress !== null) {
    if (layout.bar > 0)
      spans.push({ text: ' [' }, { text: barText(row.fraction, layout.bar), colour: 'cyan' }, { text: ']' });
    spans.push({ text: `${Math.floor(row.fraction * 100)}%`.padStart(PERCENT_COLUMNS) });
  }
  let width = spans.reduce((sum, span) => sum + displayWidth(span.text), 0);
  for (const { text, colour, whole } of details(row)) {
    const fits = width + 2 + displayWidth(text) <= columns;
    if (!fits && whole) continue;
    const room = Math.max(0, columns - width - 2);
    if (room < 6 && !fits) break;
    const shown = cut(text, room);
    spans.push({ text: '  ' }, { text: shown, colour });
    width += 2 + displayWidth(shown);
  }
  return joinSpans(spans, columns, paint).trimEnd();
}

/** What stands behind the bar, most important first. `whole`: left out rather than cut. */
function details(row: VmRow): { text: string; colour?: Colour; whole: boolean }[] {
  const again = row.attempts > 1 ? [{ text: `try ${row.attempts}`, whole: true, colour: 'yellow' as const }] : [];
  if (row.state === 'done') {
    return [
      {
        text: `${formatDuration(row.figures.totalMs)}, downtime ${formatDuration(row.figures.downtimeMs)}`,
        whole: true,
      },
      { text: `share ${formatShare(row.figures.minShare)} at least`, whole: true },
      ...again,
    ];
  }
  if (row.state === 'shutOff' && row.figures.totalMs > 0)
    return [{ text: `shut down in ${formatDuration(row.figures.totalMs)}`, whole: true }, ...again];
  if (row.progress === null) {
    return [
      ...again,
      ...(row.reason === null ? [] : [{ text: printable(row.reason), colour: 'dim' as const, whole: false }]),
    ];
  }
  const { progress } = row;
  const eta =
    progress.prediction !== null
      ? `ends in ${endsIn(progress)}`
      : progress.etaMs === null
        ? 'eta ?'
        : `eta ${formatDuration(progress.etaMs)}`;
  // Fixed widths: figures that stay in their column can be read while they change.
  return [
    { text: `p${progress.pass}`.padEnd(3), whole: true },
    {
      text: `share ${formatShare(progress.share)}`.padEnd(10),
      whole: true,
      ...(progress.share < 0.995 ? { colour: 'yellow' as const } : {}),
    },
    { text: eta.padEnd(progress.prediction === null ? ETA_COLUMNS : PREDICTED_COLUMNS), whole: true },
    { text: formatRate(progress.rateBytesPerSec).padEnd(9), whole: true },
    ...(row.figures.downtimeMs > 0
      ? [{ text: `downtime ${formatDuration(row.figures.downtimeMs)}`, whole: true }]
      : []),
    ...again,
  ];
}

/** `#####-----`, rounded down: a full bar means that nothing is left. */
export function barText(fraction: number, width: number): string {
  const full = Math.min(width, Math.max(0, Math.floor(fraction * width + 1e-9)));
  return '#'.repeat(full) + '-'.repeat(width - full);
}
