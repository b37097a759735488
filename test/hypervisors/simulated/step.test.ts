import { describe, expect, test } from 'vitest';
import type { Migration } from '../../../src/hypervisors/simulated/model.ts';
import { HISTORY_LENGTH } from '../../../src/hypervisors/simulated/model.ts';
import { guestCpuOf, inventoryOf, sampleOf, sightingOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, host, MIB, PureFleet, REFERENCE_GUEST, type VmInput } from './fleets.ts';

const quiet: VmInput = { name: 'q', memory: '100MiB', cpus: 2, dirtyRate: 0, workingSet: '1MiB', cpuUse: 0.5 };

function two(vms: VmInput[] = [quiet], more: Parameters<typeof fleetOf>[1] = {}): PureFleet {
  return new PureFleet(fleetOf([host('a', vms), host('b'), host('c')], more));
}

describe('a migration', () => {
  test('ends with the VM running at its destination and standing still at its source until that is retired', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b');
    expect(sightingOf(fleet.state, 'b', 'q')).toMatchObject({ present: true, state: 'incoming', outgoing: null });
    expect(sightingOf(fleet.state, 'a', 'q')).toMatchObject({
      state: 'running',
      outgoing: { status: 'active', destination: 'b', migrationId: 'm1' },
    });
    fleet.at(10_000);
    expect(sightingOf(fleet.state, 'b', 'q')).toMatchObject({ state: 'running', outgoing: null });
    expect(sightingOf(fleet.state, 'a', 'q')).toMatchObject({
      state: 'postMigrate',
      outgoing: { status: 'completed' },
    });
    expect(fleet.does({ kind: 'retire', vm: 'q', source: 'a' })).toBeNull();
    expect(sightingOf(fleet.state, 'a', 'q')).toEqual({ present: false });
    expect(fleet.does({ kind: 'retire', vm: 'q', source: 'a' })).toBeNull();
  });

  test('of a guest that dirties nothing takes its bytes at its rate, the last 300 ms worth of them and 20 to 40 ms as downtime', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b', { bandwidthBytesPerSec: 50 * MIB });
    const sample = sampleOf(fleet.at(10_000).state, 'a', 'q');
    expect(sample).toMatchObject({
      status: 'completed',
      transferredBytes: 100 * MIB,
      remainingBytes: 0,
      rateBytesPerSec: 0,
    });
    // 85 MiB at the limit; then 15 at what the NIC carries, twice as much, and the handover.
    expect(sample?.downtimeMs).toBeGreaterThanOrEqual(150 + 20);
    expect(sample?.downtimeMs).toBeLessThanOrEqual(150 + 40);
    const ended = fleet.state.hosts['a']?.copies['q']?.lastOutgoing;
    expect((ended?.endedAtMs ?? 0) - (sample?.downtimeMs ?? 0)).toBeCloseTo(1_700, 6);
  });

  test('keeps the uuid, so that both copies are known to be one VM', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b');
    const uuids = ['a', 'b'].map((at) => inventoryOf(fleet.state, at).vms[0]?.uuid);
    expect(uuids[0]).toBe(uuids[1]);
    expect(uuids[0]).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  });

  test('of a paused VM arrives paused', () => {
    const fleet = two([{ ...quiet, state: 'paused' }]);
    fleet.migrate('q', 'a', 'b');
    expect(sightingOf(fleet.at(10_000).state, 'b', 'q')).toMatchObject({ state: 'paused' });
    expect(guestCpuOf(fleet.state, 'b', 'q')).toMatchObject({ gotCpuMs: 0, demandCores: 0 });
  });

  test('shows its switchover while the guest stands still, with its CPU counter standing', () => {
    const fleet = two([REFERENCE_GUEST]);
    fleet.migrate('ref', 'a', 'b');
    fleet.throttle('ref', 'a', 0.1);
    let still: number | null = null;
    while (sampleOf(fleet.state, 'a', 'ref')?.status !== 'completed') {
      fleet.later(5);
      if (sampleOf(fleet.state, 'a', 'ref')?.status !== 'switchover') continue;
      const { gotCpuMs } = guestCpuOf(fleet.state, 'a', 'ref');
      expect(sightingOf(fleet.state, 'b', 'ref')).toMatchObject({ state: 'incoming' });
      still ??= gotCpuMs;
      expect(gotCpuMs).toBe(still);
    }
    expect(still).toBeGreaterThan(0);
  });

  test('counts how often it was started, also when it was cancelled', () => {
    const fleet = two();
    for (const id of ['m1', 'm2', 'm3']) {
      fleet.migrate('q', 'a', 'b', { migrationId: id });
      fleet.later(100);
      fleet.does({ kind: 'cancelMigration', vm: 'q', source: 'a' });
    }
    expect(fleet.state.starts['q']).toBe(3);
  });

  test('follows a change of its bandwidth from that moment on', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b', { bandwidthBytesPerSec: 10 * MIB });
    fleet.at(1_000).does({ kind: 'setBandwidth', vm: 'q', source: 'a', bytesPerSec: 90 * MIB });
    expect(sampleOf(fleet.at(1_500).state, 'a', 'q')).toMatchObject({
      rateBytesPerSec: 90 * MIB,
      transferredBytes: 55 * MIB,
      remainingBytes: 45 * MIB,
    });
  });

  test('without a limit goes as fast as the NIC', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b', { bandwidthBytesPerSec: 0 });
    expect(sampleOf(fleet.at(10).state, 'a', 'q')?.rateBytesPerSec).toBe(100 * MIB);
  });

  test('switches over sooner with a longer downtime limit', () => {
    const fleet = two([REFERENCE_GUEST]);
    fleet.migrate('ref', 'a', 'b');
    fleet.at(10_000).does({ kind: 'setDowntimeLimit', vm: 'ref', source: 'a', downtimeLimitMs: 2_000 });
    expect(sampleOf(fleet.at(14_000).state, 'a', 'ref')?.status).toBe('completed');
  });

  test('that nobody ends is given up some day instead of being computed for ever', () => {
    const fleet = two([REFERENCE_GUEST]);
    fleet.migrate('ref', 'a', 'b');
    expect(sampleOf(fleet.at(40_000_000).state, 'a', 'ref')).toMatchObject({
      status: 'failed',
      failure: { code: 'hypervisorRefused' },
    });
    expect(sightingOf(fleet.state, 'a', 'ref')).toMatchObject({ state: 'running' });
    expect(sightingOf(fleet.state, 'b', 'ref')).toEqual({ present: false });
  });
});

