/**
 * A host that a real libvirtd runs, emptied as a user would: three real domains leave it, one of them throttled on the way.
 * What is claimed of them is looked up from outside, at both daemons and in the guests' memory.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { LibvirtPlace } from './libvirt-place.ts';
import { expectQuotasAsBefore } from './quotas.ts';
import { moveOf, resultOf } from './results.ts';

const GUESTS = ['hot-1', 'idle-1', 'mild-1'];
/** The default policy's max stall. */
const MAX_STALL_MS = 300;
const LIMIT_MS = 300_000;

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis', 'libvirt'], 'a host run by libvirtd', () => {
  let place: LibvirtPlace;
  beforeEach(() => {
    place = new LibvirtPlace();
  });
  afterEach(() => place.close());

  test(
    'is emptied: each domain runs once at its destination, whole and as it was defined, and no quota has changed',
    async () => {
      await place.libvirtLab({ profiles: ['idle', 'mild', 'hot'] });
      // What its owner has given it: less than a core, a start with its host, words of his own.
      await place.virsh('lab-a', 'schedinfo', 'hot-1', '--live', '--config', '--set', 'vcpu_quota=95000');
      await place.virsh('lab-a', 'autostart', 'mild-1');
      const words = ['--uri', 'urn:test:owner', '--key', 'owner', '--set', '<who name="somebody"/>'];
      await place.virsh('lab-a', 'metadata', 'idle-1', ...words, '--live', '--config');
      const before = new Map(
        await Promise.all(GUESTS.map(async (vm) => [vm, await place.definition('lab-a', vm)] as const)),
      );
      const writes = new Map(
        await Promise.all(GUESTS.map(async (vm) => [vm, await place.writesOf('lab-a', vm)] as const)),
      );
      expect(place.vcpuQuotas('lab-a').get('hot-1 vcpu0')).toBe('95000/100000');

      await place.startUp();
      const evacuating = place.run('evacuate', 'lab-a', '--wait', '-o', 'json');
      const isHeldBack = (): boolean => {
        const quota = place.vcpuQuotas('lab-a').get('hot-1 vcpu0');
        return quota !== undefined && quota !== '95000/100000';
      };
      await until(isHeldBack, 120_000, 'hot-1 is held back in its own vCPU group');
      const ended = await evacuating;
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      console.log(`makespan ${result.makespanMs} ms; ${JSON.stringify(result.moves)}`);
      expect(result).toMatchObject({ kind: 'evacuateNode', state: 'done', host: 'lab-a', blocked: [] });
      for (const move of result.moves) {
        expect(move, move.vm).toMatchObject({ source: 'lab-a', destination: 'lab-b', state: 'done', attempts: 1 });
        expect(move.relaxed, move.vm).toEqual([]);
        expect(move.downtimeMs, move.vm).toBeGreaterThan(0);
        expect(move.downtimeMs, move.vm).toBeLessThanOrEqual(MAX_STALL_MS);
        expect(move.transferredBytes, move.vm).toBeGreaterThan(0);
      }
      const hot = moveOf(result, 'hot-1');
      expect(hot.minShare).toBeLessThan(1);
      expect(hot.harmCpuMs).toBeGreaterThan(0);
      expect(moveOf(result, 'idle-1').minShare).toBe(1);

      expect(await place.domains()).toEqual(GUESTS.map((vm) => `lab-b ${vm} running`));
      for (const vm of GUESTS) {
        expect(await place.definition('lab-b', vm), vm).toEqual(before.get(vm));
        expect(await place.virsh('lab-b', 'dominfo', vm), vm).toMatch(/^Persistent:\s+yes$/m);
        const report = await place.memoryOf('lab-b', vm);
        expect(report.faults, vm).toEqual([]);
        expect(report.progress, vm).toBeGreaterThan(writes.get(vm) ?? 0);
        await place.writesOn('lab-b', vm);
      }
      expect(await place.virsh('lab-b', 'dominfo', 'mild-1')).toMatch(/^Autostart:\s+enable$/m);
      expect(await place.virsh('lab-b', 'dominfo', 'hot-1')).toMatch(/^Autostart:\s+disable$/m);
      expect([...place.vcpuQuotas('lab-b')].sort()).toEqual([
        ['hot-1 vcpu0', '95000/100000'],
        ['idle-1 vcpu0', '-1/100000'],
        ['mild-1 vcpu0', '-1/100000'],
      ]);
      expect([...place.vcpuQuotas('lab-a')]).toEqual([]);
      expectQuotasAsBefore(place.quotasBefore, GUESTS, ['lab-a', 'lab-b']);
    },
    LIMIT_MS,
  );

  test(
    'that libvirt forgets when it ends stays so, and a paused one stays paused',
    async () => {
      await place.libvirtLab({ profiles: ['idle', 'mild'], domains: { transient: true } });
      await place.virsh('lab-a', 'suspend', 'mild-1');
      await place.startUp();
      const ended = await place.run('evacuate', 'lab-a', '--wait', '-o', 'json');
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      expect(await place.domains()).toEqual(['lab-b idle-1 running', 'lab-b mild-1 paused']);
      for (const vm of ['idle-1', 'mild-1']) {
        expect(await place.virsh('lab-b', 'dominfo', vm), vm).toMatch(/^Persistent:\s+no$/m);
        expect(await place.virsh('lab-b', 'dumpxml', vm), vm).not.toContain('hostevac');
      }
      await place.virsh('lab-b', 'resume', 'mild-1');
      await place.writesOn('lab-b', 'mild-1');
      expect((await place.memoryOf('lab-b', 'mild-1')).faults).toEqual([]);
    },
    LIMIT_MS,
  );
});
