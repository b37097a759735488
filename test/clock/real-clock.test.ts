import { getEventListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { RealClock } from '../../src/clock/real-clock.ts';

/** Timers that keep this process alive. */
function timers(): number {
  return process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
}

describe('real clock', () => {
  test('fleet time counts from the origin, scaled', () => {
    const before = Date.now();
    const clock = new RealClock({ speed: 10, originMs: before - 1_000 });
    const now = clock.now();
    expect(now).toBeGreaterThanOrEqual(10_000);
    expect(now).toBeLessThanOrEqual((Date.now() - before + 1_000) * 10);
    expect(clock.fleetMs(5)).toBe(50);
  });

  test('monotonic time is the same for every process of the machine: about the time since boot', () => {
    const uptimeMs = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1_000;
    expect(Math.abs(new RealClock().monotonic() - uptimeMs)).toBeLessThan(5_000);
  });

  test('a fleet sleep takes its scaled part of real time', async () => {
    const clock = new RealClock({ speed: 100 });
    const start = clock.monotonic();
    await clock.sleep(3_000);
    const took = clock.monotonic() - start;
    expect(took).toBeGreaterThan(28);
    expect(took).toBeLessThan(2_500);
  });

  test('an aborted sleep ends at once and leaves neither timer nor listener', async () => {
    const clock = new RealClock();
    const stop = new AbortController();
    const timersBefore = timers();
    const sleeping = clock.sleepReal(3_600_000, stop.signal);
    expect(timers()).toBe(timersBefore + 1);
    stop.abort();
    await sleeping;
    expect(timers()).toBe(timersBefore);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
    await clock.sleepReal(3_600_000, stop.signal);
  });

  test('a sleep that ended by itself leaves no listener on a long-lived signal', async () => {
    const clock = new RealClock();
    const stop = new AbortController();
    for (let turn = 0; turn < 20; turn += 1) await clock.sleepReal(1, stop.signal);
    expect(getEventListeners(stop.signal, 'abort')).toHaveLength(0);
  });

  test('a sleep longer than a timer can hold does not end at once', async () => {
    const stop = new AbortController();
    let ended = false;
    const sleeping = new RealClock().sleepReal(2 ** 40, stop.signal).then(() => {
      ended = true;
    });
    await new RealClock().sleepReal(30);
    expect(ended).toBe(false);
    stop.abort();
    await sleeping;
  });
});