describe('commands', () => {
  const target = { vm: 'q', source: 'a', destination: 'b', migrationId: 'm1' };
  const limits = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false };

  test('preparing twice is harmless and leaves one incoming copy', () => {
    const fleet = two();
    expect(fleet.does({ kind: 'prepareDestination', ...target })).toBeNull();
    expect(fleet.does({ kind: 'prepareDestination', ...target })).toBeNull();
    expect(inventoryOf(fleet.state, 'b').vms).toHaveLength(1);
  });

  test('a destination that has the VM already refuses to prepare', () => {
    const fleet = two();
    expect(fleet.does({ kind: 'prepareDestination', ...target, destination: 'a' })?.code).toBe('hypervisorRefused');
  });

  test('a destination without the memory refuses to prepare, and counts copies that wait or have moved away', () => {
    const big = (name: string): VmInput => ({ ...quiet, name, memory: '3GiB', touched: '1MiB' });
    const fleet = two([big('x')], {});
    fleet.fault({ kind: 'vmAppears', host: 'c', spec: vmSpec('y', 3 * 1024 * MIB) });
    expect(fleet.does({ kind: 'prepareDestination', ...target, vm: 'x', destination: 'b' })).toBeNull();
    expect(fleet.does({ kind: 'prepareDestination', ...target, vm: 'y', source: 'c', destination: 'b' })).toMatchObject(
      {
        code: 'hypervisorRefused',
        message: 'b cannot allocate 3GiB for y: 1GiB are free',
      },
    );
    expect(fleet.does({ kind: 'startMigration', ...target, vm: 'x', ...limits })).toBeNull();
    fleet.later(10_000);
    expect(fleet.does({ kind: 'prepareDestination', ...target, vm: 'y', source: 'c', destination: 'a' })?.code).toBe(
      'hypervisorRefused',
    );
    fleet.does({ kind: 'retire', vm: 'x', source: 'a' });
    expect(fleet.does({ kind: 'prepareDestination', ...target, vm: 'y', source: 'c', destination: 'a' })).toBeNull();
  });

  test('a start without an incoming copy, of a running migration, or of a VM that is shut off is refused', () => {
    const fleet = two([quiet, { ...quiet, name: 'off', state: 'shutOff' }]);
    expect(fleet.does({ kind: 'startMigration', ...target, ...limits })?.message).toMatch(/no incoming copy waits/);
    fleet.migrate('q', 'a', 'b');
    expect(fleet.does({ kind: 'startMigration', ...target, ...limits })?.message).toMatch(/already/);
    expect(fleet.does({ kind: 'startMigration', ...target, vm: 'off', ...limits })?.message).toMatch(/shutOff/);
    expect(fleet.does({ kind: 'prepareDestination', ...target, vm: 'off' })?.message).toMatch(/shutOff/);
    expect(fleet.state.starts).toEqual({ q: 1 });
  });

  test('a cancelled migration leaves the VM running at its source and nothing at the destination', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b');
    expect(fleet.later(500).does({ kind: 'cancelMigration', vm: 'q', source: 'a' })).toBeNull();
    expect(sightingOf(fleet.state, 'a', 'q')).toMatchObject({ state: 'running', outgoing: { status: 'cancelled' } });
    expect(sightingOf(fleet.state, 'b', 'q')).toEqual({ present: false });
    expect(sampleOf(fleet.later(5_000).state, 'a', 'q')).toMatchObject({
      status: 'cancelled',
      transferredBytes: 20 * MIB,
    });
  });

  test('cancelling what has completed, or never was, changes nothing', () => {
    const fleet = two();
    expect(fleet.does({ kind: 'cancelMigration', vm: 'q', source: 'a' })).toBeNull();
    fleet.migrate('q', 'a', 'b');
    expect(fleet.at(10_000).does({ kind: 'cancelMigration', vm: 'q', source: 'a' })).toBeNull();
    expect(sightingOf(fleet.state, 'b', 'q')).toMatchObject({ state: 'running' });
  });

  test('a limit that comes just after the end is taken and limits nothing', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b');
    expect(fleet.at(10_000).does({ kind: 'setBandwidth', vm: 'q', source: 'a', bytesPerSec: 1 })).toBeNull();
    expect(fleet.does({ kind: 'setBandwidth', vm: 'q', source: 'c', bytesPerSec: 1 })?.code).toBe('hypervisorRefused');
  });

  test('only a copy that waits can be discarded, and only one that has moved away retired', () => {
    const fleet = two();
    expect(fleet.does({ kind: 'discardIncoming', vm: 'q', destination: 'a' })?.code).toBe('hypervisorRefused');
    expect(fleet.does({ kind: 'retire', vm: 'q', source: 'a' })?.code).toBe('hypervisorRefused');
    expect(fleet.does({ kind: 'discardIncoming', vm: 'q', destination: 'b' })).toBeNull();
    fleet.does({ kind: 'prepareDestination', ...target });
    expect(fleet.does({ kind: 'retire', vm: 'q', source: 'b' })?.code).toBe('hypervisorRefused');
    expect(fleet.does({ kind: 'discardIncoming', vm: 'q', destination: 'b' })).toBeNull();
    expect(sightingOf(fleet.state, 'b', 'q')).toEqual({ present: false });
  });

  test('discarding a copy that is being sent to breaks the migration, and the VM runs on', () => {
    const fleet = two();
    fleet.migrate('q', 'a', 'b');
    fleet.later(100).does({ kind: 'discardIncoming', vm: 'q', destination: 'b' });
    expect(sampleOf(fleet.state, 'a', 'q')).toMatchObject({ status: 'failed', failure: { code: 'destinationDied' } });
    expect(sightingOf(fleet.state, 'a', 'q')).toMatchObject({ state: 'running' });
  });

  test('a stale token is refused whatever it asks for, and changes nothing', () => {
    const fleet = two();
    expect(fleet.does({ kind: 'prepareDestination', token: 7, ...target })).toBeNull();
    const before = fleet.state;
    for (const command of [
      { kind: 'startMigration', token: 6, ...target, ...limits },
      { kind: 'discardIncoming', token: 6, vm: 'q', destination: 'b' },
      { kind: 'setShare', token: 6, vm: 'q', host: 'a', share: 0, validForMs: 100 },
      { kind: 'releaseShare', token: 6, vm: 'q', host: 'a' },
    ] as const) {
      expect(fleet.does(command)?.code).toBe('leaseLost');
    }
    expect({ ...fleet.state, index: 0, history: [] }).toEqual({ ...before, index: 0, history: [] });
    expect(fleet.does({ kind: 'startMigration', token: 7, ...target, ...limits })).toBeNull();
  });

  test('tokens of one VM say nothing about another', () => {
    const fleet = two([quiet, { ...quiet, name: 'p' }]);
    fleet.does({ kind: 'prepareDestination', token: 9, ...target });
    expect(fleet.does({ kind: 'prepareDestination', token: 2, ...target, vm: 'p' })).toBeNull();
  });

  test('the history keeps what was done and refused, but not every renewal of a throttle', () => {
    const fleet = two();
    fleet.does({ kind: 'retire', vm: 'q', source: 'a' });
    for (let renewal = 0; renewal < HISTORY_LENGTH; renewal += 1) fleet.later(10).throttle('q', 'a', 0.5, 1_000);
    expect(fleet.state.history.map(({ command, refusal }) => [command.kind, refusal?.code])).toEqual([
      ['retire', 'hypervisorRefused'],
      ['setShare', undefined],
    ]);
  });
});

