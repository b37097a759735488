/** Who has won, what the tables say, and the chart. */
import { describe, expect, test } from 'vitest';
import { chart, typical } from './chart.ts';
import { result } from './fixtures.ts';
import type { Result } from './results.ts';
import { compare, predictionErrors, type Summary, summarise, type Verdict } from './summary.ts';
import { markdown, terminalTable } from './tables.ts';

function summary(over: Partial<Result>[]): Summary {
  const [first] = summarise(over.map((one, index) => result({ run: index + 1, ...one })));
  if (first === undefined) throw new Error('no summary');
  return first;
}

function verdict(ours: Partial<Result>, peer: Partial<Result>): Verdict {
  return compare(summary([{ contender: 'leastHarm-1', ...ours }]), summary([peer])).verdict;
}

const NOT_DONE = { done: false, totalMs: null, downtimeMs: null };

describe('a summary', () => {
  test('has medians and the spread, times of those runs only that were done', () => {
    const runs = [{ totalMs: 5_000 }, { totalMs: 3_000 }, { totalMs: 4_000 }, { ...NOT_DONE, harmCpuMs: 9_000 }];
    expect(summary(runs)).toMatchObject({
      runs: 4,
      done: 3,
      totalMs: { median: 4_000, least: 3_000, most: 5_000 },
      harmCpuMs: { median: 1_000, least: 1_000, most: 9_000 },
    });
    expect(summary([{ totalMs: 1_000 }, { totalMs: 2_000 }]).totalMs?.median).toBe(1_500);
    expect(summary([NOT_DONE]).totalMs).toBeNull();
  });

  test('says who exceeds max stall by more than the samples can tell', () => {
    expect(summary([{ longestStretchMs: 315 }]).withinMaxStall).toBe(true);
    expect(summary([{}, { longestStretchMs: 325 }]).withinMaxStall).toBe(false);
  });
});

describe('how far predictions were off', () => {
  const around = (value: number) => ({ value, low: value - 500, high: value + 500 });
  const predicted = {
    totalMs: around(4_400),
    downtimeMs: around(600),
    transferredBytes: around(1_000),
    harmCpuMs: around(1_600),
    meanShare: 1,
    minShare: 1,
    endsInTime: 1,
  };
  const figures = { totalMs: 0, downtimeMs: 0, transferredBytes: 0, minShare: 1, meanShare: 1, harmCpuMs: 0 };

  test('is told as a part of the time that it took, and in CPU time; only of those that were done and predicted', () => {
    const told = { claims: { predicted, figures } };
    const none = { claims: { predicted: null, figures } };
    const [errors, ...others] = predictionErrors([result(told), result({ ...told, ...NOT_DONE }), result(none)]);
    expect(others).toEqual([]);
    expect(errors).toMatchObject({ runs: 1, totalWithin: 1, harmWithin: 0 });
    expect(errors?.totalPart.median).toBeCloseTo(0.1, 6);
    expect(errors?.harmCpuMs.median).toBe(600);
    expect(markdown([result(told)])).toContain('| hot | none | 1 | 10 (10..10) | 0.60 (0.60..0.60) | 1/1 | 0/1 |');
    expect(predictionErrors([result({})])).toEqual([]);
  });
});

describe('the better one', () => {
  test.each<[string, Verdict, Partial<Result>, Partial<Result>]>([
    ['less harm in less time', 'ours', { harmCpuMs: 500, totalMs: 3_000 }, {}],
    ['less harm in equal time', 'ours', { harmCpuMs: 500, totalMs: 4_050 }, {}],
    ['equal harm in less time', 'ours', { harmCpuMs: 1_040, totalMs: 3_000 }, {}],
    ['more harm in more time', 'peer', { harmCpuMs: 2_000, totalMs: 5_000 }, {}],
    ['more harm in equal time', 'peer', { harmCpuMs: 2_000 }, {}],
    ['less harm in more time', 'trade', { harmCpuMs: 500, totalMs: 5_000 }, {}],
    ['more harm in less time', 'trade', { harmCpuMs: 2_000, totalMs: 3_000 }, {}],
    ['no difference that counts', 'equal', { harmCpuMs: 1_020, totalMs: 3_950 }, {}],
    ['one that was done against one that was not', 'ours', { harmCpuMs: 9_000 }, NOT_DONE],
    ['one that was not done against one that was', 'peer', { ...NOT_DONE, harmCpuMs: 0 }, {}],
    ['neither done', 'none', NOT_DONE, NOT_DONE],
    ['a peer that has broken its guest', 'none', {}, { memoryFaults: ['page 0x1000 is gone'] }],
  ])('%s: %s', (_, expected, ours, peer) => {
    expect(verdict(ours, peer)).toBe(expected);
  });

  test('has a ratio, unless the other one is next to nothing', () => {
    const ours = summary([{ contender: 'leastHarm-1', harmCpuMs: 250, totalMs: 1_000 }]);
    expect(compare(ours, summary([{}]))).toMatchObject({ harmRatio: 0.25, totalRatio: 0.25 });
    expect(compare(ours, summary([{ harmCpuMs: 10 }])).harmRatio).toBeNull();
  });
});

