/** Units: what is accepted, what is refused, and that what is printed can be read again. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  durationText,
  formatDuration,
  formatRate,
  formatShare,
  formatSize,
  parseDuration,
  parseRate,
  parseSize,
  rateOrZeroText,
  rateText,
  share,
  sizeText,
} from '../../src/domain/units.ts';

describe('text becomes numbers', () => {
  test.each([
    ['250ms', 250],
    ['30s', 30_000],
    ['1.5s', 1_500],
    ['10m', 600_000],
    ['1h30m', 5_400_000],
    ['2d', 172_800_000],
    [' 30s ', 30_000],
  ])('the duration %s is %d ms', (text, ms) => expect(parseDuration(text)).toBe(ms));

  test.each([
    ['1B', 1],
    ['1kB', 1_000],
    ['1KiB', 1_024],
    ['500MB', 5e8],
    ['1.5GiB', 1.5 * 2 ** 30],
    ['2 TiB', 2 * 2 ** 40],
  ])('the size %s is %d bytes', (text, bytes) => expect(parseSize(text)).toBe(bytes));

  test('a rate in bits is decimal, as network cards are sold', () => {
    expect(parseRate('10Gbit/s')).toBe(1.25e9);
    expect(parseRate('40MiB/s')).toBe(40 * 2 ** 20);
    expect(parseRate('8kbit/s')).toBe(1_000);
  });

  test.each(['', 's', '30', '30 s', '-1s', '1e3s', '30S', '1h-30m', 'soon'])('%j is no duration', (text) => {
    expect(parseDuration(text)).toBeUndefined();
  });
  test.each(['', '32', '32gib', '32G', '-1GiB', '1e3MiB', '0x10B', '1GiB/s', 'big', '1,5GiB', '1toString'])(
    '%j is no size',
    (text) => {
      expect(parseSize(text)).toBeUndefined();
    },
  );
  test.each(['', '40', '40MiB', '10Gbps', '-1B/s', 'fast', '1constructor/s'])('%j is no rate', (text) => {
    expect(parseRate(text)).toBeUndefined();
  });
});

describe('what is printed can be read again', () => {
  // Two digits and a half are printed: a twentieth at worst (1.05 becomes 1.1), and never a unit off.
  const near = (read: number | undefined, written: number) =>
    Math.abs((read ?? Number.NaN) - written) <= written / 19 + 0.5;

  test('sizes and rates', () => {
    fc.assert(
      fc.property(fc.double({ min: 1, max: 2 ** 50, noNaN: true }), (bytes) => {
        expect(near(parseSize(formatSize(bytes)), bytes)).toBe(true);
        expect(near(parseRate(formatRate(bytes)), bytes)).toBe(true);
      }),
    );
  });

  test('durations, up to what their two largest parts leave out', () => {
    fc.assert(
      fc.property(fc.double({ min: 1, max: 1e10, noNaN: true }), (ms) => {
        const lost = ms >= 86_400_000 ? 3_600_000 : ms >= 3_600_000 ? 60_000 : ms >= 9_950 ? 1_000 : 100;
        expect(Math.abs((parseDuration(formatDuration(ms)) ?? Number.NaN) - ms)).toBeLessThanOrEqual(lost);
      }),
    );
  });

  test.each([
    [999.6, '1s'],
    [250, '250ms'],
    [1_500, '1.5s'],
    [59_600, '1m'],
    [95_000, '1m35s'],
    [90_000_000, '1d1h'],
    [-1_500, '-1.5s'],
    [Number.NaN, 'unknown'],
  ])('%d ms prints as %s', (ms, text) => expect(formatDuration(ms)).toBe(text));

  test.each([
    [0, '0B'],
    [1_610_612_736, '1.5GiB'],
    [1_023.7, '1KiB'],
    [1_023.7 * 2 ** 20, '1GiB'],
    [Number.POSITIVE_INFINITY, 'unknown'],
  ])('%d bytes print as %s', (bytes, text) => expect(formatSize(bytes)).toBe(text));

  test('a share prints as a percentage', () => expect(formatShare(0.305)).toBe('31%'));
});

describe('the schemas at the edge', () => {
  test('numbers are taken as they are, in the inner unit', () => {
    expect(durationText.parse(1_500)).toBe(1_500);
    expect(sizeText.parse(4_096)).toBe(4_096);
    expect(rateText.parse(1e9)).toBe(1e9);
  });

  test.each([0, -1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 1e300, null, true, {}, ['1s']])(
    '%j is no quantity above zero',
    (value) => {
      for (const schema of [durationText, sizeText, rateText]) expect(schema.safeParse(value).success).toBe(false);
    },
  );

  test('zero is a rate only where it may be', () => {
    expect(rateOrZeroText.parse('0B/s')).toBe(0);
    expect(rateOrZeroText.safeParse(-1).success).toBe(false);
    expect(rateText.safeParse('0B/s').success).toBe(false);
  });

  test.each([-0.1, 1.1, Number.NaN, '0.5'])('%j is no share', (value) =>
    expect(share.safeParse(value).success).toBe(false),
  );

  test.each([
    ['10Gbps', '10Gbit/s', rateText],
    ['10Gb/s', '10Gbit/s', rateText],
    ['10gbit/s', '10Gbit/s', rateText],
    ['100MBps', '100MB/s', rateText],
    ['40MiB', '40MiB/s', rateText],
    ['40M', '40MiB/s', rateText],
    ['32G', '32GiB', sizeText],
    ['32gib', '32GiB', sizeText],
    ['32GiB/s', '32GiB', sizeText],
    ['1,5GiB', '1.5GiB', sizeText],
    ['30 sec', '30s', durationText],
    ['5min', '5m', durationText],
    ['2 hours', '2h', durationText],
  ])('the remedy for %s is %s', (text, meant, schema) => {
    const issue = schema.safeParse(text).error?.issues[0];
    expect(issue?.code === 'custom' ? issue.params : undefined).toEqual({ remedy: `did you mean ${meant}?` });
  });
});
