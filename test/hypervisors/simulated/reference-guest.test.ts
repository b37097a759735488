/** The simulator against what was measured on real QEMU with the reference guest (W 64 MiB, r 164 MiB/s, 40 MiB/s, 300 ms). */
import { describe, expect, test } from 'vitest';
import { sampleOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST } from './fleets.ts';

function migrating(options: { dirtyRate?: string; bandwidth?: number; seed?: number } = {}): PureFleet {
  const guest = { ...REFERENCE_GUEST, dirtyRate: options.dirtyRate ?? '164MiB/s' };
  const fleet = new PureFleet(fleetOf([host('a', [guest]), host('b')], { simulation: { seed: options.seed ?? 1 } }));
  fleet.migrate('ref', 'a', 'b', { bandwidthBytesPerSec: options.bandwidth ?? 40 * MIB });
  return fleet;
}

/** Fleet time at which it completed; throws after `limitMs`. */
function completedAfter(fleet: PureFleet, limitMs: number): { totalMs: number; downtimeMs: number } {
  fleet.later(limitMs);
  const ended = fleet.state.hosts['a']?.copies['ref']?.lastOutgoing;
  if (ended?.status !== 'completed') throw new Error(`not completed within ${limitMs} ms`);
  return { totalMs: ended.endedAtMs - ended.startedAtMs, downtimeMs: ended.downtimeMs ?? Number.NaN };
}

describe('the reference guest', () => {
  test('never finishes unthrottled', () => {
    const fleet = migrating().at(600_000);
    expect(sampleOf(fleet.state, 'a', 'ref')?.status).toBe('active');
  });

  test('reports about the transfer rate as its dirty rate from the second pass on, not the rate at which it really dirties', () => {
    const fleet = migrating();
    const seen = new Set<number>();
    for (let second = 1; second <= 60; second += 1) {
      const sample = sampleOf(fleet.at(second * 1_000).state, 'a', 'ref');
      if (sample === null || sample.pass < 2) continue;
      seen.add(sample.pass);
      expect(sample.dirtyRateBytesPerSec / MIB).toBeGreaterThan(38);
      expect(sample.dirtyRateBytesPerSec / MIB).toBeLessThan(42);
    }
    expect(seen.size).toBeGreaterThan(20);
  });

  test.each([1, 2, 3, 4, 5])('finishes in 4.5 to 9 s at a fifth of its CPU (seed %i)', (seed) => {
    const fleet = migrating({ seed });
    fleet.throttle('ref', 'a', 0.2);
    const { totalMs, downtimeMs } = completedAfter(fleet, 60_000);
    expect(totalMs).toBeGreaterThan(4_500);
    expect(totalMs).toBeLessThan(9_000);
    expect(downtimeMs).toBeGreaterThan(20);
    expect(downtimeMs).toBeLessThan(340);
  });

  test.each([1, 2, 3, 4, 5])('finishes in about 3 s at 5% from the end of the first pass (seed %i)', (seed) => {
    const fleet = migrating({ seed }).at(1_601);
    fleet.throttle('ref', 'a', 0.05);
    const { totalMs } = completedAfter(fleet, 60_000);
    expect(totalMs).toBeGreaterThan(2_700);
    expect(totalMs).toBeLessThan(3_900);
  });

  test('finishes unthrottled when it is mild (r 16 MiB/s, 20 MiB/s)', () => {
    const { totalMs } = completedAfter(migrating({ dirtyRate: '16MiB/s', bandwidth: 20 * MIB }), 120_000);
    expect(totalMs).toBeGreaterThan(8_000);
    expect(totalMs).toBeLessThan(50_000);
  });

  test('sends its touched bytes in the first pass, and no more', () => {
    const fleet = migrating().at(1_599);
    const before = sampleOf(fleet.state, 'a', 'ref');
    expect(before).toMatchObject({ pass: 1, totalBytes: 64 * MIB, dirtyRateBytesPerSec: 0 });
    const after = sampleOf(fleet.at(1_601).state, 'a', 'ref');
    expect(after?.pass).toBe(2);
    expect((after?.transferredBytes ?? 0) / MIB).toBeCloseTo(64, 0);
  });
});
