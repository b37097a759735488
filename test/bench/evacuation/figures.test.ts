import { describe, expect, test } from 'vitest';
import { harmCpuMs, meanRate, mostRate, sending } from './figures.ts';

const guest = { name: 'a', touchedBytes: 1, writesPerMs: 10, cores: 0.5 };

describe('harm', () => {
  test('who writes less by a fifth had a fifth less CPU', () => {
    const [before, after] = [
      new Map([['a', { atMs: 0, writes: 100 }]]),
      new Map([['a', { atMs: 10_000, writes: 80_100 }]]),
    ];
    expect(harmCpuMs([guest], before, after)).toBeCloseTo(0.2 * 10_000 * 0.5);
  });

  test('a guest that is not to be seen any more is not taken for unharmed', () => {
    expect(() => harmCpuMs([guest], new Map([['a', { atMs: 0, writes: 0 }]]), new Map())).toThrow(/a /);
  });
});

describe('egress', () => {
  // 1,000 bytes/s for two seconds, nothing for two, 3,000 bytes/s for one.
  const samples = [0, 1_000, 2_000, 2_000, 2_000, 5_000].map((bytes, second) => ({ atMs: second * 1_000, bytes }));

  test('the mean is over what lies between', () => {
    expect(meanRate(samples, 0, 5_000)).toBe(1_000);
    expect(meanRate(samples, 4_000, 5_000)).toBe(3_000);
  });

  test('the most in any stretch, however it lies', () => {
    expect(mostRate(samples, 1_000)).toBe(3_000);
    expect(mostRate(samples, 2_000)).toBe(1_500);
  });

  test('sending goes from the first busy moment to the last, pauses included', () => {
    expect(sending(samples, 500)).toEqual({ fromMs: 0, toMs: 5_000 });
    expect(sending(samples, 2_000)).toEqual({ fromMs: 4_000, toMs: 5_000 });
    expect(sending(samples, 9_000)).toBe(null);
  });
});
