/** Lives from many seeds go well, whatever goes wrong in them; and programs that are broken on purpose are caught. */
import { describe, expect, test } from 'vitest';
import { live } from './simulation.ts';
import { VARIANTS } from './variants.ts';

/** 2,000 in CI: `npm run simulate`. */
const SEEDS = Array.from({ length: 30 }, (_, index) => index + 1);

/** A change of the program gives every seed another life: which one catches what is looked for again, up to here. */
const WITHIN_SEEDS = 1_000;

test.each(SEEDS)('seed %i', async (seed) => {
  const { fault, trace } = await live(seed);
  expect(fault, trace.join('\n')).toBeNull();
});

test('the same seed gives the same life', async () => {
  expect(await live(7)).toEqual(await live(7));
});

describe('a program that is broken on purpose is caught', () => {
  const caught = VARIANTS.map((variant) => [variant.name, variant.caughtBy, variant] as const);

  test.each(caught)('%s, from seed %i on', { timeout: 300_000 }, async (_, first, variant) => {
    for (let tried = 0; tried < WITHIN_SEEDS; tried += 1) {
      const seed = ((first - 1 + tried) % WITHIN_SEEDS) + 1;
      const { fault } = await live(seed, variant);
      if (fault === null) continue;
      if (seed !== first) console.info(`${variant.name}: caught by seed ${seed}, no more by ${first}`);
      expect(fault).toMatch(variant.fault);
      expect((await live(seed)).fault).toBeNull();
      return;
    }
    expect.fail(`not caught by ${WITHIN_SEEDS} seeds`);
  });
});
