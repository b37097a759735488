/** Waiting for something that real processes bring about. */
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';

/** Looks again and again until the condition holds; throws when it does not within `limitMs` of real time. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  limitMs: number,
  what = 'condition',
): Promise<void> {
  const start = performance.now();
  while (!(await condition())) {
    if (performance.now() - start > limitMs) throw new Error(`${what}: not within ${limitMs} ms`);
    await abortableSleep(10);
  }
}
