/** The lab with real libvirt daemons: up, looked at, a guest migrated over a link that is cut and healed, down without a trace. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { groupOf, libvirtPeerUri, libvirtUri } from '../../src/lab/libvirt/config.ts';
import { groupsOf } from '../../src/lab/libvirt/control-groups.ts';
import { daemonsOf } from '../../src/lab/libvirt/daemon.ts';
import type { DomainOptions } from '../../src/lab/libvirt/domains.ts';
import { virsh } from '../../src/lab/libvirt/virsh.ts';
import { labStatus } from '../../src/lab/look.ts';
import { type LabManifest, readManifest } from '../../src/lab/manifest.ts';
import { cutLink, healLink, networkNamespacesOf } from '../../src/lab/network.ts';
import type { LabHost } from '../../src/lab/plan.ts';
import { endProcesses, qemusOf } from '../../src/lab/processes.ts';
import { type StartOptions, startLab } from '../../src/lab/start.ts';
import { stopLab } from '../../src/lab/stop.ts';
import { parseProcessStat } from '../../src/runtime/process-identity.ts';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const EGRESS = 20 * MIB;

const upAnswer = z.object({
  driver: z.literal('libvirt'),
  accel: z.enum(['tcg', 'kvm']),
  guests: z.array(z.object({ name: z.string(), host: z.string() })),
});
const statusAnswer = z.object({
  guests: z.array(
    z.object({
      guest: z.string(),
      host: z.string(),
      state: z.string(),
      progress: z.number().nullable(),
      memory: z.object({ faults: z.array(z.string()), pages: z.number() }).nullable(),
    }),
  ),
  silent: z.array(z.unknown()),
  missing: z.array(z.string()),
  doubled: z.array(z.string()),
});
const linkAnswer = z.array(
  z.object({ stats64: z.object({ rx: z.object({ bytes: z.number() }), tx: z.object({ bytes: z.number() }) }) }),
);

describeWith(['qemu', 'netns', 'libvirt'], 'a lab of libvirt hosts', () => {
  let home = '';
  let mounts = '';
  let lab: LabManifest | null = null;
  const started: Command[] = [];

  beforeEach(() => {
    // Characters that mean something in XML, in a URI and in a shell.
    home = mkdtempSync("/tmp/hev lab's & ");
    mounts = mountsNow();
  });
  afterEach(async () => {
    await Promise.all(started.splice(0).map((command) => command.kill()));
    // Only where the test has failed is there anything left for it.
    await stopLab(home);
    rmSync(home, { recursive: true, force: true });
  }, 60_000);

  function start(...args: string[]): Command {
    const command = new Command(args, { env: userEnv(home), cwd: home });
    started.push(command);
    return command;
  }
  const run = (...args: string[]): Promise<Ended> => start(...args).ended;
  const up = (...args: string[]): Command =>
    start('lab', 'up', '--driver', 'libvirt', '--hosts', '2', '--no-serve', ...args);

  function manifest(): LabManifest {
    lab = readManifest(home);
    if (lab === null) throw new Error(`no lab in ${home}`);
    return lab;
  }
  function host(name: string): LabHost {
    const found = manifest().hosts.find((one) => one.name === name);
    if (found === undefined) throw new Error(`no host ${name}`);
    return found;
  }
  async function look(...args: string[]) {
    const ended = await run('lab', 'status', ...args, '-o', 'json');
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    return statusAnswer.parse(JSON.parse(ended.stdout));
  }

  /** `id`: of the lab that was there. */
  function expectNothingLeft(id: string): void {
    const place = join(home, 'lab');
    expect(daemonsOf(place, id)).toEqual([]);
    expect(qemusOf(place)).toEqual([]);
    expect(membersNow(id)).toEqual([]);
    expect(networkNamespacesOf(id)).toEqual([]);
    expect(groupsOf(id)).toEqual([]);
    expect(mountsNow()).toBe(mounts);
    expect(readdirSync(home)).toEqual([]);
  }

  test('runs guests as domains of two daemons, moves one over a link that is cut and healed, and leaves nothing', async () => {
    const began = performance.now();
    const ended = await up('--profile', 'idle,mild', '--egress', '20MiB/s', '-o', 'json').ended;
    expect(ended.code, ended.stdout + ended.stderr).toBe(0);
    console.log(`up after ${Math.round(performance.now() - began)} ms`);
    expect(upAnswer.parse(JSON.parse(ended.stdout)).guests).toMatchObject([
      { name: 'idle-1', host: 'lab-a' },
      { name: 'mild-1', host: 'lab-a' },
    ]);
    const { id } = manifest();
    const before = await look('--check');
    expect(before).toMatchObject({ silent: [], missing: [], doubled: [] });
    for (const { state, host: where, memory } of before.guests) {
      expect([state, where, memory?.faults]).toEqual(['running', 'lab-a', []]);
    }
    const [a, b] = [host('lab-a'), host('lab-b')];
    expect(cgroupsOf(a, 'mild-1')).toContain(`/${groupOf(a)}/machine/qemu-`);

    const migration = migrate(a, b, 'mild-1');
    const sent = (): number => linkOf(a).tx.bytes;
    const first = sent() + MIB;
    // The copy is started there first.
    await until(() => sent() > first, 30_000, 'the first MiB');
    const from = { bytes: sent(), atMs: performance.now() };
    await until(() => sent() > from.bytes + 30 * MIB, 30_000, '30 MiB');
    const rate = ((sent() - from.bytes) / (performance.now() - from.atMs)) * 1_000;
    expect(rate).toBeLessThan(EGRESS * 1.25);
    expect(rate).toBeGreaterThan(EGRESS * 0.5);
    const during = await look();
    expect(during).toMatchObject({ missing: [], doubled: [] });
    expect(during.guests.find((copy) => copy.guest === 'mild-1' && copy.host === 'lab-b')?.state).toMatch(/^paused/);

    await cutLink(manifest(), 'lab-a');
    const arrived: number[] = [];
    await until(
      () => {
        arrived.push(linkOf(b).rx.bytes);
        return arrived.length > 50 && arrived.at(-50) === arrived.at(-1);
      },
      20_000,
      'silence',
    );
    expect(migration.child.exitCode).toBeNull();
    await healLink(manifest(), 'lab-a');
    expect(await migration.ended, migration.said()).toBe(0);

    const after = await look('--check');
    expect(after).toMatchObject({ missing: [], doubled: [] });
    const running = after.guests.filter(({ state }) => state === 'running');
    expect(running.map((copy) => `${copy.guest}@${copy.host}`).sort()).toEqual(['idle-1@lab-a', 'mild-1@lab-b']);
    for (const { guest, memory, progress } of running) {
      expect(memory?.faults).toEqual([]);
      expect(progress).toBeGreaterThan(before.guests.find((old) => old.guest === guest)?.progress ?? 0);
    }
    expect(cgroupsOf(b, 'mild-1')).toContain(`/${groupOf(b)}/machine/qemu-`);
    expect((await run('lab', 'status')).stdout).toMatch(/^mild-1 +mild +lab-a +shut off/m);

    expect(await run('lab', 'down')).toMatchObject({ code: 0, stdout: /2 guests ended/ });
    expectNothingLeft(id);
  });

  test('whose start was killed while its daemons ask QEMU what it can is removed by lab down', async () => {
    const starting = up('--profile', 'idle');
    await until(() => starting.stderr.includes('asking it what QEMU can do'), 60_000, 'the daemons');
    const { id, place } = manifest();
    await starting.kill();
    expect(daemonsOf(place, id).length).toBeGreaterThanOrEqual(2);
    expect(await run('lab', 'down')).toMatchObject({ code: 0 });
    expectNothingLeft(id);
  });

  test('that Ctrl-C interrupts leaves nothing', async () => {
    const starting = up('--profile', 'big,idle');
    await until(() => starting.stderr.includes(' runs on '), 60_000, 'the first guest');
    const { id } = manifest();
    starting.signalGroup('SIGINT');
    expect(await starting.ended).toMatchObject({ code: 130, stderr: /nothing of the lab is left/ });
    expectNothingLeft(id);
  });

  const options = (domains: DomainOptions): StartOptions => ({
    driver: 'libvirt',
    hosts: 2,
    guests: 2,
    profiles: ['idle'],
    egressBytesPerSec: EGRESS,
    network: false,
    spread: true,
    stateDir: home,
    fleetFile: join(home, 'fleet.yaml'),
    accel: 'tcg',
    // Guests that need not keep a rate: how fast they run here is not asked.
    machine: { accel: 'tcg', loopsPerCpuSec: 1e8 },
    domains,
    serveWith: null,
    env: process.env,
    signal: new AbortController().signal,
    progress: () => undefined,
  });

  test('has guests with more devices that libvirt forgets when they end, if so asked; a host without its daemon is told', async () => {
    const { manifest: made } = await startLab(options({ transient: true, moreDevices: () => RANDOM }));
    const [a, b] = [host('lab-a'), host('lab-b')];
    expect(await virsh(libvirtUri(a), ['dumpxml', '--domain=idle-1'])).toContain("<rng model='virtio'>");
    expect(await virsh(libvirtUri(a), ['dominfo', '--domain=idle-1'])).toMatch(/^Persistent: +no$/m);
    expect(await virsh(libvirtUri(b), ['list', '--name'])).toMatch(/^idle-2$/m);

    const daemon = Number(readFileSync(join(b.runDir, 'run', 'libvirtd.pid'), 'utf8'));
    await endProcesses(daemonsOf(made.place, made.id).filter(({ pid }) => pid === daemon));
    const status = await labStatus(home, { check: false, signal: new AbortController().signal });
    expect(status?.silent).toMatchObject([{ host: 'lab-b', fault: expect.stringMatching(/failed to connect/) }]);
    expect(status?.copies.map(({ guest, state }) => `${guest} ${state}`)).toEqual(['idle-1 running']);
    expect(status?.missing).toEqual(['idle-2']);
    // Its guest runs on without it.
    expect(await stopLab(home)).toMatchObject({ guests: 2 });
    expectNothingLeft(made.id);
  });

  test('whose guest libvirt refuses is undone, and says why in its words', async () => {
    const starting = startLab(options({ moreDevices: () => "<rng model='none'/>" }));
    await expect(starting).rejects.toMatchObject({
      code: 'labUnfit',
      message: expect.stringMatching(/virsh define .*idle-[12]\.xml: error: .*Invalid value for attribute 'model'/),
    });
    expect(existsSync(join(home, 'lab'))).toBe(false);
    expect(mountsNow()).toBe(mounts);
  });
});

