import { describe, expect, test } from 'vitest';
import { HostevacError } from '../../../src/domain/errors.ts';
import { guestCpuOf, inventoryOf, sampleOf, sightingOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST, type VmInput } from './fleets.ts';

/** 40 s to send at 40 MiB/s: long enough for anything to happen meanwhile. */
const big: VmInput = { name: 'v', memory: '1600MiB', cpus: 1, dirtyRate: '1MiB/s', workingSet: '64MiB', cpuUse: 1 };

function two(faults: NonNullable<NonNullable<Parameters<typeof fleetOf>[1]>['simulation']>['faults'] = []): PureFleet {
  return new PureFleet(fleetOf([host('a', [big]), host('b'), host('c')], { simulation: { faults } }));
}

function migrating(...faults: Parameters<typeof two>): PureFleet {
  const fleet = two(...faults);
  fleet.migrate('v', 'a', 'b');
  return fleet;
}

function codeOf(look: () => unknown): string | undefined {
  try {
    look();
    return undefined;
  } catch (error) {
    return error instanceof HostevacError ? error.code : 'other';
  }
}

const atSource = (fleet: PureFleet) => sampleOf(fleet.state, 'a', 'v');

describe('a link that is cut', () => {
  test('stops the bytes, and after 10 s without one the migration has failed while the VM runs on', () => {
    const fleet = migrating([{ kind: 'linkCut', from: 'a', to: 'b', at: '2s', duration: '1m' }]).at(3_000);
    expect(atSource(fleet)).toMatchObject({ status: 'active', rateBytesPerSec: 0, transferredBytes: 80 * MIB });
    expect(atSource(fleet.at(11_999))).toMatchObject({ status: 'active', transferredBytes: 80 * MIB });
    expect(atSource(fleet.at(12_000))).toMatchObject({ status: 'failed', failure: { code: 'linkFailed' } });
    expect(sightingOf(fleet.state, 'a', 'v')).toMatchObject({ state: 'running' });
    expect(guestCpuOf(fleet.at(20_000).state, 'a', 'v').gotCpuMs).toBe(20_000);
  });

  test('leaves the incoming copy where it is, for its host cannot know; it can be discarded', () => {
    const fleet = migrating([{ kind: 'linkCut', from: 'b', to: 'a', at: '2s', duration: '1m' }]).at(15_000);
    expect(sightingOf(fleet.state, 'b', 'v')).toMatchObject({ state: 'incoming' });
    expect(fleet.does({ kind: 'discardIncoming', vm: 'v', destination: 'b' })).toBeNull();
    expect(sightingOf(fleet.state, 'b', 'v')).toEqual({ present: false });
  });

  test('that heals within 10 s costs only time', () => {
    const fleet = migrating([{ kind: 'linkCut', from: 'a', to: 'b', at: '2s', duration: '9s' }]);
    expect(atSource(fleet.at(12_000))).toMatchObject({ rateBytesPerSec: 40 * MIB, transferredBytes: 120 * MIB });
    expect(atSource(fleet.at(90_000))?.status).toBe('completed');
  });

  test('starves a migration that starts while it lasts, counted from that start', () => {
    const fleet = two([{ kind: 'linkCut', from: 'a', to: 'b', at: '1s', duration: '30s' }]).at(6_000);
    fleet.migrate('v', 'a', 'b');
    expect(atSource(fleet.at(15_999))?.status).toBe('active');
    expect(atSource(fleet.at(16_000))?.status).toBe('failed');
  });

  test('concerns only the two hosts', () => {
    const fleet = migrating([{ kind: 'linkCut', from: 'a', to: 'c', at: '1s', duration: '1m' }]);
    expect(atSource(fleet.at(90_000))?.status).toBe('completed');
  });

  test('of which a second begins before the first is over is one long cut', () => {
    const fleet = migrating([
      { kind: 'linkCut', from: 'a', to: 'b', at: '2s', duration: '6s' },
      { kind: 'linkCut', from: 'a', to: 'b', at: '7s', duration: '20s' },
    ]);
    expect(atSource(fleet.at(12_000))).toMatchObject({ status: 'failed', failure: { code: 'linkFailed' } });
  });
});

