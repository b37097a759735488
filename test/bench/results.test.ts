/** The file of results: what is done is not done again, whatever ended the benchmark before. */
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { result } from './fixtures.ts';
import { appendResult, counted, readResults, stillToDo } from './results.ts';

let place = '';
let file = '';
beforeEach(() => {
  place = mkdtempSync(join(tmpdir(), 'hostevac-bench-test-'));
  file = join(place, 'new', 'results.jsonl');
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

const WANTED = { profiles: ['hot', 'mild'], contenders: ['none', 'rfc2011'], runs: 2, howeverBusy: false };
const names = (orders: ReturnType<typeof stillToDo>): string[] =>
  orders.map(({ profile, contender, run }) => `${profile} ${contender} ${run}`);

describe('what is still to be done', () => {
  test('is everything at first, each profile with all contenders, then all of it again', () => {
    expect(names(stillToDo(WANTED, []))).toEqual([
      'hot none 1',
      'hot rfc2011 1',
      'mild none 1',
      'mild rfc2011 1',
      'hot none 2',
      'hot rfc2011 2',
      'mild none 2',
      'mild rfc2011 2',
    ]);
  });

  test('is what has no result that nobody disturbed, until it has been tried three times', () => {
    const disturbed = result({ contender: 'rfc2011', disturbed: true });
    const one = { ...WANTED, profiles: ['hot'], runs: 1 };
    expect(names(stillToDo(one, [result({}), disturbed]))).toEqual(['hot rfc2011 1']);
    expect(names(stillToDo(one, [result({}), disturbed, disturbed, disturbed]))).toEqual([]);
    expect(names(stillToDo({ ...one, howeverBusy: true }, [result({}), disturbed]))).toEqual([]);
  });
});

test('of the tries of one run the first undisturbed one counts, else the last', () => {
  const tries = [
    result({ disturbed: true, harmCpuMs: 1 }),
    result({ harmCpuMs: 2 }),
    result({ harmCpuMs: 3 }),
    result({ run: 2, disturbed: true, harmCpuMs: 4 }),
    result({ run: 2, disturbed: true, harmCpuMs: 5 }),
  ];
  expect(counted(tries).map(({ harmCpuMs }) => harmCpuMs)).toEqual([2, 5]);
});

describe('the file', () => {
  test('gives back what was put into it', () => {
    expect(readResults(file)).toEqual([]);
    const results = [result({}), result({ run: 2, note: 'with words' })];
    for (const one of results) appendResult(file, one);
    expect(readResults(file)).toEqual(results);
  });

  test('survives a crash in the middle of a line', () => {
    appendResult(file, result({}));
    appendFileSync(file, '{"profile":"ho');
    expect(readResults(file)).toHaveLength(1);
    appendResult(file, result({ run: 2 }));
    expect(readResults(file).map(({ run }) => run)).toEqual([1, 2]);
    expect(readFileSync(file, 'utf8').split('\n')).toHaveLength(3);
  });

  test('refuses a line that no benchmark wrote, and says where it is', () => {
    appendResult(file, result({}));
    appendFileSync(file, '{"profile":"hot"}\n');
    expect(() => readResults(file)).toThrow(/results\.jsonl:2 is no result.*--results/);
  });

  test('takes nothing that could not be read again', () => {
    expect(() => appendResult(file, result({ harmCpuMs: Number.NaN }))).toThrow(/harmCpuMs/);
    expect(readResults(file)).toEqual([]);
  });
});
