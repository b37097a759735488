/** What is on disk before a quota is written, and what of a damaged file still counts. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  bootId,
  EMPTY,
  journalText,
  mendJournal,
  parseJournal,
  readJournal,
  type ThrottleRecord,
  writeJournal,
} from '../../../src/throttling/guard/journal.ts';
import { Lines, MAX_LINE_BYTES } from '../../../src/throttling/guard/protocol.ts';

const throttle = (vm: string): ThrottleRecord => ({
  kind: 'throttle',
  host: 'a',
  vm,
  cells: [
    {
      version: 1,
      path: `/cpu/${vm}`,
      mountPoint: '/cpu',
      tids: [7],
      inode: '12',
      place: { kind: 'lent', original: { quotaUs: null, periodUs: 100_000 } },
    },
  ],
});
const content = {
  throttles: [throttle('one'), throttle('two')],
  tokens: [{ kind: 'token', host: 'a', vm: 'one', token: 3, pid: 5, startTicks: 9 } as const],
  gates: [{ kind: 'gate', host: 'a', vm: 'one', monitor: '/run/spare.sock' } as const],
};

describe('the journal', () => {
  let dir: string;
  let path: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'hostevac-journal-'));
    path = join(dir, 'journal');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  test('is read as it was written', () => {
    expect(readJournal(path)).toEqual({ ...EMPTY, damage: null });
    writeJournal(path, content);
    expect(readJournal(path)).toEqual({ ...content, damage: null });
    writeJournal(path, EMPTY);
    expect(readJournal(path)).toEqual({ ...EMPTY, damage: null });
  });

  test('of an earlier boot is empty: its groups are no more', () => {
    expect(parseJournal(journalText(content, 'before'), 'now')).toEqual({ ...EMPTY, damage: null });
  });

  test('that cannot be written stays as it was', () => {
    writeJournal(path, content);
    mkdirSync(`${path}.new`);
    expect(() => writeJournal(path, EMPTY)).toThrow(/EISDIR/);
    expect(readJournal(path)).toMatchObject(content);
  });

  test.each([
    ['cut off', (text: string) => text.slice(0, text.indexOf('"vm":"two"')), ['one'], /end is missing/],
    ['with a line of rubbish', (text: string) => text.replace(/.*"two".*/, '\0\0\0'), ['one'], /no record/],
    ['with a path that is none', (text: string) => text.replace('"/cpu/one"', '"cpu"'), ['two'], /no record/],
    ['without its head', (text: string) => text.slice(text.indexOf('\n') + 1), ['one', 'two'], /no beginning/],
    [
      'of a later version',
      (text: string) => text.replace('"version":1', '"version":2'),
      ['one', 'two'],
      /no beginning/,
    ],
    ['empty', () => '', [], /no beginning/],
  ])('damaged: %s: what can be read counts, and it says so', (_, damaged, vms, damage) => {
    const read = parseJournal(damaged(journalText(content, 'now')), 'now');
    expect(read.throttles.map(({ vm }) => vm)).toEqual(vms);
    expect(read.damage).toMatch(damage);
  });

  test('damaged: is kept aside, and what can be read of it stays a journal', () => {
    const damaged = journalText(content, bootId()).replace(/.*"two".*/, 'rubbish');
    writeFileSync(path, damaged);
    const { damage, ...readable } = readJournal(path);
    const aside = mendJournal(path, readable);
    expect(damage).toMatch(/rubbish/);
    expect(readFileSync(aside, 'utf8')).toBe(damaged);
    expect(readJournal(path)).toEqual({ ...content, throttles: [throttle('one')], damage: null });
  });

  test('damaged: a guard that is killed, or cannot write, before it has mended it leaves it as it was', () => {
    writeFileSync(path, 'rubbish');
    mkdirSync(`${path}.new`);
    expect(() => mendJournal(path, EMPTY)).toThrow(/EISDIR/);
    expect(readFileSync(path, 'utf8')).toBe('rubbish');
  });

  test('knows this boot', () => {
    expect(bootId()).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('lines of the guard', () => {
  test('come in any pieces, and one without an end is not kept for ever', () => {
    const lines: string[] = [];
    let tooLong = 0;
    const reader = new Lines(
      (line) => lines.push(line),
      () => {
        tooLong += 1;
      },
    );
    for (const piece of ['{"a"', ':1}\n{"b":2}', '\n', '\n']) reader.push(piece);
    expect(lines).toEqual(['{"a":1}', '{"b":2}', '']);
    reader.push('x'.repeat(MAX_LINE_BYTES));
    expect(tooLong).toBe(0);
    reader.push('x');
    expect(tooLong).toBe(1);
  });
});