describe('a host that dies', () => {
  test('no longer answers, and what was being migrated to it fails within a second and runs on', () => {
    const fleet = migrating([{ kind: 'hostDies', host: 'b', at: '5s' }]).at(5_001);
    expect(codeOf(() => inventoryOf(fleet.state, 'b'))).toBe('hostUnreachable');
    expect(codeOf(() => sightingOf(fleet.state, 'b', 'v'))).toBe('hostUnreachable');
    expect(atSource(fleet)).toMatchObject({ status: 'active', rateBytesPerSec: 0 });
    expect(atSource(fleet.at(6_000))).toMatchObject({ status: 'failed', failure: { code: 'destinationDied' } });
    expect(sightingOf(fleet.state, 'a', 'v')).toMatchObject({ state: 'running' });
  });

  test('takes the VMs on it along, and the incoming copies of what it was sending', () => {
    const fleet = migrating([{ kind: 'hostDies', host: 'a', at: '5s' }]).at(5_000);
    expect(codeOf(() => sampleOf(fleet.state, 'a', 'v'))).toBe('hostUnreachable');
    expect(sightingOf(fleet.state, 'b', 'v')).toEqual({ present: false });
    expect(fleet.state.migrations).toEqual([]);
  });

  test('before the last moment of a migration leaves the VM running at its source', () => {
    // The last moments matter: a VM must not be handed over to a dead host, nor stand still for ever at its source.
    const completedAt = migrating().at(60_000).state.hosts['a']?.copies['v']?.lastOutgoing?.endedAtMs ?? Number.NaN;
    for (let before = 1; before < 200; before += 3) {
      const fleet = migrating([{ kind: 'hostDies', host: 'b', at: completedAt - before }]).at(60_000);
      expect(sightingOf(fleet.state, 'a', 'v')).toMatchObject({ state: 'running', outgoing: { status: 'failed' } });
      expect(fleet.state.hosts['a']?.copies['v']?.still).toBe(false);
    }
    const late = migrating([{ kind: 'hostDies', host: 'b', at: completedAt + 1 }]).at(60_000);
    expect(sightingOf(late.state, 'a', 'v')).toMatchObject({ state: 'postMigrate', outgoing: { status: 'completed' } });
  });

  test('refuses every command, but a throttle on it is as good as released', () => {
    const fleet = two([{ kind: 'hostDies', host: 'b', at: '1s' }]).at(1_000);
    const target = { vm: 'v', source: 'a', destination: 'b', migrationId: 'm1' };
    expect(fleet.does({ kind: 'prepareDestination', ...target })?.code).toBe('hostUnreachable');
    expect(fleet.does({ kind: 'discardIncoming', vm: 'v', destination: 'b' })?.code).toBe('hostUnreachable');
    expect(fleet.does({ kind: 'retire', vm: 'v', source: 'b' })?.code).toBe('hostUnreachable');
    expect(fleet.does({ kind: 'releaseShare', vm: 'v', host: 'b' })).toBeNull();
    expect(fleet.fault({ kind: 'hostDies', host: 'b' })?.code).toBe('hostUnreachable');
  });
});

