/**
 * Domains that libvirt will not migrate, or not everywhere: a device that stays, a disk of the host's own, a network that the
 * destination lacks, snapshots; and one that is paused. Each does what the request says, with libvirt's reason.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { LibvirtPlace } from './libvirt-place.ts';
import { moveOf, resultOf } from './results.ts';

const LIMIT_MS = 240_000;
const BRIDGE = 'br-guests';

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis', 'libvirt'], 'domains that libvirt refuses', () => {
  let place: LibvirtPlace;

  beforeAll(async () => {
    place = new LibvirtPlace();
    await place.libvirtLab({ profiles: ['idle'], hosts: 3 });
    for (const host of ['lab-a', 'lab-c']) {
      execFileSync('ip', ['-n', place.host(host).networkNamespace ?? '', 'link', 'add', BRIDGE, 'type', 'bridge']);
    }
    const disk = join(place.home, 'disk.raw');
    writeFileSync(disk, Buffer.alloc(2 ** 20));
    const driver = `<driver name='qemu' type='raw' cache='none'/>`;
    await domain('device-1', `<shmem name='x'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>`);
    await domain(
      'disk-1',
      `<disk type='file'>${driver}<source file='${disk}'/><target dev='vda' bus='virtio'/></disk>`,
    );
    await domain(
      'bridged-1',
      `<interface type='bridge'><source bridge='${BRIDGE}'/><model type='virtio'/></interface>`,
    );
    await domain('paused-1', '');
    await place.virsh('lab-a', 'suspend', 'paused-1');
    await domain('kept-1', '');
    const inner = await place.virsh('lab-a', 'dumpxml', 'kept-1', '--inactive');
    const of = `<state>shutoff</state><creationTime>1700000000</creationTime><memory snapshot='no'/>`;
    const disks = `<disks><disk name='fda' snapshot='no'/></disks>`;
    const snapshot = join(place.home, 'snapshot.xml');
    writeFileSync(snapshot, `<domainsnapshot><name>s1</name>${of}${disks}${inner}</domainsnapshot>`);
    await place.virsh('lab-a', 'snapshot-create', 'kept-1', snapshot, '--redefine');
    await place.startUp();
  }, LIMIT_MS);
  afterAll(() => place.close(), LIMIT_MS);

  let made = 0;
  /** As idle-1, with more devices. */
  async function domain(name: string, devices: string): Promise<void> {
    made += 1;
    const xml = (await place.virsh('lab-a', 'dumpxml', 'idle-1', '--inactive'))
      .replace(/<name>.*<\/name>/, `<name>${name}</name>`)
      .replace(/<uuid>.*<\/uuid>/, `<uuid>00000000-1111-4222-8333-${String(made).padStart(12, '0')}</uuid>`)
      .replace('</devices>', `${devices}</devices>`);
    const file = join(place.home, `${name}.xml`);
    writeFileSync(file, xml);
    await place.virsh('lab-a', 'define', file);
    await place.virsh('lab-a', 'start', name);
  }

  const STAY = ['device-1', 'disk-1', 'kept-1'];
  const REASONS: Readonly<Record<string, RegExp>> = {
    'device-1': /ivshmem/,
    'disk-1': /[Uu]nsafe migration/,
    'kept-1': /snapshots/,
  };

  test(
    'are skipped where that is asked for; the others go where they can',
    async () => {
      const ended = await place.run('evacuate', 'lab-a', '--non-migratable', 'skip', '--wait', '-o', 'json');
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      console.log(JSON.stringify({ skipped: result.skipped, moves: result.moves }));
      expect(result).toMatchObject({ state: 'done', empty: false, blocked: [] });
      expect(result.skipped.map(({ vm }) => vm).sort()).toEqual(STAY);
      for (const { vm, reason } of result.skipped) expect(reason, vm).toMatch(REASONS[vm] ?? /^$/);
      expect(moveOf(result, 'bridged-1')).toMatchObject({ state: 'done', destination: 'lab-c' });
      const domains = await place.domains();
      expect(domains).toContain('lab-c bridged-1 running');
      expect(domains.filter((line) => line.startsWith('lab-a'))).toEqual(STAY.map((vm) => `lab-a ${vm} running`));
      expect(domains.filter((line) => line.includes('paused-1'))).toEqual([
        expect.stringMatching(/^lab-[bc] paused-1 paused$/),
      ]);
      expect(domains).toHaveLength(6);
    },
    LIMIT_MS,
  );

  test(
    'are blocked by default, each with its reason',
    async () => {
      const ended = await place.run('evacuate', 'lab-a', '--wait', '-o', 'json');
      expect(ended.code, ended.stdout).toBe(4);
      const result = resultOf(ended);
      expect(result.blocked.map(({ vm }) => vm).sort()).toEqual(STAY);
      for (const { vm, reason } of result.blocked) expect(reason, vm).toMatch(REASONS[vm] ?? /^$/);
      expect((await place.domains()).filter((line) => line.startsWith('lab-a'))).toEqual(
        STAY.map((vm) => `lab-a ${vm} running`),
      );
    },
    LIMIT_MS,
  );

  test(
    'are asked to shut down where request and label agree, and left running where their guests do not',
    async () => {
      const labels = '<labels><label name="hostevac.non-migratable">shutdown</label></labels>';
      const where = ['--uri', 'urn:hostevac:labels', '--key', 'hostevac'];
      await place.virsh('lab-a', 'metadata', 'kept-1', ...where, '--set', labels, '--live', '--config');
      const options = ['--non-migratable', 'label', '--shutdown-timeout', '5s'];
      // A plan is of the last inventory.
      const planned = async (): Promise<string> =>
        (await place.run('evacuate', 'lab-a', ...options, '--dry-run')).stdout;
      await until(async () => /kept-1.*shut/.test(await planned()), 30_000, 'the label is seen');
      const ended = await place.run('evacuate', 'lab-a', ...options, '--wait', '-o', 'json');
      expect(ended.code, ended.stdout).toBe(4);
      const result = resultOf(ended);
      expect(result.blocked.map(({ vm }) => vm).sort()).toEqual(STAY);
      // The lab's guest knows no power button.
      expect(result.blocked.find(({ vm }) => vm === 'kept-1')?.reason).toMatch(/shut down/);
      expect((await place.domains()).filter((line) => line.startsWith('lab-a'))).toEqual(
        STAY.map((vm) => `lab-a ${vm} running`),
      );
      await place.writesOn('lab-a', 'kept-1');
    },
    LIMIT_MS,
  );
});
