/**
 * Active operations that no queue will deliver any more: a producer died between the record and the queue, or the store has
 * lost an operation's end that its job had outlived. They are put in the queue again.
 */
import type { OperationDeps } from './deps.ts';

/** Between two looks, real ms. */
const SWEEP_REAL_MS = 5_000;

/** Goes on until `signal` aborts. `onError` hears what was thrown; the next look comes all the same. */
export async function sweepOperations(
  { records, delivery, clock }: Pick<OperationDeps, 'records' | 'delivery' | 'clock'>,
  signal: AbortSignal,
  onError: (error: unknown) => void,
  everyRealMs: number = SWEEP_REAL_MS,
): Promise<void> {
  while (!signal.aborted) {
    try {
      for (const id of await records.activeOperations()) {
        if (!(await delivery.hasOperation(id))) await delivery.addOperation(id);
      }
    } catch (error) {
      onError(error);
    }
    await clock.sleepReal(everyRealMs, signal);
  }
}
