/**
 * What every hypervisor promises through its port. The harness brings a fleet of hosts `a`, `b` and `c` with VMs on `a`:
 *   quick   migrates within seconds, dirties nothing
 *   endless never converges by itself
 *   huge    fits `a` alone
 * and nothing on `b` and `c`. `one` and `other` stand for two processes.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import type {
  DirtyingMeasured,
  Hypervisor,
  MigrationSample,
  Sighting,
  VmOnHost,
} from '../../src/hypervisors/hypervisor.ts';
import type { Fence } from '../../src/store/lease.ts';

export interface HypervisorHarness {
  readonly one: Hypervisor;
  readonly other: Hypervisor;
  /** Lets time pass until the condition holds; throws when it does not within `limitMs` of fleet time. */
  until(condition: () => Promise<boolean>, limitMs: number): Promise<void>;
  close(): Promise<void>;
}

export function heldFence(token = 1): Fence {
  return { token, assertHeld: () => undefined };
}

export function lostFence(token = 1): Fence {
  return {
    token,
    assertHeld: () => {
      throw new HostevacError('leaseLost', 'the lease ran out');
    },
  };
}

const MIB = 2 ** 20;
const fence = heldFence();
const quick = { vm: 'quick', source: 'a', destination: 'b', migrationId: 'm1' };
const endless = { ...quick, vm: 'endless' };
const limits = { bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false };
const GONE: Sighting = { present: false };

