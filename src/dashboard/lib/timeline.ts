/**
 * An operation on a time axis: what was predicted of each VM's migrations beside what came of them, and where now is. Pure;
 * all positions are parts of the axis, 0..1.
 */

import { formatDuration } from '../../domain/format.ts';
import type { Interval } from '../../domain/prediction.ts';
import { ENDED_MOVE_STATES, type MoveState } from '../../domain/states.ts';
import { MOVE_WORDS, type Tone } from './words.ts';

export interface TimelineMove {
  readonly id: string;
  readonly vm: string;
  readonly attempt: number;
  readonly destination: string;
  readonly state: MoveState;
  readonly queuedAtMs: number;
  readonly startedAtMs: number | null;
  readonly headStartMs: number;
  readonly endedAtMs: number | null;
  readonly predicted: { readonly totalMs: Interval } | null;
  readonly progress: { readonly prediction: { readonly totalMs: Interval } | null } | null;
}

export interface TimelineInput {
  /** The order of the rows. */
  readonly vms: readonly string[];
  readonly moves: readonly TimelineMove[];
  /** Of the request. */
  readonly createdAtMs: number;
  readonly nowMs: number;
  /** null: it has not ended. */
  readonly endedAtMs: number | null;
  readonly etaMs: Interval | null;
}

export interface Span {
  readonly from: number;
  readonly to: number;
}
export interface Bar extends Span {
  readonly moveId: string;
  readonly attempt: number;
  readonly tone: Tone;
  readonly running: boolean;
  readonly text: string;
}
/** When an attempt was to end, as it was said before its start (`before`) or is said now. */
export interface Expected extends Span {
  readonly at: number;
  readonly when: 'before' | 'now';
  readonly text: string;
}
export interface TimelineRow {
  readonly vm: string;
  readonly waits: Span | null;
  readonly bars: readonly Bar[];
  readonly expected: readonly Expected[];
  /** The row in words, for those who do not see it. */
  readonly text: string;
}
export interface Timeline {
  readonly rows: readonly TimelineRow[];
  readonly ticks: readonly { readonly at: number; readonly text: string }[];
  /** null: it has ended. */
  readonly now: number | null;
  readonly end: Expected | null;
  readonly lengthMs: number;
}

/** A little more than what is known of, so that the last bar does not touch the edge. */
const MARGIN = 1.04;
/** No guest's prediction may squeeze all others into a corner: what is later than this many times the median end is cut. */
const FAR = 3;

export function timelineOf(input: TimelineInput): Timeline {
  const { createdAtMs, nowMs, endedAtMs, etaMs, moves } = input;
  const until = endedAtMs ?? nowMs;
  const ends = moves.flatMap((move) => expectedEnds(move, nowMs));
  const likely = Math.max(until, ...ends.map(({ value }) => value), etaMs === null ? 0 : nowMs + etaMs.value);
  const most = Math.max(until, ...ends.map(({ high }) => high), etaMs === null ? 0 : nowMs + etaMs.high);
  const cap = createdAtMs + FAR * Math.max(1, likely - createdAtMs);
  const lengthMs = Math.max(1_000, (Math.min(most, cap) - createdAtMs) * MARGIN);
  const place = (ms: number): number => Math.min(1, Math.max(0, (ms - createdAtMs) / lengthMs));
  const byVm = new Map<string, TimelineMove[]>();
  for (const move of moves) byVm.set(move.vm, [...(byVm.get(move.vm) ?? []), move]);
  const rows = input.vms.map((vm): TimelineRow => {
    const own = (byVm.get(vm) ?? []).toSorted((a, b) => a.attempt - b.attempt);
    const last = own.at(-1);
    const waits =
      last !== undefined && last.startedAtMs === null && last.endedAtMs === null
        ? { from: place(last.queuedAtMs), to: place(until) }
        : null;
    const bars = own.flatMap((move): Bar[] => {
      if (move.startedAtMs === null) return [];
      const to = move.endedAtMs ?? nowMs;
      const [word, tone] = MOVE_WORDS[move.state];
      const text = `attempt ${move.attempt} to ${move.destination}: ${word}, ${formatDuration(to - move.startedAtMs)}`;
      return [
        {
          moveId: move.id,
          attempt: move.attempt,
          from: place(move.startedAtMs),
          to: place(to),
          tone,
          running: !ENDED_MOVE_STATES.has(move.state),
          text,
        },
      ];
    });
    const expected = own.flatMap((move) =>
      expectedEnds(move, nowMs).map(({ low, value, high, when }): Expected => {
        const start = move.startedAtMs ?? createdAtMs;
        const text = `${when === 'before' ? 'predicted before the start' : 'predicted now'}: ends ${formatDuration(value - start)} after its start (${formatDuration(low - start)} to ${formatDuration(high - start)})`;
        return { from: place(low), at: place(value), to: place(high), when, text };
      }),
    );
    const said = [...bars.map(({ text }) => text), ...expected.map(({ text }) => text)];
    return { vm, waits, bars, expected, text: said.length === 0 ? 'not started' : said.join('; ') };
  });
  return {
    rows,
    ticks: ticksOf(lengthMs),
    now: endedAtMs === null ? place(nowMs) : null,
    end:
      etaMs === null || endedAtMs !== null
        ? null
        : {
            from: place(nowMs + etaMs.low),
            at: place(nowMs + etaMs.value),
            to: place(nowMs + etaMs.high),
            when: 'now',
            text: `all done in ${formatDuration(etaMs.value)} (${formatDuration(etaMs.low)} to ${formatDuration(etaMs.high)})`,
          },
    lengthMs,
  };
}

/** Of one attempt, as moments: what was said before its start, and (while it runs) what is said now. */
function expectedEnds(move: TimelineMove, nowMs: number): (Interval & { readonly when: 'before' | 'now' })[] {
  const { startedAtMs, headStartMs, predicted, progress, endedAtMs } = move;
  if (startedAtMs === null) return [];
  const after = (start: number, { low, value, high }: Interval, when: 'before' | 'now') => ({
    low: start + low,
    value: start + value,
    high: start + high,
    when,
  });
  return [
    ...(predicted === null ? [] : [after(startedAtMs + headStartMs, predicted.totalMs, 'before')]),
    ...(endedAtMs !== null || progress?.prediction == null ? [] : [after(nowMs, progress.prediction.totalMs, 'now')]),
  ];
}

const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400];

/** At most seven, at round times. */
export function ticksOf(lengthMs: number): { at: number; text: string }[] {
  const step = 1_000 * (STEPS_S.find((seconds) => lengthMs / (seconds * 1_000) <= 7) ?? Math.ceil(lengthMs / 7_000));
  const ticks = [];
  for (let ms = 0; ms <= lengthMs; ms += step)
    ticks.push({ at: ms / lengthMs, text: ms === 0 ? '0' : formatDuration(ms) });
  return ticks;
}
