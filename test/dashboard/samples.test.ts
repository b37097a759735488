import { describe, expect, it } from 'vitest';
import { type Point, seriesOf, withPoint } from '../../src/dashboard/lib/samples.ts';

function point(atMs: number, decision: string, share = 1, pass = 1): Point {
  return {
    atMs,
    state: 'precopy',
    progress: {
      pass,
      remainingBytes: 1_000 - atMs / 100,
      transferredBytes: 0,
      totalBytes: 1_000,
      rateBytesPerSec: 10,
      dirtyRateBytesPerSec: 5,
      grantBytesPerSec: 12,
      share,
      etaMs: null,
      prediction: null,
      decision,
    },
  };
}

describe('a course as charts', () => {
  it('columns of one length, seconds from the start on, points without progress left out', () => {
    const series = seriesOf(
      [{ atMs: 500, state: 'admitted', progress: null }, point(2_000, 'a'), point(3_000, 'b')],
      1_000,
    );
    expect(series.seconds).toEqual([1, 2]);
    expect(series.remaining).toEqual([980, 970]);
    expect([series.rate, series.dirtyRate, series.grant, series.share].map(({ length }) => length)).toEqual([
      2, 2, 2, 2,
    ]);
  });

  it('the same reason with other figures is the same decision; another share or pass is another', () => {
    const { decisions } = seriesOf(
      [
        point(1_000, '100%: writes 20MiB/s, ends in 4s'),
        point(2_000, '100%: writes 21.5MiB/s, ends in 1m3s'),
        point(3_000, '50%: writes 21MiB/s, ends in 3s', 0.5),
        point(4_000, '50%: writes 21MiB/s, ends in 2s', 0.5, 2),
        point(5_000, '50%: gentler would cost more', 0.5, 2),
      ],
      null,
    );
    expect(decisions.map(({ index }) => index)).toEqual([0, 2, 3, 4]);
  });

  it('a recording that is told again adds nothing; late points find their place; the oldest go', () => {
    const all = [point(1, 'a'), point(3, 'b'), point(2, 'c'), point(3, 'd')].reduce<Point[]>(
      (points, one) => withPoint(points, one),
      [],
    );
    expect(all.map(({ atMs }) => atMs)).toEqual([1, 2, 3]);
    expect(all[2]?.progress?.decision).toBe('d');
    expect(withPoint(all, point(9, 'e'), 2).map(({ atMs }) => atMs)).toEqual([3, 9]);
  });
});