describe('a throttle', () => {
  test('slows the CPU by its share of what the guest demands, not of a core', () => {
    const fleet = two();
    expect(guestCpuOf(fleet.at(1_000).state, 'a', 'q')).toMatchObject({ gotCpuMs: 1_000, demandCores: 1, share: 1 });
    fleet.throttle('q', 'a', 0.25, 60_000);
    expect(guestCpuOf(fleet.at(3_000).state, 'a', 'q')).toMatchObject({ gotCpuMs: 1_500, demandCores: 1, share: 0.25 });
  });

  test('lifts itself when it is not renewed', () => {
    const fleet = two();
    fleet.throttle('q', 'a', 0.5, 1_000);
    fleet.at(900).throttle('q', 'a', 0.5, 1_000);
    expect(guestCpuOf(fleet.at(1_899).state, 'a', 'q').share).toBe(0.5);
    expect(guestCpuOf(fleet.at(1_900).state, 'a', 'q')).toMatchObject({ share: 1, gotCpuMs: 950 });
    expect(guestCpuOf(fleet.at(2_900).state, 'a', 'q').gotCpuMs).toBe(1_950);
  });

  test('lifts itself in the middle of a migration, and the guest dirties at full rate again', () => {
    const fleet = two([REFERENCE_GUEST]);
    fleet.throttle('ref', 'a', 0.05, 1_500);
    fleet.migrate('ref', 'a', 'b');
    expect(sampleOf(fleet.at(60_000).state, 'a', 'ref')?.status).toBe('active');
  });

  test('is released at once and twice, also where there is no such VM', () => {
    const fleet = two();
    fleet.throttle('q', 'a', 0.5);
    expect(fleet.does({ kind: 'releaseShare', vm: 'q', host: 'a' })).toBeNull();
    expect(fleet.does({ kind: 'releaseShare', vm: 'q', host: 'a' })).toBeNull();
    expect(fleet.does({ kind: 'releaseShare', vm: 'q', host: 'b' })).toBeNull();
    expect(guestCpuOf(fleet.state, 'a', 'q').share).toBe(1);
    expect(fleet.state.throttled).toEqual({});
  });

  test('stays behind when the VM moves', () => {
    const fleet = two();
    fleet.throttle('q', 'a', 0.5);
    fleet.migrate('q', 'a', 'b');
    expect(guestCpuOf(fleet.at(10_000).state, 'b', 'q').share).toBe(1);
  });
});

