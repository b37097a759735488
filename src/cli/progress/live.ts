/**
 * The live display on a terminal: cli-progress redraws the lines of `screen.ts` in place, events scroll by above them.
 * Here is only what a terminal needs: slots, resizing, the cursor.
 */
import { MultiBar, type SingleBar } from 'cli-progress';
import type { StoredEvent } from '../../store/event-log.ts';
import { proposedLines } from '../status-text.ts';
import { displayWidth, type Paint, printable, withoutColours } from '../text.ts';
import { eventText } from './lines.ts';
import type { Snapshot } from './rows.ts';
import { screenLines } from './screen.ts';
import type { ProgressView } from './view.ts';

/** As often as figures change; more would only cost. */
const FRAMES_PER_SECOND = 4;
const SHOW_CURSOR = '\u001b[?25h';
const WRAP_LINES = '\u001b[?7h';
const CLEAR_TO_END_OF_LINE = '\u001b[K';
const CLEAR_SCREEN = '\u001b[2J\u001b[H';

/** A VM's own line shows its steps as they happen; above it is what stays to be read. */
const SHOWN_BELOW: ReadonlySet<string> = new Set(
  ['admitting', 'standby', 'preparing', 'precopy', 'switchover', 'verifying'].map((step) => `move.${step}`),
);

export interface LiveView extends ProgressView {
  /** A line above the display (a log line). */
  above(line: string): void;
}

export function liveView(options: { stream: NodeJS.WriteStream; paint: Paint; command?: string }): LiveView {
  const { stream, paint, command = 'hostevac' } = options;
  let proposed: string | null = null;
  let current: Snapshot | null = null;
  let closed = false;
  let lines: string[] = [];
  /** Kept to draw the screen again after a resize: how terminals reflow what stands there already, nobody can know. */
  const recent: string[] = [];
  const slots: SingleBar[] = [];
  const bars = new MultiBar({
    stream,
    fps: FRAMES_PER_SECOND,
    clearOnComplete: true,
    hideCursor: true,
    linewrap: false,
    // Lines move down when an event is printed above them: cli-progress must not think that they still stand.
    forceRedraw: true,
    format: (_options, _params, payload: { slot: number }) => lines[payload.slot] ?? '',
  });

  /** How far below the first line of the display cli-progress has left the cursor. */
  let linesDown = 0;
  bars.on('redraw-post', () => {
    linesDown = Math.max(0, slots.length - 1);
  });

  const size = (): { columns: number; rows: number } => ({ columns: stream.columns || 80, rows: stream.rows || 24 });

  const compose = (): void => {
    if (current === null || closed) return;
    lines = screenLines(current, size(), paint);
    while (slots.length < lines.length) slots.push(bars.create(1, 0, { slot: slots.length }));
    while (slots.length > lines.length) {
      const slot = slots.pop();
      if (slot !== undefined) bars.remove(slot);
    }
  };

  const print = (line: string): void => {
    if (closed) return;
    const short = shortened(line, size().columns - 1);
    recent.push(line);
    if (recent.length > 200) recent.shift();
    if (slots.length === 0) stream.write(`${short}\n`);
    else bars.log(`${short}${CLEAR_TO_END_OF_LINE}\n`);
  };

  const onResize = (): void => {
    if (closed || slots.length === 0) return;
    // What cli-progress still holds back is in `recent`, too: out with it, or it would be printed twice.
    bars.update();
    const { columns, rows } = size();
    const kept = recent.slice(-Math.max(0, rows - slots.length - 1));
    // cli-progress goes up to where it thinks the display begins: blank lines make that true on the cleared screen.
    stream.write(
      CLEAR_SCREEN + kept.map((line) => `${shortened(line, columns - 1)}\n`).join('') + '\n'.repeat(linesDown),
    );
    compose();
    bars.update();
  };

  // Whatever ends the process: a terminal without a cursor is a bad goodbye.
  const onExit = (): void => {
    if (!closed && slots.length > 0) stream.write(SHOW_CURSOR + WRAP_LINES);
  };
  stream.on('resize', onResize);
  process.on('exit', onExit);

  return {
    event(event: StoredEvent, atRealMs: number) {
      if (SHOWN_BELOW.has(event.kind)) return;
      print(eventText(event, new Date(atRealMs).toTimeString().slice(0, 8), paint));
    },
    notice: (message: string) => print(paint('yellow', printable(message))),
    above: print,
    snapshot(snapshot: Snapshot) {
      current = snapshot;
      const { id, proposal } = snapshot.record;
      if (proposal !== null && proposal.hash !== proposed) {
        for (const line of proposedLines(proposal, size().columns - 1, paint)) print(line);
        print(paint('yellow', `Plan ${proposal.hash} waits for approval: ${command} approve ${id}`));
      }
      proposed = proposal?.hash ?? null;
      compose();
    },
    close() {
      if (closed) return;
      if (slots.length > 0) {
        bars.update();
        bars.stop();
      }
      closed = true;
      stream.off('resize', onResize);
      process.off('exit', onExit);
    },
  };
}

/** Cut with its colours given up: a line that is too long for the terminal is rare, a cut escape sequence is ugly. */
function shortened(line: string, columns: number): string {
  if (displayWidth(line) <= columns) return line;
  let bare = withoutColours(line);
  while (displayWidth(bare) > columns - 1 && bare.length > 0) bare = bare.slice(0, Math.max(0, bare.length - 1));
  return `${bare}…`;
}
