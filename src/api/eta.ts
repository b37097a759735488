/**
 * When an operation will end, from what its migrations say. Those that run have predictions; what still waits is sent at the
 * rate at which all is sent now. Rough, and said so by its bounds. Pure.
 */
import { ENDED_MOVE_STATES, type MoveRecord, type OperationRecord } from '../domain/operation.ts';
import { type Interval, less } from '../domain/prediction.ts';

/** What waits may be sent faster or slower than what is sent now. */
const SPREAD = { low: 0.7, high: 2 } as const;

/** From now on; null: nobody can tell (nothing runs, or one that runs cannot tell). */
export function etaOf(
  { tasks, state }: Pick<OperationRecord, 'tasks' | 'state'>,
  moves: readonly MoveRecord[],
  memoryOf: (vm: string) => number | null,
  nowMs: number,
): Interval | null {
  if (state !== 'running') return null;
  // One that was stopped and queued again still has the progress that it had.
  const underWay = moves.filter((move) => move.state !== 'queued' && !ENDED_MOVE_STATES.has(move.state));
  const running = underWay.filter((move) => move.progress !== null);
  const known = new Set(running.map(({ vm }) => vm));
  const waiting = tasks.filter((task) => !ENDED_MOVE_STATES.has(task.state) && !known.has(task.vm));
  const ends = running.map((move) => endOf(move, nowMs));
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
  const bytesPerMs = ratesOf(running) / 1_000;
  const sizes = waiting.map(({ vm }) => memoryOf(vm));
  if (bytesPerMs <= 0 || sizes.includes(null)) return null;
  const queuedMs = sizes.reduce<number>((sum, bytes) => sum + (bytes ?? 0), 0) / bytesPerMs;
  return {
    value: longest.value + queuedMs,
    low: longest.low + queuedMs * SPREAD.low,
    high: longest.high + queuedMs * SPREAD.high,
  };
}

function endOf(move: MoveRecord, nowMs: number): Interval | null {
  const { progress } = move;
  if (progress === null) return null;
  if (progress.prediction !== null) return progress.prediction.totalMs;
  if (progress.etaMs !== null) return { value: progress.etaMs, low: progress.etaMs, high: progress.etaMs };
  return justBegun(move) ? asPredicted(move, nowMs) : null;
}

/** Its controller has seen too little of it to tell anything. */
function justBegun({ state, progress }: MoveRecord): boolean {
  return state === 'precopy' && progress !== null && progress.pass <= 1;
}

/** Before its start. */
function asPredicted({ predicted, startedAtMs }: MoveRecord, nowMs: number): Interval | null {
  return predicted === null || startedAtMs === null ? null : less(predicted.totalMs, nowMs - startedAtMs);
}

/** Bytes/s at which all of them together send; where nothing has been seen to be sent yet, as predicted of who has just begun. */
function ratesOf(running: readonly MoveRecord[]): number {
  const seen = running.reduce((sum, { progress }) => sum + (progress?.rateBytesPerSec ?? 0), 0);
  if (seen > 0) return seen;
  return running.filter(justBegun).reduce((sum, { predicted }) => {
    if (predicted === null || predicted.totalMs.value <= 0) return sum;
    return sum + (predicted.transferredBytes.value / predicted.totalMs.value) * 1_000;
  }, 0);
}
