import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ansi,
  cut,
  displayWidth,
  joinSpans,
  pad,
  paintFor,
  printable,
  shellWord,
  withoutColours,
} from '../../src/cli/text.ts';

describe('text for a terminal', () => {
  it('what was cut shows as an ellipsis and is never wider than asked', () => {
    expect(cut('postgres-1', 10)).toBe('postgres-1');
    expect(cut('postgres-1', 9)).toBe('postgres…');
    expect(cut('postgres-1', 1)).toBe('…');
    expect(cut('postgres-1', 0)).toBe('');
  });

  it('wide and combining characters count as they are shown', () => {
    expect(displayWidth('日本')).toBe(4);
    expect(displayWidth('e\u0301')).toBe(1);
    expect(displayWidth(ansi('red', 'abc'))).toBe(3);
    expect(cut('日本語', 5)).toBe('日本…');
    expect(displayWidth(pad('日本語', 8))).toBe(8);
  });

  it('any text cut or padded has the width that was asked for', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 40 }), (text, columns) => {
        const safe = printable(text);
        expect(displayWidth(cut(safe, columns))).toBeLessThanOrEqual(columns);
        expect(displayWidth(pad(safe, columns))).toBe(columns);
      }),
    );
  });

  it('no name can move the cursor or turn the direction of a line', () => {
    expect(printable('db\u001b[2Jx')).toBe('db\\x1b[2Jx');
    expect(printable('db\u009b2Jx')).toBe('db\\x9b2Jx');
    expect(printable('db\u202egpj')).toBe('db\\u202egpj');
    expect(printable('ümlaut-日本')).toBe('ümlaut-日本');
  });

  it('coloured spans are cut by what is seen, not by their escape sequences', () => {
    const line = joinSpans([{ text: 'running', colour: 'cyan' }, { text: ' and more' }], 10, ansi);
    expect(withoutColours(line)).toBe('running a…');
    expect(line).toContain('\u001b[36mrunning\u001b[39m');
  });

  it('colours are off without a terminal, with NO_COLOR and on a dumb one', () => {
    expect(paintFor({}, true)('red', 'x')).not.toBe('x');
    expect(paintFor({}, false)('red', 'x')).toBe('x');
    expect(paintFor({ NO_COLOR: '1' }, true)('red', 'x')).toBe('x');
    expect(paintFor({ NO_COLOR: '' }, true)('red', 'x')).not.toBe('x');
    expect(paintFor({ TERM: 'dumb' }, true)('red', 'x')).toBe('x');
  });

  it('a name to be pasted into a shell is one word', () => {
    expect(shellWord('node-a')).toBe('node-a');
    expect(shellWord("it's a host")).toBe("'it'\\''s a host'");
  });
});
