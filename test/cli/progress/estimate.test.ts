import { describe, expect, it } from 'vitest';
import { endsIn } from '../../../src/cli/progress/estimate.ts';
import { formatDuration, intervalText } from '../../../src/domain/format.ts';
import { prediction } from '../records.ts';

describe('predicted figures', () => {
  it('a unit that both bounds have is said once', () => {
    expect(intervalText({ value: 12_000, low: 10_000, high: 15_000 }, formatDuration)).toBe('12s (10..15s)');
    expect(intervalText({ value: 1_200, low: 900, high: 1_500 }, formatDuration)).toBe('1.2s (900ms..1.5s)');
    expect(intervalText({ value: 90_000, low: 62_000, high: 95_000 }, formatDuration)).toBe('1m30s (1m2s..1m35s)');
    expect(intervalText({ value: 40, low: 40, high: 42 }, formatDuration)).toBe('40ms (40..42ms)');
  });

  it('bounds that read like the median say nothing', () => {
    expect(intervalText({ value: 12_000, low: 11_900, high: 12_100 }, formatDuration)).toBe('12s');
  });

  it('without a prediction the rate tells, or nobody', () => {
    expect(endsIn({ etaMs: 3_000, prediction: prediction() })).toBe('12s (10..15s)');
    expect(endsIn({ etaMs: 3_000, prediction: null })).toBe('3s');
    expect(endsIn({ etaMs: null, prediction: null })).toBe('unknown');
  });
});
