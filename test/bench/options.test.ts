/** What the benchmark may be asked. */
import { expect, test } from 'vitest';
import { CONTENDERS } from './contenders/all.ts';
import { estimate, helpText, hours, optionsOf, PROFILES, UsageError } from './options.ts';

test('without options: everything, five times, at 40 MiB/s', () => {
  expect(optionsOf([])).toMatchObject({
    profiles: PROFILES,
    contenders: CONTENDERS.map(({ name }) => name),
    runs: 5,
    bandwidthBytesPerSec: 40 * 2 ** 20,
    limitMs: 60_000,
    reportOnly: false,
  });
});

test('what is wrong is told at once, with what is possible', () => {
  const args = [
    '--profiles',
    'hot,midl',
    '--contenders',
    'leastharm-1',
    '--runs',
    '0',
    '--bandwidth',
    'fast',
    '--limit',
    'soon',
  ];
  expect(() => optionsOf(args)).toThrow(UsageError);
  expect(() => optionsOf(args)).toThrow(
    /--runs: "0"[\s\S]*--bandwidth: "fast"[\s\S]*--limit: "soon"[\s\S]*--profiles: there is no "midl"; did you mean mild\?[\s\S]*--contenders: there is no "leastharm-1"; did you mean leastHarm-1\?/,
  );
  expect(() => optionsOf(['--fast'])).toThrow(UsageError);
});

test('help names all that can be chosen and how long it takes', () => {
  const text = helpText();
  for (const name of [...PROFILES, ...CONTENDERS.map((one) => one.name)]) expect(text).toContain(name);
  expect(text).toContain('550 runs: about 5.0 h');
  expect(hours(estimate(2, 60_000).mostSec)).toBe('3 min');
});
