/** Predicted figures as text: a median with the interval that nine of ten outcomes lie in. Pure. */

import { formatDuration, intervalText } from '../../domain/format.ts';
import type { MigrationProgress } from '../../domain/operation.ts';

/** `12s (10..15s)` where it was predicted, `12s` where only the rate is known, `unknown`. */
export function endsIn({ etaMs, prediction }: Pick<MigrationProgress, 'etaMs' | 'prediction'>): string {
  if (prediction !== null) return intervalText(prediction.totalMs, formatDuration);
  return etaMs === null ? 'unknown' : formatDuration(etaMs);
}
