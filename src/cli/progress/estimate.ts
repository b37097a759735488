/** Predicted figures as text: a median with the interval that nine of ten outcomes lie in. Pure. */
import type { MigrationProgress } from '../../domain/operation.ts';
import type { Interval } from '../../domain/prediction.ts';
import { formatDuration } from '../../domain/units.ts';

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

/** `12s (10..15s)` where it was predicted, `12s` where only the rate is known, `unknown`. */
export function endsIn({ etaMs, prediction }: Pick<MigrationProgress, 'etaMs' | 'prediction'>): string {
  if (prediction !== null) return intervalText(prediction.totalMs, formatDuration);
  return etaMs === null ? 'unknown' : formatDuration(etaMs);
}
