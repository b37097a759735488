/** What the project says of itself is held against the figures, and said to fail where it does. */
import { describe, expect, test } from 'vitest';
import { result } from './fixtures.ts';
import { pledges } from './pledges.ts';
import type { Result } from './results.ts';

const PEERS = ['none', 'autoConverge', 'postCopy'];
/** Of all that is said, what begins like that. */
function pledge(beginning: string, runs: readonly Partial<Result>[]) {
  const all = pledges(
    runs.map((run) => result({ profile: 'hot', ...run })),
    PEERS,
  );
  const found = all.find(({ what }) => what.startsWith(beginning));
  if (found === undefined) throw new Error(`nothing is said that begins with ${beginning}`);
  return found;
}

const AUTO = { contender: 'autoConverge', totalMs: 20_000, harmCpuMs: 8_000 };
const around = (value: number) => ({ value, low: 0.5 * value, high: 1.5 * value });
const figures = { totalMs: 0, downtimeMs: 0, transferredBytes: 0, minShare: 1, meanShare: 1, harmCpuMs: 0 };
const predicting = (totalMs: number, harmCpuMs: number): Partial<Result> => ({
  contender: 'leastHarm-1',
  claims: {
    predicted: {
      totalMs: around(totalMs),
      downtimeMs: around(60),
      transferredBytes: around(1_000),
      harmCpuMs: around(harmCpuMs),
      meanShare: 1,
      minShare: 1,
      endsInTime: 1,
    },
    figures,
  },
});

describe('against auto-converge', () => {
  const reference = (ours: Partial<Result>) =>
    pledge('reference guest', [
      { ...AUTO, profile: 'reference' },
      { profile: 'reference', contender: 'leastHarm-1', ...ours },
    ]);

  test('the reference guest: a quarter of the harm, a fifth of the time, within max stall', () => {
    expect(reference({ totalMs: 4_000, harmCpuMs: 2_000 })).toMatchObject({
      holds: true,
      measured: 'harm 0.25, total 0.20, longest stretch 80 ms',
    });
    expect(reference({ totalMs: 4_100, harmCpuMs: 2_000 }).holds).toBe(false);
    expect(reference({ totalMs: 4_000, harmCpuMs: 2_100 }).holds).toBe(false);
    expect(reference({ totalMs: 4_000, harmCpuMs: 2_000, longestStretchMs: 400 }).holds).toBe(false);
  });

  test('hot guests: half the harm at no more time, each of them', () => {
    const about = 'guests that write more than twice what is sent, all the time, leastHarm-0 ';
    const ours = { contender: 'leastHarm-0', totalMs: 7_000, harmCpuMs: 4_000 };
    expect(pledge(about, [AUTO, ours])).toMatchObject({ holds: true, measured: 'harm / total: hot 0.50 / 0.35' });
    expect(pledge(about, [AUTO, { ...ours, harmCpuMs: 4_100 }]).holds).toBe(false);
    expect(pledge(about, [AUTO, { ...ours, done: false, totalMs: null }]).holds).toBe(false);
    const other = { profile: 'random' } as const;
    const slower = [AUTO, ours, { ...AUTO, ...other }, { ...ours, ...other, totalMs: 21_000 }];
    expect(pledge(about, slower).holds).toBe(false);
    // One that was never done moved nothing; one of ours has to.
    const never = { ...AUTO, done: false, totalMs: null, harmCpuMs: 3_000 };
    expect(pledge(about, [never, ours])).toMatchObject({
      holds: true,
      measured: 'harm / total: hot: it was not done in 1 of 1 (3.00 CPU-s by then, ours 4.00)',
    });
    expect(pledge(about, [never, { ...ours, done: false, totalMs: null }]).holds).toBe(false);
    // A mild guest is none of them.
    const mild = { profile: 'mild' } as const;
    expect(
      pledge(about, [
        { ...AUTO, ...mild },
        { ...ours, ...mild, harmCpuMs: 9_000 },
      ]).holds,
    ).toBeNull();
  });
});

describe('against all others', () => {
  const about = 'leastHarm-1 against all';
  const ours = { contender: 'leastHarm-1', totalMs: 4_000, harmCpuMs: 1_000 };

  test('those that exceed max stall do not count, those that win are named', () => {
    const postCopy = { contender: 'postCopy', totalMs: 2_000, harmCpuMs: 300 };
    expect(pledge(about, [ours, AUTO, { ...postCopy, longestStretchMs: 900 }])).toMatchObject({
      holds: true,
      measured: 'better 1, equal 0, neither done 0',
    });
    const lost = pledge(about, [ours, AUTO, postCopy]);
    expect(lost).toMatchObject({ holds: false });
    expect(lost.measured).toContain('hot: postCopy better (3.33 / 2.00)');
    expect(pledge(about, [ours, { ...AUTO, harmCpuMs: 500 }]).measured).toContain('autoConverge a trade');
  });
});

test('harm is held against the least possible for what the guest was seen to write', () => {
  const about = 'aggression 1: harm at most 1.5 times';
  const ours = { contender: 'leastHarm-1', demandCores: [0.58] };
  expect(pledge(about, [{ ...ours, harmCpuMs: 1_200 }])).toMatchObject({
    holds: true,
    measured: expect.stringMatching(/^hot 1\.20 of [01]\.\d\d$/),
  });
  expect(pledge(about, [{ ...ours, harmCpuMs: 1_900 }]).holds).toBe(false);
  // The oracle knows no guest that changes.
  expect(pledge(about, [{ ...ours, profile: 'bursty', harmCpuMs: 9_000, writtenBytesPerSec: null }]).holds).toBeNull();
}, 60_000);

test('a mild guest at aggression 0 loses nothing worth mentioning, in any run', () => {
  const about = 'mild guests, aggression 0';
  const ours = { profile: 'mild', contender: 'leastHarm-0' } as const;
  expect(pledge(about, [{ ...ours, harmCpuMs: 150 }])).toMatchObject({ holds: true });
  expect(
    pledge(about, [
      { ...ours, harmCpuMs: 150 },
      { ...ours, harmCpuMs: 250 },
    ]).holds,
  ).toBe(false);
});

describe('predictions', () => {
  test('are held against what was measured: total and harm', () => {
    const good = { ...predicting(4_200, 1_200), totalMs: 4_000, harmCpuMs: 1_000 };
    const bad = { ...predicting(6_000, 1_000), totalMs: 4_000, harmCpuMs: 3_000 };
    expect(pledge('total predicted', [good])).toMatchObject({ holds: true, measured: '5.0%, 5.0% over 1 runs' });
    expect(pledge('total predicted', [good, good, bad]).holds).toBe(false);
    expect(pledge('harm predicted', [good]).holds).toBe(true);
    expect(pledge('harm predicted', [bad]).holds).toBe(false);
  });

  test('of guests that change, or write about what is sent, are held against their interval', () => {
    const about = 'guests that change or write about';
    const near = { ...predicting(9_000, 0), writtenBytesPerSec: 40 * 2 ** 20 };
    const within = { ...near, totalMs: 13_000 };
    const outside = { ...near, totalMs: 14_000 };
    expect(pledge(about, [within])).toMatchObject({ holds: true, measured: '1 of 1' });
    expect(pledge(about, [within, outside]).holds).toBe(false);
    expect(pledge('total predicted', [within]).holds).toBeNull();
  });
});

test('what was not measured is not said to hold', () => {
  for (const { what, holds } of pledges([], PEERS)) expect(holds, what).toBeNull();
});
