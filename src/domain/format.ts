/**
 * Figures as people read them, the same on a terminal, in a message and in the browser: durations, sizes, rates, shares,
 * predictions with their interval, and names made harmless. Nothing but text here, no schemas: the dashboard takes this
 * file as it is. What people write is read by units.ts.
 */
import type { Interval } from './prediction.ts';

/** 95_000 -> `1m35s`; 1_500 -> `1.5s`; 250 -> `250ms`. For people: two largest parts, no more. */
export function formatDuration(ms: number): string {
  if (!Number.isFinite(ms)) return 'unknown';
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms < 999.5) return `${Math.round(ms)}ms`;
  if (ms < 9_950) return `${trimZero((ms / 1_000).toFixed(1))}s`;
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3_600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([amount]) => amount > 0);
  return parts
    .slice(first, first + 2)
    .filter(([amount]) => amount > 0)
    .map(([amount, unit]) => `${amount}${unit}`)
    .join('');
}

/** 1_610_612_736 -> `1.5GiB`. */
export function formatSize(bytes: number): string {
  if (!Number.isFinite(bytes)) return 'unknown';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  // 1023.5 would print as 1024: that is one of the next unit.
  while (Math.abs(value) >= 1_023.5 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${trimZero(value.toFixed(Math.abs(value) >= 100 || unit === 0 ? 0 : 1))}${units[unit]}`;
}

/** 41_943_040 -> `40MiB/s`. */
export function formatRate(bytesPerSec: number): string {
  return `${formatSize(bytesPerSec)}/s`;
}

/** 0.305 -> `31%`. */
export function formatShare(share: number): string {
  return `${Math.round(share * 100)}%`;
}

/** 1.42 -> `1.4 cores`; 12.3 -> `12 cores`. */
export function coresText(cores: number): string {
  return `${cores.toFixed(cores < 9.95 ? 1 : 0)} cores`;
}

/** `12s (10..15s)`; `12s` where the bounds read alike. `format` puts the unit last. */
export function intervalText({ value, low, high }: Interval, format: (value: number) => string): string {
  const [median, from, to] = [value, low, high].map(format);
  if (median === undefined || from === undefined || to === undefined) return '';
  return from === median && to === median ? median : `${median} (${rangeText(from, to)})`;
}

/** `10..15s`, `900ms..1.5s`: a unit that both have is said once. */
function rangeText(from: string, to: string): string {
  if (from === to) return from;
  const [, amount = from, unit = ''] = /^([\d.]+)(\D+)$/.exec(from) ?? [];
  return unit !== '' && new RegExp(`^[\\d.]+${unit}$`).test(to) ? `${amount}..${to}` : `${from}..${to}`;
}

/** A figure with its bounds; a bound alone where that is all that evidence gives; null: not even that. */
export function estimateText(
  { value, low, high }: { readonly value: number | null; readonly low: number; readonly high: number | null },
  format: (value: number) => string,
): string | null {
  if (value !== null) return intervalText({ value, low, high: high ?? value }, format);
  if (low > 0 && high !== null) return `${format(low)} to ${format(high)}`;
  if (low > 0) return `at least ${format(low)}`;
  return high === null ? null : `at most ${format(high)}`;
}

/** `1 VM`, `3 VMs`. */
export function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}

/**
 * Names and messages may come from another machine: control characters (also the 8-bit ones, which some terminals obey)
 * and direction overrides are shown as `\xNN` or `\uNNNN`, so that no name can move the cursor or hide a part of a line.
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this replaces
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

function trimZero(text: string): string {
  return text.endsWith('.0') ? text.slice(0, -2) : text;
}
