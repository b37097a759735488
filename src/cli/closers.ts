/** What was opened is closed in reverse order, all of it, within a limit: a Redis that hangs must not hold a process. */
import { setTimeout as sleep } from 'node:timers/promises';

export type Closer = () => Promise<void>;

/** A closer that fails or takes longer than `limitMs` is reported and passed over. */
export async function closeAll(
  closers: readonly Closer[],
  limitMs: number,
  report: (problem: string) => void,
): Promise<void> {
  for (const close of [...closers].reverse()) {
    const late = new AbortController();
    try {
      await Promise.race([
        close(),
        sleep(limitMs, undefined, { signal: late.signal }).then(() => report(`closing took longer than ${limitMs} ms`)),
      ]);
    } catch (error) {
      report(`closing failed: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      late.abort();
    }
  }
}
