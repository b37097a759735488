import { describe, expect, it } from 'vitest';
import { type TimelineInput, type TimelineMove, ticksOf, timelineOf } from '../../src/dashboard/lib/timeline.ts';

function move(over: Partial<TimelineMove>): TimelineMove {
  return {
    id: 'ev-1-1',
    vm: 'web-1',
    attempt: 1,
    destination: 'b',
    state: 'precopy',
    queuedAtMs: 0,
    startedAtMs: null,
    headStartMs: 0,
    endedAtMs: null,
    predicted: null,
    progress: null,
    ...over,
  };
}
const input = (over: Partial<TimelineInput>): TimelineInput => ({
  vms: ['web-1'],
  moves: [],
  createdAtMs: 1_000,
  nowMs: 21_000,
  endedAtMs: null,
  etaMs: null,
  ...over,
});
const interval = (value: number, low: number, high: number) => ({ totalMs: { value, low, high } });

describe('an operation on a time axis', () => {
  it('what was predicted before the start, what is predicted now, and what is real, at one scale', () => {
    const one = move({
      startedAtMs: 11_000,
      headStartMs: 1_000,
      predicted: interval(10_000, 8_000, 20_000),
      progress: { prediction: interval(5_000, 4_000, 9_000) },
    });
    const timeline = timelineOf(input({ moves: [one], etaMs: { value: 6_000, low: 5_000, high: 10_000 } }));
    const ms = (part: number) => Math.round(part * timeline.lengthMs);
    const [row] = timeline.rows;
    expect(row?.bars.map(({ from, to, running }) => [ms(from), ms(to), running])).toEqual([[10_000, 20_000, true]]);
    expect(row?.expected.map(({ when, from, at, to }) => [when, ms(from), ms(at), ms(to)])).toEqual([
      ['before', 19_000, 21_000, 31_000],
      ['now', 24_000, 25_000, 29_000],
    ]);
    expect(ms(timeline.now ?? -1)).toBe(20_000);
    expect([ms(timeline.end?.from ?? 0), ms(timeline.end?.to ?? 0)]).toEqual([25_000, 30_000]);
    expect(row?.text).toContain('attempt 1 to b: copying, 10s');
    expect(row?.text).toContain('predicted before the start: ends 11s after its start (9s to 21s)');
  });

  it('every attempt has a bar; one that waits has a line until now; a VM without a move has neither', () => {
    const failed = move({ id: 'x-1', startedAtMs: 2_000, endedAtMs: 4_000, state: 'failed' });
    const again = move({ id: 'x-2', attempt: 2, queuedAtMs: 5_000, state: 'queued' });
    const timeline = timelineOf(input({ vms: ['web-1', 'web-2'], moves: [again, failed] }));
    expect(timeline.rows[0]?.bars.map(({ moveId, tone }) => [moveId, tone])).toEqual([['x-1', 'bad']]);
    expect(timeline.rows[0]?.waits?.to).toBe(timeline.now);
    expect(timeline.rows[1]).toMatchObject({ waits: null, bars: [], text: 'not started' });
  });

  it('one prediction without an end does not squeeze the rest: the axis ends at three times the likely end', () => {
    const one = move({ startedAtMs: 1_000, progress: { prediction: interval(20_000, 15_000, 9_000_000) } });
    const timeline = timelineOf(input({ moves: [one] }));
    expect(timeline.lengthMs).toBeLessThan(130_000);
    expect(timeline.rows[0]?.expected[0]?.to).toBe(1);
  });

  it('ended: no now, no expected end, all within the axis', () => {
    const one = move({ startedAtMs: 2_000, endedAtMs: 9_000, state: 'done', predicted: interval(5_000, 4_000, 6_000) });
    const timeline = timelineOf(input({ moves: [one], endedAtMs: 10_000, etaMs: { value: 1, low: 1, high: 1 } }));
    expect(timeline).toMatchObject({ now: null, end: null });
    const [bar] = timeline.rows[0]?.bars ?? [];
    expect(bar?.to).toBeLessThan(1);
  });

  it('ticks are round and few', () => {
    expect(ticksOf(21_000).map(({ text }) => text)).toEqual(['0', '5s', '10s', '15s', '20s']);
    for (const length of [1_000, 59_000, 3_600_000, 40 * 86_400_000]) expect(ticksOf(length).length).toBeLessThan(9);
  });
});
