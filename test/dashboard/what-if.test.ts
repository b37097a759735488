import { describe, expect, it } from 'vitest';
import { requirementsOf, scaleOf, steps, type WhatIfRow } from '../../src/dashboard/lib/what-if.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { whatIfFigures } from '../../src/domain/what-if-words.ts';
import { prediction } from '../cli/records.ts';

function row(aggression: number | null, over: Partial<WhatIfRow> = {}): WhatIfRow {
  return {
    aggression,
    chosen: false,
    share: 0.5,
    begins: 'now',
    prediction: prediction(),
    endsInTime: 1,
    breaks: [],
    why: 'so',
    ...over,
  };
}

describe('what-if', () => {
  it('the slider goes by aggression; the row that nobody throttles is none of its steps and not on its scale', () => {
    const endless = prediction();
    const rows = [
      row(null, { prediction: { ...endless, totalMs: { value: 1e9, low: 1e9, high: 1e9 } } }),
      row(1),
      row(0),
    ];
    expect(steps(rows).map(({ aggression }) => aggression)).toEqual([0, 1]);
    expect(scaleOf({ rows }, 'totalMs')).toBe(endless.totalMs.high);
  });

  it('the four requirements, kept or not, with the reason', () => {
    const broken = row(0, { breaks: [{ requirement: 'maxTime', why: 'no end within 10m' }] });
    const lines = requirementsOf(broken, { ...POLICY_PRESETS.maintenance, maxBandwidthBytesPerSec: 41_943_040 });
    expect(lines.map(({ requirement, limit, broken: why }) => [requirement, limit, why])).toEqual([
      ['maxTime', '10m', 'no end within 10m'],
      ['minCpu', '10%', null],
      ['maxStall', '300ms', null],
      ['maxBandwidth', '40MiB/s', null],
    ]);
  });

  it('what never ends has no downtime and no harm that is worth a figure', () => {
    const far = { value: 1_200_000, low: 1_100_000, high: 1_200_000 };
    const figures = whatIfFigures(
      { prediction: { ...prediction(), totalMs: far }, endsInTime: 0 },
      { maxTimeMs: 600_000 },
    );
    expect(figures).toMatchObject({ total: 'no end', downtime: '-', harm: '-' });
  });
});