describe('phases', () => {
  const phased: VmInput = {
    ...quiet,
    cpus: 1,
    cpuUse: 1,
    dirtyRate: '50MiB/s',
    workingSet: '64MiB',
    phases: [
      { duration: '10s', dirtyRate: '164MiB/s' },
      { duration: '5s', dirtyRate: 0, cpuUse: 0.2 },
    ],
  };

  test('come again and again, and CPU time follows them', () => {
    const fleet = two([phased]);
    expect(guestCpuOf(fleet.at(4_000).state, 'a', 'q')).toMatchObject({ demandCores: 1, gotCpuMs: 4_000 });
    expect(guestCpuOf(fleet.at(12_000).state, 'a', 'q')).toMatchObject({ demandCores: 0.2, gotCpuMs: 10_400 });
    expect(guestCpuOf(fleet.at(15_000).state, 'a', 'q').demandCores).toBe(1);
    expect(guestCpuOf(fleet.at(3_000_000).state, 'a', 'q').gotCpuMs).toBeCloseTo(200_000 * 11, 3);
  });

  test('a guest that never converges in its busy phase does so in its quiet one', () => {
    const fleet = two([phased]);
    fleet.migrate('q', 'a', 'b');
    expect(sampleOf(fleet.at(9_999).state, 'a', 'q')?.status).toBe('active');
    expect(sampleOf(fleet.at(15_000).state, 'a', 'q')?.status).toBe('completed');
  });
});