const RUNS = [
  result({ contender: 'autoConverge', totalMs: 20_000, harmCpuMs: 5_000 }),
  result({ contender: 'leastHarm-1', totalMs: 4_000, harmCpuMs: 1_000, disturbed: true }),
  result({
    contender: 'none',
    ...NOT_DONE,
    harmCpuMs: -3,
    memoryFaults: ['page 0x1000 is gone'],
    longestStretchMs: 900,
  }),
];

describe('the tables', () => {
  test('hold every contender, what was void, disturbed and too long, and the comparison', () => {
    const text = markdown(RUNS);
    expect(text).toContain(
      '| autoConverge | 1/1 | 20.0 (20.0..20.0) | 5.00 (5.00..5.00) | 80 (80..80) | 60 (60..60) | 200 (200..200) |',
    );
    expect(text).toContain('| leastHarm-1 | 1/1 (1 disturbed) |');
    expect(text).toContain('| none | 0/1 VOID: memory broken in 1 | - | 0.00 (0.00..0.00) | 900 (900..900) ! | - |');
    expect(text).toContain('| autoConverge | 0.20 / 0.20 **ours** |');
    expect(text).toContain('3 runs, 2026-01-02');
    expect(terminalTable(RUNS)).toContain('autoConverge  1/1 ');
  });

  test('say so when there is nothing', () => {
    expect(markdown([])).toContain('Nothing has been measured.');
  });
});

describe('the chart', () => {
  const trace: Result['trace'] = Array.from({ length: 20 }, (_, index) => [
    index * 200,
    (100 - index) * 2 ** 20,
    index * 8 * 2 ** 20,
    index < 10 ? 1.2 : 0.05,
  ]);

  test('is of the run in the middle', () => {
    const runs = [3, 1, 2].map((harm) => result({ harmCpuMs: harm, trace }));
    expect(typical([...runs, result({ harmCpuMs: 1.5 })])?.harmCpuMs).toBe(2);
    expect(typical([result({})])).toBeUndefined();
  });

  test('has both lines in three panels, all of it inside, and names that cannot break it', () => {
    const text = chart(
      [
        { label: 'a < b & "c"', kind: 'ours', result: result({ trace }) },
        { label: 'peer', kind: 'peer', result: result({ trace, wallMs: 9_000, ...NOT_DONE }) },
      ],
      'guest',
    );
    expect(text.match(/<polyline class="line ours"/g)).toHaveLength(3);
    expect(text.match(/<polyline class="line peer"/g)).toHaveLength(3);
    expect(text).toContain('a &lt; b &amp; &quot;c&quot;: 4.0 s');
    expect(text).toContain('peer: not done');
    expect(text).not.toMatch(/NaN|undefined|Infinity/);
    const [, width = 0, height = 0] = /viewBox="0 0 (\d+) (\d+)"/.exec(text)?.map(Number) ?? [];
    const points = [...text.matchAll(/points="([^"]*)"/g)].flatMap(([, list = '']) => list.split(' '));
    expect(points.length).toBeGreaterThan(100);
    for (const point of points) {
      const [x = -1, y = -1] = point.split(',').map(Number);
      expect(x >= 0 && x <= width && y >= 0 && y <= height).toBe(true);
    }
  });
});
