/** A migration's recorded progress as the columns of charts, and the moments at which its controller decided anew. Pure. */
import type { MigrationProgress } from '../../domain/operation.ts';
import type { MoveState } from '../../domain/states.ts';

export interface Point {
  readonly atMs: number;
  readonly state: MoveState;
  readonly progress: MigrationProgress | null;
}

/** A controller's reason, from the first moment that it was given. */
export interface Decision {
  readonly index: number;
  readonly atMs: number;
  readonly share: number;
  readonly pass: number;
  readonly why: string;
}

export interface Series {
  readonly startMs: number;
  /** Seconds since the first. */
  readonly seconds: readonly number[];
  readonly remaining: readonly number[];
  readonly rate: readonly number[];
  readonly dirtyRate: readonly number[];
  readonly grant: readonly number[];
  readonly share: readonly number[];
  readonly decisions: readonly Decision[];
}

/** `points` in the order of their time; those without progress say nothing to a chart. */
export function seriesOf(points: readonly Point[], startMs: number | null): Series {
  const told = points.flatMap(({ atMs, progress }) => (progress === null ? [] : [{ atMs, progress }]));
  const start = startMs ?? told[0]?.atMs ?? 0;
  const decisions: Decision[] = [];
  for (const [index, { atMs, progress }] of told.entries()) {
    const { decision, share, pass } = progress;
    const last = decisions.at(-1);
    const same = last !== undefined && last.share === share && last.pass === pass && sameReason(last.why, decision);
    if (decision !== '' && !same) decisions.push({ index, atMs, share, pass, why: decision });
  }
  const column = (of: (progress: MigrationProgress) => number): number[] => told.map(({ progress }) => of(progress));
  return {
    startMs: start,
    seconds: told.map(({ atMs }) => (atMs - start) / 1_000),
    remaining: column((progress) => progress.remainingBytes),
    rate: column((progress) => progress.rateBytesPerSec),
    dirtyRate: column((progress) => progress.dirtyRateBytesPerSec),
    grant: column((progress) => progress.grantBytesPerSec),
    share: column((progress) => progress.share),
    decisions,
  };
}

/** The same words with other figures: the same decision, looked at again. */
function sameReason(one: string, other: string): boolean {
  if (one === other) return true;
  const bare = (text: string): string => text.replace(/(?:[\d.]+(?:ms|s|m|h|d|%|[KMGT]?i?B(?:\/s)?)?)+/g, '#');
  return bare(one) === bare(other);
}

/** A later point of the same moment replaces the earlier; a stream that began anew may say things twice. */
export function withPoint(points: readonly Point[], point: Point, most = 5_000): Point[] {
  const at = points.findLastIndex(({ atMs }) => atMs <= point.atMs);
  const kept =
    at >= 0 && points[at]?.atMs === point.atMs ? points.toSpliced(at, 1, point) : points.toSpliced(at + 1, 0, point);
  return kept.length > most ? kept.slice(kept.length - most) : kept;
}
