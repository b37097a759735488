/**
 * Units at the edge. Inside the program durations are milliseconds, sizes bytes, rates bytes per second and shares
 * 0..1; the text forms (`30s`, `40MiB/s`, `10Gbit/s`, `32GiB`) exist only where a person writes or reads them.
 * Nothing here knows what a duration or a size is for.
 */
import { z } from 'zod';

export { formatDuration, formatRate, formatShare, formatSize } from './format.ts';

const DURATION_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

const SIZE_BYTES: Readonly<Record<string, number>> = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Network gear is sold in decimal bits: 10Gbit/s is 1.25e9 bytes per second. */
const BIT_RATE_BYTES: Readonly<Record<string, number>> = {
  bit: 1 / 8,
  kbit: 125,
  Mbit: 125e3,
  Gbit: 125e6,
  Tbit: 125e9,
};

function scaled(text: string, unit: RegExp, table: Readonly<Record<string, number>>): number | undefined {
  const match = unit.exec(text.trim());
  const name = match?.[2];
  const factor = name !== undefined && Object.hasOwn(table, name) ? table[name] : undefined;
  return factor === undefined ? undefined : Number(match?.[1]) * factor;
}

/** `90s`, `1h30m`, `250ms` -> milliseconds; `undefined` when the text is no duration. */
export function parseDuration(text: string): number | undefined {
  const trimmed = text.trim();
  if (!/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(trimmed)) return undefined;
  let total = 0;
  for (const part of trimmed.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    total += Number(part[1]) * (DURATION_MS[part[2] ?? ''] ?? Number.NaN);
  }
  return Math.round(total);
}

/** `32GiB`, `500MB` -> bytes; `undefined` when the text is no size. */
export function parseSize(text: string): number | undefined {
  const bytes = scaled(text, /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/, SIZE_BYTES);
  return bytes === undefined ? undefined : Math.round(bytes);
}

/** `40MiB/s`, `10Gbit/s` -> bytes per second; `undefined` when the text is no rate. */
export function parseRate(text: string): number | undefined {
  const unit = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)\/s$/;
  const rate = scaled(text, unit, SIZE_BYTES) ?? scaled(text, unit, BIT_RATE_BYTES);
  return rate === undefined ? undefined : Math.round(rate);
}

/** Ways people write units, and what they most likely mean by them; the first that fits the quantity is suggested. */
const UNIT_SPELLINGS: readonly (readonly [RegExp, string])[] = [
  // A lower-case b is a bit: 10Gb/s and 10Gbps are what a network card does.
  [/^([kmgtKMGT])b(?:ps|\/s)$/, '$1bit/s'],
  [/^([kmgt])bits?\/?(?:s|sec)?$/i, '$1bit/s'],
  [/^([kmgt]i?)Bps$/i, '$1B/s'],
  [/^(.+)$/, '$1'],
  [/^([kmgt]i?b)$/i, '$1/s'],
  [/^([kmgt]i?b)\/s$/i, '$1'],
  [/^([kmgt])i?$/i, '$1iB'],
  [/^([kmgt])i?(?:\/s)?$/i, '$1iB/s'],
  [/^(?:millis|milliseconds?|msecs?)$/i, 'ms'],
  [/^(?:s|secs?|seconds?)$/i, 's'],
  [/^(?:m|mins?|minutes?)$/i, 'm'],
  [/^(?:h|hrs?|hours?)$/i, 'h'],
  [/^(?:d|days?)$/i, 'd'],
];

const KNOWN_UNITS = [...Object.keys(SIZE_BYTES), ...Object.keys(BIT_RATE_BYTES)].flatMap((unit) => [unit, `${unit}/s`]);

/** `10Gbps` -> `10Gbit/s`: what the text probably meant, if that is what `parse` accepts. */
function intended(text: string, accepted: (text: string) => boolean): string | undefined {
  const match = /^\s*(\d+(?:[.,]\d+)?)\s*([A-Za-z/]*)\s*$/.exec(text);
  const amount = match?.[1]?.replace(',', '.');
  const unit = match?.[2];
  if (amount === undefined || unit === undefined) return undefined;
  for (const [spelling, ours] of UNIT_SPELLINGS) {
    if (!spelling.test(unit)) continue;
    const candidate = unit.replace(spelling, ours);
    const spelled = KNOWN_UNITS.find((known) => known.toLowerCase() === candidate.toLowerCase()) ?? candidate;
    if (accepted(amount + spelled)) return amount + spelled;
  }
  return undefined;
}

interface Quantity {
  readonly parse: (text: string) => number | undefined;
  /** `a rate above zero`. */
  readonly noun: string;
  readonly examples: readonly [string, string, ...string[]];
  readonly min: number;
  /** The text form for editors; what counts is `parse`. */
  readonly pattern: string;
}

function quantity({ parse, noun, examples, min, pattern }: Quantity) {
  const expected = `expected ${noun} such as ${examples.slice(0, -1).join(', ')} or ${examples.at(-1)}`;
  const fits = (value: number | undefined): value is number =>
    value !== undefined && value >= min && value <= Number.MAX_SAFE_INTEGER;
  return z
    .union([z.number(), z.string()], { error: expected })
    .meta({ description: `${noun[0]?.toUpperCase()}${noun.slice(1)}.`, examples: [...examples], pattern, minimum: min })
    .transform((value, ctx): number => {
      const parsed = typeof value === 'number' ? value : parse(value);
      if (fits(parsed)) return parsed;
      const meant = typeof value === 'string' ? intended(value, (text) => fits(parse(text))) : undefined;
      ctx.addIssue({
        code: 'custom',
        message: expected,
        input: value,
        ...(meant === undefined ? {} : { params: { remedy: `did you mean ${meant}?` } }),
      });
      return z.NEVER;
    });
}

const DURATION_PATTERN = '^\\s*(\\d+(\\.\\d+)?(ms|s|m|h|d))+\\s*$';
const SIZE_PATTERN = '^\\s*\\d+(\\.\\d+)?\\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)\\s*$';
const RATE_PATTERN = '^\\s*\\d+(\\.\\d+)?\\s*(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB|bit|kbit|Mbit|Gbit|Tbit)/s\\s*$';

/** A duration as `30s` or a number of milliseconds. */
export const durationText = quantity({
  parse: parseDuration,
  noun: 'a duration above zero',
  examples: ['300ms', '30s', '10m', '1h30m'],
  min: 1,
  pattern: DURATION_PATTERN,
});
/** A size as `32GiB` or a number of bytes. */
export const sizeText = quantity({
  parse: parseSize,
  noun: 'a size above zero',
  examples: ['512MiB', '32GiB'],
  min: 1,
  pattern: SIZE_PATTERN,
});
/** A rate as `40MiB/s` or `10Gbit/s` or a number of bytes per second. */
export const rateText = quantity({
  parse: parseRate,
  noun: 'a rate above zero',
  examples: ['40MiB/s', '10Gbit/s'],
  min: 1,
  pattern: RATE_PATTERN,
});
/** A rate that may be zero (a guest that dirties nothing). */
export const rateOrZeroText = quantity({
  parse: parseRate,
  noun: 'a rate',
  examples: ['0B/s', '40MiB/s', '10Gbit/s'],
  min: 0,
  pattern: RATE_PATTERN,
});
/** A share of what the guest demands, 0..1. */
export const share = z
  .number({ error: 'expected a number from 0 to 1' })
  .min(0, { error: 'expected a number from 0 to 1' })
  .max(1, { error: 'expected a number from 0 to 1' });
