import { EventEmitter } from 'node:events';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { liveView } from '../../../src/cli/progress/live.ts';
import { plain } from '../../../src/cli/text.ts';
import { host, move, operation, task } from '../records.ts';

// biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal is made of control characters
const SEQUENCE = /^\u001b\[(\??[\d;]*)([A-Za-z])$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: the same
const TOKENS = /\u001b\[\??[\d;]*[A-Za-z]|\n|[^\u001b\n]+/g;

/** A terminal that remembers: what was written, and what its screen then shows. */
class Terminal extends EventEmitter {
  readonly isTTY = true;
  columns: number;
  rows: number;
  written = '';

  constructor(columns: number, rows: number) {
    super();
    this.columns = columns;
    this.rows = rows;
  }

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  /** Lines of the screen: enough of a VT100 for what cli-progress and the display use. Fails on anything else. */
  screen(): string[] {
    const lines: string[] = [''];
    let row = 0;
    let column = 0;
    for (const [token] of this.written.matchAll(TOKENS)) {
      const sequence = SEQUENCE.exec(token);
      if (token === '\n') {
        row += 1;
        column = 0;
      } else if (sequence === null) {
        const line = (lines[row] ?? '').padEnd(column);
        lines[row] = line.slice(0, column) + token + line.slice(column + token.length);
        column += token.length;
      } else {
        const amount = Number(sequence[1] || '1');
        switch (sequence[2]) {
          case 'A':
            row = Math.max(0, row - amount);
            break;
          case 'G':
            column = amount - 1;
            break;
          case 'K':
            lines[row] = sequence[1] === '2' ? '' : (lines[row] ?? '').slice(0, column);
            break;
          case 'J':
            if (sequence[1] === '2') lines.fill('');
            else {
              lines.length = row + 1;
              lines[row] = (lines[row] ?? '').slice(0, column);
            }
            break;
          case 'H':
            row = 0;
            column = 0;
            break;
          case 'h':
          case 'l':
            break;
          default:
            throw new Error(`the test's terminal does not know ${JSON.stringify(token)}`);
        }
      }
      while (lines.length <= row) lines.push('');
    }
    return lines.map((line) => line.trimEnd());
  }
}

const snapshot = (vms: readonly string[]) => ({
  nowMs: 14_000,
  record: operation({ tasks: vms.map((vm) => task(vm, { state: 'precopy', moveIds: ['m'] })) }),
  moves: vms.map((vm) => move(vm)),
  hosts: [host('node-a')],
});
const event = (message: string) => ({
  streamId: '1',
  atMs: 0,
  operationId: 'op-1',
  kind: 'move.done',
  vm: null,
  moveId: null,
  message,
});

function open(columns: number, rows: number) {
  vi.useFakeTimers();
  const terminal = new Terminal(columns, rows);
  // What the display uses of a terminal, the terminal above has.
  const view = liveView({ stream: terminal as unknown as NodeJS.WriteStream, paint: plain });
  const frame = (): void => void vi.advanceTimersByTime(600);
  return { terminal, view, frame };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('the live display on a terminal', () => {
  it('stands below the events, which scroll by above it', () => {
    const { terminal, view, frame } = open(100, 30);
    view.event(event('first'), 0);
    view.snapshot(snapshot(['db-1', 'web-1']));
    frame();
    view.event(event('second'), 0);
    frame();
    const screen = terminal.screen();
    expect(screen[0]).toMatch(/move\.done first$/);
    expect(screen[1]).toMatch(/move\.done second$/);
    expect(screen[2]).toMatch(/^evacuate node-a/);
    expect(screen[3]).toMatch(/^db-1 .*precopy/);
    expect(screen[4]).toMatch(/^web-1/);
    expect(screen).toHaveLength(5);
    view.close();
  });

  it('several events at once leave no rest of the display between them', () => {
    const { terminal, view, frame } = open(100, 30);
    view.snapshot(snapshot(['db-1', 'web-1']));
    frame();
    for (const short of ['1', '2', '3']) view.event(event(short), 0);
    frame();
    expect(terminal.screen().slice(0, 3)).toEqual(
      ['1', '2', '3'].map((text) => expect.stringMatching(`done ${text}$`)),
    );
    view.close();
  });

  it('leaves nothing of itself behind, and the cursor as it was', () => {
    const { terminal, view, frame } = open(100, 30);
    view.event(event('kept'), 0);
    view.snapshot(snapshot(['db-1']));
    frame();
    expect(terminal.written).toContain('\u001b[?25l');
    view.event(event('last words'), 0);
    view.close();
    view.close();
    expect(terminal.screen().filter((line) => line !== '')).toEqual([
      expect.stringContaining('kept'),
      expect.stringContaining('last words'),
    ]);
    expect(terminal.written.lastIndexOf('\u001b[?25h')).toBeGreaterThan(terminal.written.lastIndexOf('\u001b[?25l'));
    expect(terminal.written.lastIndexOf('\u001b[?7h')).toBeGreaterThan(terminal.written.lastIndexOf('\u001b[?7l'));
    expect(vi.getTimerCount()).toBe(0);
    expect(terminal.listenerCount('resize')).toBe(0);
  });

  it('gives the cursor back when the process ends in the middle', () => {
    const { terminal, view, frame } = open(100, 30);
    const before = process.listeners('exit').length;
    view.snapshot(snapshot(['db-1']));
    frame();
    const [onExit] = process.listeners('exit').slice(-1);
    onExit?.call(process, 0);
    expect(terminal.written.endsWith('\u001b[?25h\u001b[?7h')).toBe(true);
    view.close();
    expect(process.listeners('exit').length).toBe(before - 1);
  });

  it('is drawn anew after a resize, with the events that fit above it', () => {
    const { terminal, view, frame } = open(120, 30);
    for (let n = 0; n < 10; n += 1) view.event(event(`event ${n} ${'x'.repeat(60)}`), 0);
    view.snapshot(snapshot(['db-1', 'web-1']));
    frame();
    view.event(event('the last'), 0);
    terminal.columns = 40;
    terminal.rows = 8;
    terminal.emit('resize');
    frame();
    const screen = terminal.screen().filter((line) => line !== '');
    expect(screen.filter((line) => line.includes('the last'))).toHaveLength(1);
    expect(screen.every((line) => line.length < 40)).toBe(true);
    expect(screen.filter((line) => line.startsWith('evacuate'))).toHaveLength(1);
    expect(screen.filter((line) => line.startsWith('db-1'))).toHaveLength(1);
    expect(screen[0]).toMatch(/event [678]/);
    expect(screen.length).toBeLessThanOrEqual(8);
    view.close();
  });

  it('shrinks and grows with what there is to show', () => {
    const { terminal, view, frame } = open(100, 30);
    view.snapshot(snapshot(['a', 'b', 'c']));
    frame();
    view.snapshot(snapshot(['a']));
    frame();
    expect(terminal.screen().filter((line) => line !== '')).toHaveLength(2);
    view.snapshot(snapshot(['a', 'b', 'c', 'd']));
    frame();
    expect(terminal.screen().filter((line) => line !== '')).toHaveLength(5);
    view.close();
  });
});
