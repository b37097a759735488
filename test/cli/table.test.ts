import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tableLines } from '../../src/cli/table.ts';
import { displayWidth, plain } from '../../src/cli/text.ts';

const columns = [
  { title: 'VM', shrinkTo: 4 },
  { title: 'STATE' },
  { title: 'HARM', align: 'right' as const, dropFirst: 1 },
  { title: 'WHY', shrinkTo: 6, dropFirst: 2 },
];
const row = (vm: string, state: string, harm: string, why: string) => [vm, state, harm, why].map((text) => ({ text }));

describe('tables', () => {
  const rows = [row('postgres-1', 'done', '1.5s', ''), row('web-1', 'blocked', '-', 'no host has 16GiB free')];

  it('are as wide as their content when there is room', () => {
    expect(tableLines(columns, rows, 80, plain)).toEqual([
      'VM          STATE    HARM  WHY',
      'postgres-1  done     1.5s',
      'web-1       blocked     -  no host has 16GiB free',
    ]);
  });

  it('give way where they may: first what shrinks, then whole columns', () => {
    expect(tableLines(columns, rows, 34, plain)).toEqual([
      'VM          STATE    HARM  WHY',
      'postgres-1  done     1.5s',
      'web-1       blocked     -  no hos…',
    ]);
    expect(tableLines(columns, rows, 24, plain)[0]).toBe('VM         STATE    HARM');
    expect(tableLines(columns, rows, 14, plain)[0]).toBe('VM     STATE');
  });

  it('are never wider than the terminal, whatever stands in them', () => {
    const cell = fc.string({ maxLength: 30 }).map((text) => text.replace(/[^ -~]/g, '.'));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(cell, cell, cell, cell), { maxLength: 5 }),
        fc.integer({ min: 1, max: 120 }),
        (cells, width) => {
          const lines = tableLines(
            columns,
            cells.map(([a, b, c, d]) => row(a, b, c, d)),
            width,
            plain,
          );
          for (const line of lines) expect(displayWidth(line)).toBeLessThanOrEqual(width);
        },
      ),
    );
  });
});
