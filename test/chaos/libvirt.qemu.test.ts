/**
 * What may die while libvirtd migrates a throttled domain for us, each in turn: our worker, the client that waits for the
 * migration, either daemon, the link. One lab for all: the domain goes to and fro.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { cutLink, healLink } from '../../src/lab/network.ts';
import type { Command } from '../cli/spawn.ts';
import { LibvirtPlace } from '../lab/libvirt-place.ts';
import { expectQuotasAsBefore } from '../lab/quotas.ts';
import { moveOf, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const VM = 'hot-1';
const HOSTS = ['lab-a', 'lab-b'];
const LIMIT_MS = 240_000;

interface Fault {
  readonly what: string;
  readonly strike: (move: { readonly from: string; readonly to: string; readonly id: string }) => Promise<void>;
  /** What an attempt that failed of it says; null: none has to fail. */
  readonly says: RegExp | null;
}

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis', 'libvirt'], 'while libvirtd migrates', () => {
  let place: LibvirtPlace;
  let up: Command;
  beforeAll(async () => {
    place = new LibvirtPlace();
    await place.libvirtLab({ profiles: ['hot'], egressBytesPerSec: 20 * MIB });
    up = await place.startUp();
  }, LIMIT_MS);
  afterAll(() => place.close(), LIMIT_MS);

  const faults: readonly Fault[] = [
    {
      what: 'our worker is killed',
      strike: async () => {
        await up.kill();
        up = await place.startUp();
      },
      says: null,
    },
    {
      what: 'the client that waits for the migration is killed',
      strike: async () => {
        const clients = migrateClients(place.home);
        expect(clients).toHaveLength(1);
        for (const pid of clients) process.kill(pid, 'SIGKILL');
      },
      says: null,
    },
    {
      what: "the source's libvirtd is killed and started again",
      strike: async ({ from }) => {
        place.killDaemon(from);
        await place.startDaemon(from);
      },
      says: /libvirt|does not answer|not running/,
    },
    {
      what: "the destination's libvirtd is killed and started again",
      strike: async ({ to }) => {
        place.killDaemon(to);
        await place.startDaemon(to);
      },
      says: /libvirt says that the migration failed/,
    },
    {
      what: 'the link is cut, and healed when that has been noticed',
      strike: async ({ to, id }) => {
        await cutLink(place.manifest, to);
        const eyes = await place.eyes();
        const hasFailed = async (): Promise<boolean> => (await eyes.moves(id, VM))[0]?.state === 'failed';
        await until(hasFailed, 120_000, 'the end of the first attempt');
        expect(isFree(to)).toBe(true);
        await healLink(place.manifest, to);
      },
      says: /no byte was sent|libvirt says/,
    },
  ];

  /** No vCPU group of the source is held back. */
  function isFree(to: string): boolean {
    const from = to === 'lab-a' ? 'lab-b' : 'lab-a';
    return place.vcpuQuotas(from).get(`${VM} vcpu0`)?.startsWith('-1/') === true;
  }

  test.each(faults.map((fault) => [fault.what, fault] as const))(
    '%s: the domain runs once, whole and unthrottled, and the operation ends with true reasons',
    async (_, { strike, says }) => {
      const [where] = await place.domains();
      const from = where?.startsWith('lab-a') ? 'lab-a' : 'lab-b';
      const to = from === 'lab-a' ? 'lab-b' : 'lab-a';
      expect(await place.domains()).toEqual([`${from} ${VM} running`]);
      const accepted = await place.run(
        'balance',
        '--move',
        `${VM}=${to}`,
        '--min-cpu',
        '0.05',
        '--aggression',
        '1',
        '-o',
        'json',
      );
      expect(accepted.code, accepted.stdout + accepted.stderr).toBe(0);
      const { id } = JSON.parse(accepted.stdout) as { id: string };
      await until(() => !isFree(to), 60_000, `${VM} is throttled at ${from}`);

      await strike({ from, to, id });

      const ended = await place.run('watch', id, '--timeout', '180s', '-o', 'json');
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      const move = moveOf(result, VM);
      console.log(JSON.stringify(move));
      expect(result.state).toBe('done');
      expect(await place.domains()).toEqual([`${to} ${VM} running`]);
      expect((await place.memoryOf(to, VM)).faults).toEqual([]);
      await place.writesOn(to, VM);
      expect([...place.vcpuQuotas(from)]).toEqual([]);
      expect([...place.vcpuQuotas(to)]).toEqual([[`${VM} vcpu0`, '-1/100000']]);
      expectQuotasAsBefore(place.quotasBefore, [VM], HOSTS);
      const eyes = await place.eyes();
      const failed = (await eyes.moves(id, VM)).filter(({ state }) => state === 'failed');
      for (const { reason } of failed) console.log(`${reason?.code}: ${reason?.message}`);
      if (says === null) expect(move.attempts).toBe(1);
      for (const { reason } of failed) expect(reason?.message).toMatch(says ?? /^$/);
    },
    LIMIT_MS,
  );
});

/** Of this lab. */
function migrateClients(home: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const words = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
        return words[0] === 'virsh' && words.includes('migrate') && words.some((word) => word.includes(home))
          ? [Number(name)]
          : [];
      } catch {
        // It has ended since it was listed.
        return [];
      }
    });
}
