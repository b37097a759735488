/** What a guest would use if nobody held it back. */
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { DemandMeter } from '../../src/throttling/demand.ts';

/** A guest whose threads use so many cores, seen every 250 ms. */
class Guest {
  readonly meter = new DemandMeter();
  readonly #used: number[];
  readonly #waited: number[];
  atMs = 0;

  constructor(threads = 1) {
    this.#used = Array.from({ length: threads }, () => 0);
    this.#waited = Array.from({ length: threads }, () => 0);
  }

  /** `waits`: the part of the time in which each thread is kept waiting; `runnable`: at every look. */
  run(
    ms: number,
    cores: readonly number[],
    throttle: { demandCores: number; cores: number } | null,
    sinceMs: number | null,
    { waits = [], runnable = false }: { waits?: readonly number[]; runnable?: boolean } = {},
  ) {
    for (const until = this.atMs + ms; this.atMs < until; ) {
      this.atMs += 250;
      cores.forEach((each, index) => {
        this.#used[index] = (this.#used[index] ?? 0) + each * 250;
        this.#waited[index] = (this.#waited[index] ?? 0) + (waits[index] ?? 0) * 250;
      });
      const sample = {
        atMs: this.atMs,
        usedMs: [...this.#used],
        waitedMs: [...this.#waited],
        runnable: cores.map(() => runnable),
      };
      this.meter.observe(sample, throttle, sinceMs);
    }
  }
}

describe('demand', () => {
  test('is known after a short look, then measured over half a second and more', () => {
    const guest = new Guest();
    guest.run(250, [1], null, null);
    expect(guest.meter.demandCores).toBeNull();
    guest.run(250, [1], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(1);
    guest.run(250, [0.4], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(1);
    guest.run(250, [0.4], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(0.6);
  });

  test.each([
    [1, 0.1],
    [0.1, 1],
    [1, 0],
    [0, 0.5],
  ])('follows a guest that changes from %d to %d cores within a second', (before, after) => {
    const guest = new Guest();
    guest.run(5_000, [before], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(before);
    guest.run(1_000, [after], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(after);
  });

  test('follows a smaller change within a second and a half, the smallest within three', () => {
    const guest = new Guest();
    guest.run(5_000, [0.5], null, null);
    guest.run(1_500, [0.36], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(0.36);
    guest.run(1_500, [0.4], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(0.38);
    guest.run(1_500, [0.4], null, null);
    expect(guest.meter.demandCores).toBeCloseTo(0.4);
  });

  test('scatters by 8% after three seconds where half a second scatters by 18%', () => {
    const clock = new VirtualClock({ seed: 4 });
    const squares: number[] = [];
    for (let turn = 0; turn < 500; turn += 1) {
      const guest = new Guest();
      // From 0.34 to 0.66 for a guest that wants 0.5.
      for (let window = 0; window < 7; window += 1) guest.run(500, [0.34 + 0.32 * clock.random()], null, null);
      squares.push(((guest.meter.demandCores ?? 0) / 0.5 - 1) ** 2);
    }
    expect(Math.sqrt(squares.reduce((sum, each) => sum + each, 0) / squares.length)).toBeLessThan(0.08);
  });

  test('stays while the guest is held back and uses what it may', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    guest.run(10_000, [0.25], { demandCores: 1, cores: 0.25 }, 1_000);
    expect(guest.meter.demandCores).toBe(1);
  });

  test('falls when the guest clearly uses less than it may, and does not rise again', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    guest.run(2_500, [0.1], { demandCores: 1, cores: 0.25 }, 1_000);
    expect(guest.meter.demandCores).toBeCloseTo(0.1);
    guest.run(5_000, [0.25], { demandCores: 0.1, cores: 0.25 }, 1_000);
    expect(guest.meter.demandCores).toBeCloseTo(0.1);
  });

  test('does not fall because neighbours take the CPU, nor because the quota makes it wait', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    guest.run(10_000, [0.1], { demandCores: 1, cores: 0.4 }, 1_000, { waits: [0.9] });
    expect(guest.meter.demandCores).toBe(1);
    guest.run(2_000, [0.1], { demandCores: 1, cores: 0.4 }, 1_000, { waits: [0.1] });
    expect(guest.meter.demandCores).toBeCloseTo(0.2);
  });

  test('a wait that is not over is not in the figures yet, and counts', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    const throttle = { demandCores: 1, cores: 0.4 };
    for (let turn = 0; turn < 5; turn += 1) {
      guest.run(250, [0.1], throttle, 1_000);
      guest.run(750, [0], throttle, 1_000, { runnable: true });
      guest.run(250, [0.1], throttle, 1_000, { waits: [3], runnable: true });
    }
    expect(guest.meter.demandCores).toBe(1);
  });

  test('does not fall while the guest stands still: switched over, or stopped by its administrator', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    const throttle = { demandCores: 1, cores: 0.4 };
    guest.run(750, [0.4], throttle, 1_000);
    guest.run(5_000, [0], throttle, 1_000);
    guest.run(2_000, [0.4], throttle, 1_000);
    expect(guest.meter.demandCores).toBe(1);
  });

  test('a throttle that changes all the time is no excuse: what counts is what the guest might have used', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    for (let turn = 0; turn < 8; turn += 1) {
      guest.run(250, [0.1], { demandCores: 1, cores: turn % 2 === 0 ? 0.5 : 0.4 }, 1_000);
    }
    expect(guest.meter.demandCores).toBeCloseTo(0.1);
  });

  test('after a throttle it is the one of before until it has been measured again', () => {
    const guest = new Guest();
    guest.run(1_000, [1], null, null);
    guest.run(1_000, [0.1], { demandCores: 1, cores: 0.1 }, 1_000);
    guest.run(250, [0.5], null, 2_000);
    expect(guest.meter.demandCores).toBe(1);
    guest.run(750, [0.5], null, 2_000);
    expect(guest.meter.demandCores).toBeCloseTo(0.5);
  });

  test('a throttle that came and went between two looks spoils no window', () => {
    const guest = new Guest();
    guest.run(750, [1], null, null);
    guest.run(250, [0], null, 800);
    expect(guest.meter.demandCores).toBeCloseTo(1);
    guest.run(500, [1], null, 800);
    expect(guest.meter.demandCores).toBeCloseTo(1);
  });

  test('who comes while another throttles takes the demand that one measured', () => {
    const guest = new Guest();
    guest.run(250, [0.25], { demandCores: 1.5, cores: 0.25 }, 0);
    expect(guest.meter.demandCores).toBe(1.5);
  });

  test('a quota is divided as the vCPUs used CPU lately, with a little for the idle ones', () => {
    const guest = new Guest(3);
    expect(guest.meter.parts(3)).toEqual([1 / 3, 1 / 3, 1 / 3]);
    guest.run(1_000, [1, 0, 0.5], null, null);
    const parts = guest.meter.parts(3);
    expect(parts.reduce((sum, part) => sum + part, 0)).toBeCloseTo(1);
    expect(parts[0]).toBeCloseTo(0.65, 1);
    expect(parts[1]).toBeGreaterThan(0.01);
    guest.run(500, [0, 0.2, 0], { demandCores: 1.5, cores: 0.3 }, 1_000);
    expect(guest.meter.parts(3)[1]).toBeGreaterThan(0.9);
  });
});
