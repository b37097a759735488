/**
 * When an operation will end, from what its migrations say. Those that run have predictions; what still waits is sent at the
 * rate at which all is sent now. Rough, and said so by its bounds. Pure.
 */
import { ENDED_MOVE_STATES, type MoveRecord, type OperationRecord } from '../domain/operation.ts';
import type { Interval } from '../domain/prediction.ts';

/** What waits may be sent faster or slower than what is sent now. */
const SPREAD = { low: 0.7, high: 2 } as const;

/** From now on; null: nobody can tell (nothing runs, or one that runs cannot tell). */
export function etaOf(
  { tasks, state }: Pick<OperationRecord, 'tasks' | 'state'>,
  moves: readonly MoveRecord[],
  memoryOf: (vm: string) => number | null,
): Interval | null {
  if (state !== 'running') return null;
  // One that was stopped and queued again still has the progress that it had.
  const underWay = moves.filter((move) => move.state !== 'queued' && !ENDED_MOVE_STATES.has(move.state));
  const running = underWay.filter((move) => move.progress !== null || move.predicted !== null);
  const known = new Set(running.map(({ vm }) => vm));
  const waiting = tasks.filter((task) => !ENDED_MOVE_STATES.has(task.state) && !known.has(task.vm));
  const ends = running.map(endOf);
  if (ends.length === 0 || ends.some((end) => end === null)) return null;
  const longest = ends.reduce<Interval>(
    (most, end) => ({
      value: Math.max(most.value, end?.value ?? 0),
      low: Math.max(most.low, end?.low ?? 0),
      high: Math.max(most.high, end?.high ?? 0),
    }),
    { value: 0, low: 0, high: 0 },
  );
  if (waiting.length === 0) return longest;
  const bytesPerMs = running.reduce((sum, move) => sum + rateOf(move), 0) / 1_000;
  const sizes = waiting.map(({ vm }) => memoryOf(vm));
  if (bytesPerMs <= 0 || sizes.includes(null)) return null;
  const queuedMs = sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0) / bytesPerMs;
  return {
    value: longest.value + queuedMs,
    low: longest.low + queuedMs * SPREAD.low,
    high: longest.high + queuedMs * SPREAD.high,
  };
}

/** One that has just begun is predicted as before its start. */
function endOf({ progress, predicted }: MoveRecord): Interval | null {
  if (progress === null) return predicted?.totalMs ?? null;
  if (progress.prediction !== null) return progress.prediction.totalMs;
  if (progress.etaMs !== null) return { value: progress.etaMs, low: progress.etaMs, high: progress.etaMs };
  return progress.pass <= 1 ? (predicted?.totalMs ?? null) : null;
}

/** Bytes/s. */
function rateOf({ progress, predicted }: MoveRecord): number {
  if (progress !== null && progress.rateBytesPerSec > 0) return progress.rateBytesPerSec;
  if (predicted === null || predicted.totalMs.value <= 0) return 0;
  return (predicted.transferredBytes.value / predicted.totalMs.value) * 1_000;
}
