/** When a simulated pass ends and what is left then, through the pure step. 40 MiB/s, 300 ms: 12 MiB fit; NICs of 100 MiB/s. */
import { describe, expect, test } from 'vitest';
import { sampleOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, type VmInput } from './fleets.ts';

/** Without zero pages, and with a set that no bandwidth keeps up with. */
const busy: VmInput = {
  name: 'v',
  memory: '64MiB',
  cpus: 1,
  dirtyRate: '1GiB/s',
  workingSet: '64MiB',
  cpuUse: 1,
};

function migrating(vm: Partial<VmInput> = {}): PureFleet {
  const fleet = new PureFleet(fleetOf([host('a', [{ ...busy, ...vm }]), host('b')]));
  fleet.migrate('v', 'a', 'b', { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300 });
  return fleet;
}

function seen(fleet: PureFleet): { pass: number; sentMib: number; leftMib: number; dirtyMibPerSec: number } {
  const sample = sampleOf(fleet.state, 'a', 'v');
  if (sample === null) throw new Error('no migration');
  const { pass, transferredBytes, remainingBytes, dirtyRateBytesPerSec } = sample;
  const mib = (bytes: number): number => Math.round(bytes / MIB);
  return {
    pass,
    sentMib: mib(transferredBytes),
    leftMib: mib(remainingBytes),
    dirtyMibPerSec: mib(dirtyRateBytesPerSec),
  };
}

describe('a pass', () => {
  test('ends when what is left of it would fit the downtime limit; what is left and what was dirtied are the next', () => {
    const fleet = migrating().at(1_299);
    expect(seen(fleet)).toMatchObject({ pass: 1, sentMib: 52, leftMib: 12 });
    // All 64 MiB have been written by now, and 12 of them were waiting anyway: 52 of them in 1.3 s, the bandwidth.
    expect(seen(fleet.at(1_301))).toEqual({ pass: 2, sentMib: 52, leftMib: 64, dirtyMibPerSec: 40 });
    expect(seen(fleet.at(2_599))).toMatchObject({ pass: 2, sentMib: 104, leftMib: 12 });
    expect(seen(fleet.at(2_601))).toMatchObject({ pass: 3, leftMib: 64, dirtyMibPerSec: 40 });
  });

  test('of all memory counts the zero pages, which cost nothing: a quarter of what may be left has to be sent', () => {
    // Until 3 of the 64 MiB are left, and to the end of that burst.
    const fleet = migrating({ memory: '256MiB', touched: '64MiB' }).at(1_599);
    expect(seen(fleet)).toMatchObject({ pass: 1, sentMib: 64 });
    expect(seen(fleet.at(1_601))).toMatchObject({ pass: 2, leftMib: 64 });
    // Later ones send what has been written, which is no zero page.
    expect(seen(fleet.at(2_899))).toMatchObject({ pass: 2, leftMib: 12 });
    expect(seen(fleet.at(2_901))).toMatchObject({ pass: 3 });
  });

  test('takes whole bursts, at least one', () => {
    const fleet = migrating({ memory: '13MiB', workingSet: '13MiB' }).at(99);
    expect(seen(fleet).pass).toBe(1);
    expect(seen(fleet.at(101)).pass).toBe(2);
    expect(seen(fleet.at(199)).pass).toBe(2);
    expect(seen(fleet.at(201)).pass).toBe(3);
  });

  test('at less than the bandwidth finds what was written in it, each time less, until that fits', () => {
    const fleet = migrating({ dirtyRate: '20MiB/s' }).at(1_301);
    expect(seen(fleet).dirtyMibPerSec).toBeGreaterThanOrEqual(19);
    expect(seen(fleet).dirtyMibPerSec).toBeLessThanOrEqual(21);
    // 52 MiB in 1.3 s, 26 in 0.7, 14 in 0.4, 8 in 0.2, 4 in 0.1: after that less than 12 are left.
    expect(sampleOf(fleet.at(2_500).state, 'a', 'v')?.status).toBe('active');
    expect(sampleOf(fleet.at(3_000).state, 'a', 'v')?.status).toBe('completed');
  });

  test('ends sooner when the downtime limit is raised in the middle of it', () => {
    const fleet = migrating({ dirtyRate: '1MiB/s' }).at(800);
    fleet.does({ kind: 'setDowntimeLimit', vm: 'v', source: 'a', downtimeLimitMs: 800 });
    expect(seen(fleet.at(801)).pass).toBe(2);
  });
});

test('the switchover is sent as fast as the network carries it, whatever the limit', () => {
  const fleet = migrating({ dirtyRate: 0 }).at(1_310);
  expect(sampleOf(fleet.state, 'a', 'v')).toMatchObject({ status: 'switchover', rateBytesPerSec: 100 * MIB });
});