export function hypervisorBehaviour(name: string, open: () => Promise<HypervisorHarness>): void {
  describe(`${name}: the hypervisor port`, () => {
    let harness: HypervisorHarness;
    let one: Hypervisor;
    let other: Hypervisor;
    beforeEach(async () => {
      harness = await open();
      ({ one, other } = harness);
    });
    afterEach(() => harness.close());

    const begin = async (target = quick): Promise<void> => {
      await one.prepareDestination(fence, target);
      await one.startMigration(fence, { ...target, ...limits });
    };
    const sampleNow = async (vm: string): Promise<MigrationSample> => {
      const sample = await other.sample('a', vm);
      if (sample === null) throw new Error(`a knows of no migration of ${vm}`);
      return sample;
    };
    const ends = (vm = 'quick'): Promise<void> =>
      harness.until(async () => ['completed', 'failed', 'cancelled'].includes((await sampleNow(vm)).status), 60_000);

    test('the inventory of a host says what is on it, the same to everybody', async () => {
      const inventory = await one.inventory('a');
      expect(inventory.host).toBe('a');
      expect(inventory.vms.map((vm) => vm.name).sort()).toEqual(['endless', 'huge', 'quick']);
      for (const vm of inventory.vms) {
        expect(vm).toMatchObject({ state: 'running', notMigratable: null });
        expect(vm.uuid).toMatch(/^[0-9a-f-]{36}$/);
        expect(vm.touchedBytes).toBeLessThanOrEqual(vm.memoryBytes);
        expect(vm.demandCores).toBeLessThanOrEqual(vm.cpus);
      }
      expect(new Set(inventory.vms.map((vm) => vm.uuid)).size).toBe(3);
      const told = ({ name, uuid, memoryBytes }: VmOnHost) => [name, uuid, memoryBytes];
      expect((await other.inventory('a')).vms.map(told)).toEqual(inventory.vms.map(told));
      expect((await one.inventory('b')).vms).toEqual([]);
    });

    test('a VM that is not there is not there, and has no migration', async () => {
      expect(await one.look('b', 'quick')).toEqual(GONE);
      expect(await one.sample('a', 'quick')).toBeNull();
      expect(await one.sample('b', 'quick')).toBeNull();
    });

    test('a look tells how much a guest dirties, is as long as it says, and ends when it is aborted', async () => {
      const looked = async (host: string, vm: string, windowMs: number, signal = new AbortController().signal) => {
        const seen: (DirtyingMeasured | null)[] = [];
        const look = one.measureDirtying(host, vm, windowMs, signal).then((measured) => seen.push(measured));
        await harness.until(async () => seen.length > 0, 20_000);
        await look;
        return seen[0] ?? null;
      };
      const hot = await looked('a', 'endless', 500);
      const quiet = await looked('a', 'quick', 500);
      if (hot === null || quiet === null) throw new Error('no look');
      expect(hot.windowMs).toBeGreaterThanOrEqual(500);
      expect(hot.bytes).toBeGreaterThan(8 * MIB);
      expect(hot.bytes).toBeLessThan(70 * MIB);
      expect(hot.errorBytes).toBeGreaterThan(0);
      expect(hot.errorBytes).toBeLessThan(hot.bytes / 4);
      expect(quiet.bytes).toBeLessThan(2 * MIB);
      expect(await looked('b', 'quick', 500)).toBeNull();
      expect(await looked('a', 'endless', 500, AbortSignal.abort())).toBeNull();
    });

    test('a prepared copy waits with the uuid of the VM, and preparing twice is harmless', async () => {
      await one.prepareDestination(fence, quick);
      await other.prepareDestination(fence, quick);
      const [source, waiting] = [await one.look('a', 'quick'), await other.look('b', 'quick')];
      expect(waiting).toMatchObject({ present: true, state: 'incoming', outgoing: null });
      expect(source.present && waiting.present && source.uuid === waiting.uuid).toBe(true);
      expect((await one.inventory('b')).vms).toHaveLength(1);
    });

    test('a destination without the memory refuses to prepare', async () => {
      await expect(one.prepareDestination(fence, { ...quick, vm: 'huge' })).rejects.toMatchObject({
        code: 'hypervisorRefused',
      });
      expect(await one.look('b', 'huge')).toEqual(GONE);
    });

    test('nothing is sent to where no copy waits', async () => {
      await expect(one.startMigration(fence, { ...quick, ...limits })).rejects.toMatchObject({
        code: 'hypervisorRefused',
      });
      expect(await one.sample('a', 'quick')).toBeNull();
    });

    test('a migration that completes has its VM running at the destination and a husk at the source', async () => {
      await begin();
      await ends();
      const sample = await sampleNow('quick');
      expect(sample).toMatchObject({ status: 'completed', failure: null });
      expect(sample.transferredBytes).toBeGreaterThan(0);
      expect(sample.downtimeMs).toBeGreaterThan(0);
      expect(sample.downtimeMs).toBeLessThan(2_000);
      expect(await other.look('b', 'quick')).toMatchObject({ state: 'running', outgoing: null });
      expect(await other.look('a', 'quick')).toMatchObject({ state: 'postMigrate', outgoing: { status: 'completed' } });
    });

    test('a migration is seen by everybody while it runs, and its counters only rise', async () => {
      await begin(endless);
      const sighting = await other.look('a', 'endless');
      expect(sighting).toMatchObject({ state: 'running', outgoing: { status: 'active', destination: 'b' } });
      let last = await sampleNow('endless');
      await harness.until(async () => {
        const sample = await sampleNow('endless');
        expect(sample.status).toBe('active');
        expect(sample.atMs).toBeGreaterThanOrEqual(last.atMs);
        expect(sample.pass).toBeGreaterThanOrEqual(last.pass);
        expect(sample.transferredBytes).toBeGreaterThanOrEqual(last.transferredBytes);
        last = sample;
        // QEMU works its dirty rate out once a second, however many passes that is.
        return sample.pass >= 3 && sample.dirtyRateBytesPerSec > 0;
      }, 60_000);
      expect(last.rateBytesPerSec).toBeLessThanOrEqual(limits.bandwidthBytesPerSec * 1.02);
    });

    test('a VM that is being migrated is not migrated again, whoever asks', async () => {
      await begin(endless);
      await other.prepareDestination(fence, { ...endless, destination: 'c' });
      await expect(other.startMigration(fence, { ...endless, destination: 'c', ...limits })).rejects.toMatchObject({
        code: 'hypervisorRefused',
      });
      expect(await one.look('a', 'endless')).toMatchObject({ outgoing: { destination: 'b' } });
    });

    test('bandwidth and downtime limit change while it runs', async () => {
      await begin(endless);
      await other.setBandwidth(fence, 'a', 'endless', 5 * MIB);
      expect(await one.bandwidthLimit('a', 'endless')).toBe(5 * MIB);
      await harness.until(async () => (await sampleNow('endless')).rateBytesPerSec <= 5 * MIB * 1.02, 10_000);
      await one.setBandwidth(fence, 'a', 'endless', 80 * MIB);
      await one.setDowntimeLimit(fence, 'a', 'endless', 5_000);
      await ends('endless');
      expect(await sampleNow('endless')).toMatchObject({ status: 'completed' });
      expect(await one.bandwidthLimit('a', 'endless')).toBeNull();
    });

    test('a cancelled migration leaves the VM running at its source and nothing at the destination', async () => {
      await begin(endless);
      await other.cancelMigration(fence, 'a', 'endless');
      await ends('endless');
      expect(await one.look('a', 'endless')).toMatchObject({ state: 'running', outgoing: { status: 'cancelled' } });
      await harness.until(async () => !(await one.look('b', 'endless')).present, 10_000);
      await one.cancelMigration(fence, 'a', 'endless');
    });

    test('cancelling what has completed, or never began, changes nothing', async () => {
      await one.cancelMigration(fence, 'a', 'quick');
      await begin();
      await ends();
      await one.cancelMigration(fence, 'a', 'quick');
      expect(await one.look('b', 'quick')).toMatchObject({ state: 'running' });
    });

    /** In its first pass, and slowly enough to be looked at: it asks for no page. */
    const goesOver = async (): Promise<void> => {
      await one.prepareDestination(fence, { ...quick, postCopy: true });
      await one.startMigration(fence, { ...quick, downtimeLimitMs: 10, bandwidthBytesPerSec: MIB, postCopy: true });
      await harness.until(async () => (await sampleNow('quick')).status === 'active', 10_000);
      await other.beginPostCopy(fence, 'a', 'quick');
      await harness.until(async () => {
        const there = await other.look('b', 'quick');
        return there.present && there.state === 'running';
      }, 10_000);
    };

    test('in post-copy the VM runs at its destination, needs its source, and has no way back', async () => {
      await goesOver();
      expect(await one.look('a', 'quick')).toMatchObject({
        state: 'postMigrate',
        arriving: false,
        outgoing: { status: 'postCopy', destination: 'b', migrationId: 'm1' },
      });
      expect(await one.look('b', 'quick')).toMatchObject({ state: 'running', arriving: true, outgoing: null });
      const states = async (host: string) => (await other.inventory(host)).vms.map(({ name, state }) => [name, state]);
      expect(await states('a')).toContainEqual(['quick', 'postMigrate']);
      expect(await states('b')).toEqual([['quick', 'running']]);
      const refused = { code: 'hypervisorRefused' };
      await expect(one.cancelMigration(fence, 'a', 'quick')).rejects.toMatchObject(refused);
      await expect(one.discardIncoming(fence, 'b', 'quick')).rejects.toMatchObject(refused);
      await expect(one.retire(fence, 'a', 'quick')).rejects.toMatchObject(refused);
      await one.beginPostCopy(fence, 'a', 'quick');
      const before = await sampleNow('quick');
      expect(before).toMatchObject({ status: 'postCopy', failure: null });
      expect(before.downtimeMs).toBeLessThan(2_000);
      await other.setBandwidth(fence, 'a', 'quick', 40 * MIB);
      await ends('quick');
      expect(await sampleNow('quick')).toMatchObject({ status: 'completed', failure: null });
      await harness.until(async () => {
        const there = await other.look('b', 'quick');
        return there.present && !there.arriving;
      }, 10_000);
      await other.keepDefinition(fence, 'b', 'quick');
      await other.retire(fence, 'a', 'quick');
      expect(await one.look('a', 'quick')).toEqual(GONE);
    });

    test('the ends of a post-copy are connected anew as often as that is asked, and all arrives', async () => {
      await goesOver();
      await one.recoverPostCopy(fence, quick);
      await harness.until(async () => (await sampleNow('quick')).status === 'postCopy', 10_000);
      await other.recoverPostCopy(fence, quick);
      await harness.until(async () => (await sampleNow('quick')).status === 'postCopy', 10_000);
      await one.setBandwidth(fence, 'a', 'quick', 40 * MIB);
      await ends('quick');
      expect(await sampleNow('quick')).toMatchObject({ status: 'completed' });
      await one.recoverPostCopy(fence, quick);
      await one.beginPostCopy(fence, 'a', 'quick');
    });

    test('only what was started for post-copy is switched to it', async () => {
      const refused = { code: 'hypervisorRefused' };
      await expect(one.beginPostCopy(fence, 'a', 'endless')).rejects.toMatchObject(refused);
      await begin(endless);
      await expect(one.beginPostCopy(fence, 'a', 'endless')).rejects.toMatchObject(refused);
      await one.recoverPostCopy(fence, endless);
      expect(await one.look('a', 'endless')).toMatchObject({ state: 'running', outgoing: { status: 'active' } });
    });

    test('only a copy that never ran is discarded', async () => {
      await expect(one.discardIncoming(fence, 'a', 'quick')).rejects.toMatchObject({ code: 'hypervisorRefused' });
      await one.discardIncoming(fence, 'b', 'quick');
      await one.prepareDestination(fence, quick);
      await other.discardIncoming(fence, 'b', 'quick');
      expect(await one.look('b', 'quick')).toEqual(GONE);
      expect(await one.look('a', 'quick')).toMatchObject({ state: 'running' });
    });

    test('only a copy that has moved away is retired', async () => {
      await expect(one.retire(fence, 'a', 'quick')).rejects.toMatchObject({ code: 'hypervisorRefused' });
      await begin();
      await expect(one.retire(fence, 'b', 'quick')).rejects.toMatchObject({ code: 'hypervisorRefused' });
      await ends();
      await expect(one.retire(fence, 'b', 'quick')).rejects.toMatchObject({ code: 'hypervisorRefused' });
      await other.retire(fence, 'a', 'quick');
      expect(await one.look('a', 'quick')).toEqual(GONE);
      expect(await one.look('b', 'quick')).toMatchObject({ state: 'running' });
    });

    test('whoever lost the lease writes nothing', async () => {
      await expect(one.prepareDestination(lostFence(), quick)).rejects.toMatchObject({ code: 'leaseLost' });
      expect(await one.look('b', 'quick')).toEqual(GONE);
    });
  });
}
