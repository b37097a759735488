/** One real-time sleep that ends early by a signal and leaves neither a timer nor a listener behind. */

import { OVER } from './clock.ts';

/** setTimeout keeps its delay in 32 bits; a longer one would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Resolves after `ms` of real time (`Infinity`: never by itself) or when the signal aborts; never rejects. */
export function abortableSleep(ms: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true || !(ms > 0)) return Promise.resolve();
  return new Promise((resolve) => {
    let left = ms;
    let timer: NodeJS.Timeout;
    const done = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const wait = (): void => {
      const stretch = Math.min(left, LONGEST_TIMER_MS);
      left -= stretch;
      timer = setTimeout(left > 0 ? wait : done, stretch);
    };
    signal?.addEventListener('abort', done, { once: true });
    wait();
  });
}

/** What a promise gave within `ms`, or `undefined` when it did not settle in time. Rejects as the promise does. */
export async function settledWithin<T>(promise: Promise<T>, ms: number): Promise<{ readonly value: T } | undefined> {
  const settled = new AbortController();
  try {
    return await Promise.race([
      promise.then((value) => ({ value })),
      abortableSleep(ms, settled.signal).then(() => undefined),
    ]);
  } finally {
    settled.abort(OVER);
  }
}

/** Resolves when it aborts; never rejects. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