describe('other faults', () => {
  test('an error of the hypervisor ends the migration with its reason, and the incoming copy with it', () => {
    const fleet = migrating([{ kind: 'hypervisorError', vm: 'v', at: '5s' }]).at(5_000);
    expect(atSource(fleet)).toMatchObject({ status: 'failed', failure: { code: 'hypervisorRefused' } });
    expect(sightingOf(fleet.state, 'b', 'v')).toEqual({ present: false });
    fleet.migrate('v', 'a', 'b');
    expect(atSource(fleet.at(90_000))?.status).toBe('completed');
  });

  test('an error while nothing is being migrated has no effect', () => {
    const fleet = two([{ kind: 'hypervisorError', vm: 'v', at: '5s' }]).at(5_000);
    expect(sightingOf(fleet.state, 'a', 'v')).toMatchObject({ outgoing: null });
  });

  test('a stuck migration says that it is active and moves no byte, however long, until it goes on', () => {
    const fleet = migrating([{ kind: 'stuckProgress', vm: 'v', at: '5s', duration: '1m' }]);
    expect(atSource(fleet.at(64_999))).toMatchObject({
      status: 'active',
      transferredBytes: 200 * MIB,
      rateBytesPerSec: 0,
    });
    expect(atSource(fleet.at(66_000))).toMatchObject({ transferredBytes: 240 * MIB });
  });

  test('a VM that appears is there, with a uuid of its own', () => {
    const fleet = two();
    const spec = { name: 'new', memory: MIB, cpus: 1, dirtyRate: 0, workingSet: 1, cpuUse: 1 };
    expect(fleet.at(1_000).fault({ kind: 'vmAppears', host: 'b', spec })).toBeNull();
    expect(inventoryOf(fleet.at(3_000).state, 'b').vms).toMatchObject([{ name: 'new', state: 'running' }]);
    expect(guestCpuOf(fleet.state, 'b', 'new').gotCpuMs).toBe(2_000);
    expect(inventoryOf(fleet.state, 'b').vms[0]?.uuid).not.toBe(inventoryOf(fleet.state, 'a').vms[0]?.uuid);
    expect(fleet.fault({ kind: 'vmAppears', host: 'c', spec })?.code).toBe('hypervisorRefused');
  });

  test('a VM that dies at its source takes its migration along', () => {
    const fleet = migrating().at(1_000);
    fleet.fault({ kind: 'vmDies', vm: 'v', host: 'a' });
    expect(sightingOf(fleet.state, 'a', 'v')).toEqual({ present: false });
    expect(sightingOf(fleet.state, 'b', 'v')).toEqual({ present: false });
    expect(atSource(fleet)).toBeNull();
  });

  test('an incoming copy that dies fails the migration soon', () => {
    const fleet = migrating().at(1_000);
    fleet.fault({ kind: 'vmDies', vm: 'v', host: 'b' });
    expect(atSource(fleet.at(2_000))).toMatchObject({ status: 'failed', failure: { code: 'destinationDied' } });
  });

  test('a doubled VM is running at two hosts under one uuid', () => {
    const fleet = two();
    fleet.fault({ kind: 'doubleRunning', vm: 'v', host: 'b' });
    const [one, other] = ['a', 'b'].map((at) => sightingOf(fleet.state, at, 'v'));
    expect([one, other]).toMatchObject([{ state: 'running' }, { state: 'running' }]);
    expect(one?.present === true && other?.present === true && one.uuid === other.uuid).toBe(true);
  });

  test('of a doubled VM only one copy at a time can be sent to a destination', () => {
    const fleet = migrating();
    fleet.fault({ kind: 'doubleRunning', vm: 'v', host: 'c' });
    const target = { vm: 'v', source: 'c', destination: 'b', migrationId: 'm2' };
    const limits = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false };
    expect(fleet.does({ kind: 'startMigration', ...target, ...limits })?.message).toMatch(/taken/);
  });

  test("a stranger's migration bears no id of ours and does what migrations do", () => {
    const fleet = two();
    fleet.fault({ kind: 'foreignMigration', vm: 'v', to: 'c' });
    expect(sightingOf(fleet.state, 'a', 'v')).toMatchObject({
      outgoing: { status: 'active', destination: 'c', migrationId: null },
    });
    const target = { vm: 'v', source: 'a', destination: 'b', migrationId: 'm1' };
    fleet.does({ kind: 'prepareDestination', ...target });
    const limits = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false };
    expect(fleet.does({ kind: 'startMigration', ...target, ...limits })?.code).toBe('hypervisorRefused');
    expect(sightingOf(fleet.at(90_000).state, 'c', 'v')).toMatchObject({ state: 'running' });
    expect(fleet.state.overbooked.count).toBe(0);
  });

  test('a fault that names what is not there is refused when injected, and passed over in a fleet file', () => {
    const fleet = two([{ kind: 'hostDies', host: 'nowhere', at: '1s' }]).at(2_000);
    expect(fleet.state.pendingFaults).toEqual([]);
    expect(fleet.fault({ kind: 'hostDies', host: 'nowhere' })?.code).toBe('unknownHost');
    expect(fleet.fault({ kind: 'vmDies', vm: 'v', host: 'b' })?.code).toBe('hypervisorRefused');
    expect(fleet.fault({ kind: 'doubleRunning', vm: 'ghost', host: 'b' })?.code).toBe('hypervisorRefused');
  });

  test('a cut in the middle of the switchover stops the guest, until the link heals or the migration fails', () => {
    const fleet = new PureFleet(fleetOf([host('a', [REFERENCE_GUEST]), host('b')]));
    fleet.migrate('ref', 'a', 'b');
    fleet.throttle('ref', 'a', 0.1);
    while (sampleOf(fleet.state, 'a', 'ref')?.status !== 'switchover') fleet.later(5);
    fleet.fault({ kind: 'linkCut', from: 'a', to: 'b', durationMs: 60_000 });
    const { gotCpuMs } = guestCpuOf(fleet.state, 'a', 'ref');
    expect(guestCpuOf(fleet.later(9_999).state, 'a', 'ref').gotCpuMs).toBe(gotCpuMs);
    expect(sampleOf(fleet.later(1).state, 'a', 'ref')?.status).toBe('failed');
    expect(guestCpuOf(fleet.later(1_000).state, 'a', 'ref').gotCpuMs).toBeGreaterThan(gotCpuMs);
  });
});