describe('the network', () => {
  const vms = ['v1', 'v2', 'v3'].map((name) => ({ ...quiet, name, memory: '1GiB' }));
  const rates = (fleet: PureFleet) =>
    Object.fromEntries(fleet.state.migrations.map((one: Migration) => [one.vm, one.rateBytesPerSec / MIB]));

  test('shares a full NIC fairly, and what one does not need goes to the others', () => {
    const fleet = two(vms);
    fleet.migrate('v1', 'a', 'b', { bandwidthBytesPerSec: 100 * MIB });
    fleet.migrate('v2', 'a', 'b', { bandwidthBytesPerSec: 100 * MIB });
    expect(rates(fleet)).toEqual({ v1: 50, v2: 50 });
    fleet.does({ kind: 'setBandwidth', vm: 'v2', source: 'a', bytesPerSec: 20 * MIB });
    expect(rates(fleet)).toEqual({ v1: 80, v2: 20 });
    fleet.does({ kind: 'cancelMigration', vm: 'v2', source: 'a' });
    expect(rates(fleet)).toEqual({ v1: 100 });
  });

  test('a narrow destination slows only what goes there', () => {
    const fleet = new PureFleet(fleetOf([host('a', vms), host('b', [], { ingress: '10MiB/s' }), host('c')]));
    fleet.migrate('v1', 'a', 'b', { bandwidthBytesPerSec: 0 });
    fleet.migrate('v2', 'a', 'c', { bandwidthBytesPerSec: 0 });
    fleet.migrate('v3', 'a', 'b', { bandwidthBytesPerSec: 0 });
    expect(rates(fleet)).toEqual({ v1: 5, v2: 90, v3: 5 });
  });

  test('a shared link carries no more than its capacity, from whatever hosts', () => {
    const [v1 = quiet, v2 = quiet] = vms;
    const fleet = new PureFleet(
      fleetOf([host('a', [v1], { links: ['up'] }), host('b', [v2], { links: ['up'] }), host('c'), host('d')], {
        links: [{ name: 'up', capacity: '60MiB/s' }],
      }),
    );
    fleet.migrate('v1', 'a', 'c', { bandwidthBytesPerSec: 0 });
    fleet.migrate('v2', 'b', 'd', { bandwidthBytesPerSec: 0 });
    expect(rates(fleet)).toEqual({ v1: 30, v2: 30 });
  });

  test('an uplink does not slow what stays behind it', () => {
    const [v1 = quiet, v2 = quiet] = vms;
    const hosts = [host('a', [v1, v2], { links: ['up'] }), host('b', [], { links: ['up'] }), host('c')];
    const fleet = new PureFleet(fleetOf(hosts, { links: [{ name: 'up', capacity: '10MiB/s', uplink: true }] }));
    fleet.migrate('v1', 'a', 'b', { bandwidthBytesPerSec: 0 });
    expect(rates(fleet)).toEqual({ v1: 100 });
    fleet.migrate('v2', 'a', 'c', { bandwidthBytesPerSec: 0 });
    expect(rates(fleet)).toEqual({ v1: 90, v2: 10 });
  });

  test('limits that sum to more than a NIC are remembered as overbooked, limits that just fit are not', () => {
    const fleet = two(vms);
    fleet.migrate('v1', 'a', 'b', { bandwidthBytesPerSec: 60 * MIB });
    fleet.migrate('v2', 'a', 'c', { bandwidthBytesPerSec: 40 * MIB });
    expect(fleet.state.overbooked).toEqual({ count: 0, last: [] });
    fleet.at(100).does({ kind: 'setBandwidth', vm: 'v2', source: 'a', bytesPerSec: 41 * MIB });
    expect(fleet.state.overbooked).toEqual({
      count: 1,
      last: [{ atMs: 100, resource: 'egress a', limits: 101 * MIB, capacity: 100 * MIB }],
    });
  });

  test('no limit at all overbooks a NIC by itself', () => {
    const fleet = two(vms);
    fleet.migrate('v1', 'a', 'b', { bandwidthBytesPerSec: 0 });
    expect(fleet.state.overbooked.last.map(({ resource }) => resource)).toEqual(['egress a', 'ingress b']);
  });
});

test('a VM may be called like something that every object has', () => {
  const fleet = two([{ ...quiet, name: 'constructor' }]);
  expect(sightingOf(fleet.state, 'a', 'toString')).toEqual({ present: false });
  expect(sightingOf(fleet.state, 'b', 'constructor')).toEqual({ present: false });
  fleet.migrate('constructor', 'a', 'b');
  expect(sightingOf(fleet.at(10_000).state, 'b', 'constructor')).toMatchObject({ state: 'running' });
});

function vmSpec(name: string, memory: number) {
  return { name, memory, cpus: 1, dirtyRate: 0, workingSet: MIB, cpuUse: 0 };
}