const RANDOM = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>";

interface Migration {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  readonly said: () => string;
}

/** As an administrator would. */
function migrate(from: LabHost, to: LabHost, domain: string): Migration {
  const args = ['-c', libvirtUri(from), 'migrate', '--live', '--p2p', domain, libvirtPeerUri(to)];
  const child = spawn('virsh', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (part: string) => {
      text += part;
    });
  }
  return { child, ended: new Promise((resolve) => child.once('close', resolve)), said: () => text };
}

function linkOf({ networkNamespace }: LabHost) {
  const text = execFileSync('ip', ['-n', networkNamespace ?? '', '-s', '-j', 'link', 'show', 'dev', 'mig0'], {
    encoding: 'utf8',
  });
  const [link] = linkAnswer.parse(JSON.parse(text));
  if (link === undefined) throw new Error(`no link in ${text}`);
  return link.stats64;
}

/** Of a domain's process. */
function cgroupsOf({ runDir }: LabHost, domain: string): string {
  return readFileSync(
    `/proc/${readFileSync(join(runDir, 'run', 'qemu', `${domain}.pid`), 'utf8').trim()}/cgroup`,
    'utf8',
  );
}

/** By their control group: the QEMU processes that a daemon asks what they can have no file of the lab in their arguments. */
function membersNow(id: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      if (!/^\d+$/.test(pid) || !readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(`/hevlab-${id}-`)) return false;
      // Whose parent has ended is a zombie until init has time for it.
      return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.state !== 'Z';
    } catch {
      // It has ended since it was listed.
      return false;
    }
  });
}

function mountsNow(): string {
  return (
    readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      // Other labs come and go meanwhile.
      .filter((line) => !line.includes(' /run/netns'))
      .join('\n')
  );
}
