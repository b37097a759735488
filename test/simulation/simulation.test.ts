/** Lives from many seeds go well, whatever goes wrong in them; and programs that are broken on purpose are caught. */
import { describe, expect, test } from 'vitest';
import { live } from './simulation.ts';
import { VARIANTS } from './variants.ts';

/** 2,000 in CI: `npm run simulate`. */
const SEEDS = Array.from({ length: 30 }, (_, index) => index + 1);

test.each(SEEDS)('seed %i', async (seed) => {
  const { fault, trace } = await live(seed);
  expect(fault, trace.join('\n')).toBeNull();
});

test('the same seed gives the same life', async () => {
  expect(await live(7)).toEqual(await live(7));
});

describe('a program that is broken on purpose is caught', () => {
  const caught = VARIANTS.map((variant) => [variant.name, variant.caughtBy, variant] as const);

  test.each(caught)('%s, with seed %i', async (_, seed, variant) => {
    expect((await live(seed)).fault).toBeNull();
    expect((await live(seed, variant)).fault).toMatch(variant.fault);
  });
});
