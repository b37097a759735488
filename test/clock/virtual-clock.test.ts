import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';

describe('virtual clock', () => {
  test('sleepers wake in order of time, equal times in the order in which they went to sleep', async () => {
    const clock = new VirtualClock();
    const woken: string[] = [];
    const sleep = (name: string, ms: number) => clock.sleep(ms).then(() => woken.push(`${name}@${clock.now()}`));
    sleep('late', 30);
    sleep('first of two', 20);
    sleep('second of two', 20);
    sleep('early', 10);
    await clock.advance(30);
    expect(woken).toEqual(['early@10', 'first of two@20', 'second of two@20', 'late@30']);
  });

  test('what a sleeper does next settles before the next sleeper wakes', async () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    const chain = async () => {
      await clock.sleep(10);
      for (let step = 0; step < 50; step += 1) await Promise.resolve();
      await new Promise((resolve) => setImmediate(resolve));
      seen.push(`chain@${clock.now()}`);
    };
    chain();
    clock.sleep(11).then(() => seen.push(`other@${clock.now()}`));
    await clock.advance(20);
    expect(seen).toEqual(['chain@10', 'other@11']);
    expect(clock.now()).toBe(20);
  });

  test('where turns are seldom, promises settle all the same, and the event loop gets its turn', async () => {
    const clock = new VirtualClock({ turnEvery: 100 });
    const seen: string[] = [];
    let turns = 0;
    setImmediate(() => {
      turns += 1;
    });
    void (async () => {
      await clock.sleep(10);
      for (let step = 0; step < 5_000; step += 1) await Promise.resolve();
      seen.push(`chain@${clock.now()}`);
      for (;;) await clock.sleep(1);
    })();
    clock.sleep(11).then(() => seen.push(`other@${clock.now()}`));
    await clock.runUntil(() => turns > 0, 1_000);
    expect(seen).toEqual(['chain@10', 'other@11']);
    expect(clock.now()).toBeGreaterThan(11);
    expect(clock.now()).toBeLessThanOrEqual(120);
  });

  test('a loop of sleeps ticks at exact times within one advance', async () => {
    const clock = new VirtualClock({ startMs: 1_000 });
    const ticks: number[] = [];
    const loop = async () => {
      for (let tick = 0; tick < 4; tick += 1) {
        await clock.sleep(250);
        ticks.push(clock.now());
      }
    };
    loop();
    await clock.advance(1_000);
    expect(ticks).toEqual([1_250, 1_500, 1_750, 2_000]);
  });

  test('fleet time runs faster than real time by the speed', async () => {
    const clock = new VirtualClock({ startMs: 500, speed: 20 });
    let wokenAt = 0;
    clock.sleepReal(100).then(() => {
      wokenAt = clock.now();
    });
    await clock.advance(4_000);
    expect(wokenAt).toBe(2_500);
    expect(clock.now()).toBe(4_500);
    expect(clock.monotonic()).toBe(200);
    expect(clock.fleetMs(3)).toBe(60);
  });

  test('an aborted sleep ends at once and leaves no sleeper and no listener', async () => {
    const clock = new VirtualClock();
    const stop = new AbortController();
    let ended = false;
    clock.sleep(1_000, stop.signal).then(() => {
      ended = true;
    });
    expect(clock.sleeping).toBe(1);
    stop.abort();
    await clock.settle();
    expect(ended).toBe(true);
    expect(clock.sleeping).toBe(0);
    expect(clock.now()).toBe(0);
    await clock.sleep(1_000, stop.signal);
  });

  test('running until a condition stops at the sleeper that made it true', async () => {
    const clock = new VirtualClock();
    let count = 0;
    const loop = async () => {
      for (;;) {
        await clock.sleep(10);
        count += 1;
      }
    };
    loop();
    await clock.runUntil(() => count === 7, 1_000);
    expect(clock.now()).toBe(70);
  });

  test('a condition that never comes true is an error, not a hang', async () => {
    const clock = new VirtualClock();
    await expect(clock.runUntil(() => false, 100)).rejects.toThrow(/nobody sleeps/);
    clock.sleep(500);
    await expect(clock.runUntil(() => false, 100)).rejects.toThrow(/after 100 ms/);
  });

  test('the same seed gives the same numbers, another seed others', () => {
    const draw = (seed: number) => {
      const clock = new VirtualClock({ seed });
      return Array.from({ length: 1_000 }, () => clock.random());
    };
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
    const numbers = draw(7);
    expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...numbers)).toBeLessThan(1);
    const mean = numbers.reduce((sum, number) => sum + number, 0) / numbers.length;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.05);
  });
});
