/** Post-copy on real QEMU where it differs from what every hypervisor promises: rights, waits, hangs and deaths. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import type { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { processByPidFile } from '../../../src/hypervisors/qemu/process.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { heldFence } from '../hypervisor-behaviour.ts';
import { Hosts, MIB } from './hosts.ts';

const fence = heldFence(5);
const target = { vm: 'quick', source: 'a', destination: 'b', migrationId: 'm1' };
const slow = { bandwidthBytesPerSec: MIB, downtimeLimitMs: 10, postCopy: true };
/** Guest memory that is sent late: the guest itself never looks at it. */
const FAR = 0x3f00000;

describeWith(['qemu', 'root'], 'post-copy on QEMU', () => {
  let hosts: Hosts;
  let one: QemuHypervisor;
  beforeEach(async () => {
    hosts = new Hosts(['a', 'b']);
    one = hosts.adapter();
    await hosts.byHand('a', { name: 'quick' });
  });
  afterEach(() => hosts.close());

  const statusAtA = async (by = one) => (await by.sample('a', 'quick'))?.status;
  const reaches = (status: string, by = one) =>
    until(async () => (await statusAtA(by)) === status, 20_000, `quick ${status}`);
  const begin = async (by = one): Promise<void> => {
    await by.prepareDestination(fence, { ...target, postCopy: true });
    await by.startMigration(fence, { ...target, ...slow });
    await reaches('active', by);
  };
  const goesOver = async (): Promise<void> => {
    await begin();
    await one.beginPostCopy(fence, 'a', 'quick');
    await reaches('postCopy');
    await until(async () => {
      const there = await lookB();
      return there.present && there.arriving;
    }, 5_000);
  };
  const lookB = () => one.look('b', 'quick');
  const pidAt = (host: string): number => {
    const found = processByPidFile(vmDir(hosts.dir(host, 'quick')));
    if (found === undefined) throw new Error(`quick does not run at ${host}`);
    return found.pid;
  };

  test('both ends are told to preempt; without post-copy in its terms neither is made ready for it', async () => {
    const capabilities = async (host: string) => {
      const qmp = await hosts.connect(host, 'quick', 'spare.sock');
      try {
        const schema = z.array(z.looseObject({ capability: z.string(), state: z.boolean() }));
        const listed = await qmp.execute('query-migrate-capabilities', schema);
        return listed.flatMap(({ capability, state }) => (state && /postcopy/.test(capability) ? [capability] : []));
      } finally {
        qmp.close();
      }
    };
    await begin();
    expect(await capabilities('a')).toEqual(['postcopy-ram', 'postcopy-preempt']);
    expect(await capabilities('b')).toEqual(['postcopy-ram', 'postcopy-preempt']);
    await one.cancelMigration(fence, 'a', 'quick');
    await until(async () => !(await lookB()).present, 10_000);
    await one.prepareDestination(fence, { ...target, migrationId: 'm2' });
    await expect(one.startMigration(fence, { ...target, ...slow, migrationId: 'm2' })).rejects.toMatchObject({
      code: 'hypervisorRefused',
      message: expect.stringMatching(/was not prepared for post-copy/),
    });
    await one.startMigration(fence, { ...target, ...slow, postCopy: false, migrationId: 'm2' });
    expect(await capabilities('a')).toEqual([]);
    expect(await capabilities('b')).toEqual([]);
  });

  test('a destination whose QEMU may not use userfaultfd says what to grant, before anything is sent', async () => {
    hosts.define(hosts.dir('a', 'quick'), {
      name: 'quick',
      memory: '64MiB',
      cpus: 1,
      argv: [...hosts.argv({ name: 'quick' }), '-run-with', 'user=nobody'],
    });
    await expect(one.prepareDestination(fence, { ...target, postCopy: true })).rejects.toMatchObject({
      code: 'hypervisorRefused',
      message: expect.stringMatching(/b cannot take quick in post-copy.*vm\.unprivileged_userfaultfd=1/),
    });
    expect(await lookB()).toEqual({ present: false });
    expect(await one.sample('a', 'quick')).toBeNull();
  });

  test('waits for the last word before the guest goes over, and may be called off until then', async () => {
    const gatekeeper = { open: async () => undefined, abandon: async () => undefined, close: async () => undefined };
    const gated = hosts.adapter({ gatekeeper });
    await begin(gated);
    await gated.beginPostCopy(fence, 'a', 'quick');
    await reaches('preSwitchover', gated);
    expect(await lookB()).toMatchObject({ state: 'incoming', arriving: false });
    await gated.cancelMigration(fence, 'a', 'quick');
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'running', outgoing: { status: 'cancelled' } });
    await until(async () => !(await lookB()).present, 10_000);

    await begin(gated);
    await gated.beginPostCopy(fence, 'a', 'quick');
    await reaches('preSwitchover', gated);
    await gated.finishMigration(fence, 'a', 'quick');
    await reaches('postCopy', gated);
    await until(async () => {
      const there = await lookB();
      return there.present && there.state === 'running';
    }, 5_000);
  });

  test('a destination that hangs on a page that cannot come is connected anew out of band', async () => {
    await goesOver();
    const away = await hosts.connect('a', 'quick', 'spare.sock');
    await away.execute('migrate-pause', z.unknown());
    away.close();
    await reaches('postCopyPaused');
    // Whoever asks QEMU itself for memory that is not there stops all of its ordinary commands.
    const hung = await hosts.connect('b', 'quick', 'spare.sock');
    const command = { 'command-line': `xp /1wd 0x${FAR.toString(16)}` };
    const answer = hung.execute('human-monitor-command', z.string(), command, { timeoutMs: 60_000 });
    await expect(lookB()).rejects.toMatchObject({ code: 'hostUnreachable' });
    await one.recoverPostCopy(fence, target);
    await reaches('postCopy');
    expect(await answer).toMatch(/: +0/);
    hung.close();
    await one.setBandwidth(fence, 'a', 'quick', 100 * MIB);
    await reaches('completed');
  });

  test('a source whose destination has died is neither ended nor told that it may go on', async () => {
    await goesOver();
    process.kill(pidAt('b'), 'SIGKILL');
    await reaches('postCopyPaused');
    await until(async () => !(await lookB()).present, 5_000);
    expect(await one.look('a', 'quick')).toMatchObject({
      state: 'postMigrate',
      outgoing: { status: 'postCopyPaused' },
    });
    const refused = { code: 'hypervisorRefused' };
    await expect(one.recoverPostCopy(fence, target)).rejects.toMatchObject({ code: 'hostUnreachable' });
    await expect(one.cancelMigration(fence, 'a', 'quick')).rejects.toMatchObject(refused);
    await expect(one.retire(fence, 'a', 'quick')).rejects.toMatchObject(refused);
  });

  test('a guest whose source died goes on waiting; its definitions stay as they are', async () => {
    await goesOver();
    process.kill(pidAt('a'), 'SIGKILL');
    await until(async () => (await one.look('a', 'quick')).present && (await one.sample('a', 'quick')) === null, 5_000);
    expect(await one.look('a', 'quick')).toMatchObject({ state: 'shutOff' });
    expect(await lookB()).toMatchObject({ state: 'running', arriving: true });
    const refused = { code: 'hypervisorRefused' };
    await expect(one.keepDefinition(fence, 'b', 'quick')).rejects.toMatchObject(refused);
    await expect(one.retire(fence, 'a', 'quick')).rejects.toMatchObject(refused);
    await expect(one.discardIncoming(fence, 'b', 'quick')).rejects.toMatchObject(refused);
    expect(readFileSync(join(hosts.dir('a', 'quick'), 'vm.json'), 'utf8')).toContain('quick');
  });
});
