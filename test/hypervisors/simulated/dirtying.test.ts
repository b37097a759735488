/** Looks at simulated guests: the true curve under their phases and their share, with the noise that sampling has. */
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock/virtual-clock.ts';
import { dirtiedBetween, lookBetween } from '../../../src/hypervisors/simulated/dirtying.ts';
import { guestOf } from '../../../src/hypervisors/simulated/guest.ts';
import { SimulatedHypervisor } from '../../../src/hypervisors/simulated/hypervisor.ts';
import { MemorySimulationLog } from '../../../src/hypervisors/simulated/memory-log.ts';
import type { Guest } from '../../../src/hypervisors/simulated/model.ts';
import { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST } from './fleets.ts';

const bursty: Guest = {
  ...guestOf({ ...baseSpec(), name: 'bursty' }, 1),
  phases: [
    { durationMs: 1_000, dirtyRateBytesPerSec: 10 * MIB, workingSetBytes: 4 * MIB, cpuUse: 0.1 },
    { durationMs: 1_000, dirtyRateBytesPerSec: 100 * MIB, workingSetBytes: 64 * MIB, cpuUse: 1 },
  ],
};

function baseSpec() {
  const [spec] = fleetOf([host('a', [REFERENCE_GUEST])]).hosts.flatMap((one) =>
    one.driver === 'simulated' ? one.simulated.vms : [],
  );
  if (spec === undefined) throw new Error('no guest');
  return spec;
}

describe('what a guest dirties in a window', () => {
  const guest = guestOf(baseSpec(), 1);

  test('grows with its rate and its share until it has written its working set', () => {
    expect(dirtiedBetween(guest, 0, 100, 1)).toBeCloseTo(16.4 * MIB, 0);
    expect(dirtiedBetween(guest, 0, 100, 0.25)).toBeCloseTo(4.1 * MIB, 0);
    expect(dirtiedBetween(guest, 5_000, 7_000, 1)).toBe(64 * MIB);
    expect(dirtiedBetween(guest, 0, 100, 0)).toBe(0);
  });

  test('goes through its phases', () => {
    expect(dirtiedBetween(bursty, 0, 1_000, 1)).toBe(4 * MIB);
    expect(dirtiedBetween(bursty, 900, 1_100, 1)).toBeCloseTo(11 * MIB, 0);
    expect(dirtiedBetween(bursty, 1_000, 1_500, 1)).toBe(50 * MIB);
  });
});

describe('a look', () => {
  const fleet = fleetOf([
    host('a', [REFERENCE_GUEST, { ...REFERENCE_GUEST, name: 'off', state: 'shutOff' }]),
    host('b'),
  ]);
  const look = (windowMs: number, atMs: number, share = 1) => {
    const pure = new PureFleet(fleet);
    if (share < 1) pure.does({ kind: 'setShare', vm: 'ref', host: 'a', share, validForMs: 60_000 });
    const before = pure.at(atMs).state;
    return lookBetween(before, pure.later(windowMs).state, { host: 'a', vm: 'ref', windowMs });
  };

  test.each([
    [50, 1, 8.2],
    [100, 1, 16.4],
    [500, 0.3, 24.6],
    [2_000, 1, 64],
    [1_000, 0.05, 8.2],
  ])('of %d ms at share %d sees %d MiB, scattered as it says', (windowMs, share, mib) => {
    const looks = Array.from({ length: 200 }, (_, index) => look(windowMs, 100 + index, share)).map((one) => {
      if (one === null) throw new Error('no look');
      return one;
    });
    const mean = looks.reduce((sum, { bytes }) => sum + bytes, 0) / looks.length;
    const rms = Math.sqrt(looks.reduce((sum, { bytes }) => sum + (bytes - mib * MIB) ** 2, 0) / looks.length);
    const told = looks.reduce((sum, { errorBytes }) => sum + errorBytes, 0) / looks.length;
    expect(Math.abs(mean - mib * MIB)).toBeLessThan(told);
    expect(rms).toBeGreaterThan(told * 0.7);
    expect(rms).toBeLessThan(told * 1.3);
    expect(new Set(looks.map(({ bytes }) => bytes)).size).toBeGreaterThan(3);
  });

  test('is the same for the same seed, time and window', () => {
    expect(look(250, 777)).toEqual(look(250, 777));
  });

  test('sees nothing of a guest that is off, stands still, or is not there', () => {
    const pure = new PureFleet(fleet);
    const before = pure.at(10).state;
    const after = pure.later(100).state;
    for (const [at, vm] of [
      ['a', 'off'],
      ['b', 'ref'],
      ['a', 'nobody'],
      ['nowhere', 'ref'],
    ] as const) {
      expect(lookBetween(before, after, { host: at, vm, windowMs: 100 })).toBeNull();
    }
    pure.fault({ kind: 'hostDies', host: 'a' });
    expect(lookBetween(before, pure.state, { host: 'a', vm: 'ref', windowMs: 100 })).toBeNull();
  });

  test('is as long as was asked for, on a clock that wakes late as well, and reads the log twice', async () => {
    const clock = new VirtualClock();
    const log = new MemorySimulationLog(clock);
    let reads = 0;
    const counted = {
      append: log.append.bind(log),
      compact: log.compact.bind(log),
      readSince: (index: number) => {
        reads += 1;
        return log.readSince(index);
      },
    };
    const late = { sleep: (ms: number, signal?: AbortSignal) => clock.sleep(ms + 3_000, signal) };
    const hypervisor = new SimulatedHypervisor(new SimulatedFleet({ fleet, log: counted }), late);
    const looking = hypervisor.measureDirtying('a', 'ref', 100, new AbortController().signal);
    await clock.advance(5_000);
    const measured = await looking;
    expect(measured?.windowMs).toBe(100);
    expect(Math.abs((measured?.bytes ?? 0) - 16.4 * MIB)).toBeLessThan(5 * (measured?.errorBytes ?? 0));
    expect(reads).toBe(2);
  });
});
