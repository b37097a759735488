/** How processes that run until they are asked to end wait for that, and how long they may take then. */
import { once } from 'node:events';

/** Enough to write down where everything stands; nobody waits longer than this for Ctrl-C. */
export const CLOSE_GRACE_MS = 8_000;
/** For each thing that is closed: the grace, and a little for Redis to answer. */
export const CLOSE_LIMIT_MS = CLOSE_GRACE_MS + 2_000;

export async function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  // A signal alone keeps no process alive.
  const alive = setInterval(() => undefined, 60_000);
  await once(signal, 'abort');
  clearInterval(alive);
}
