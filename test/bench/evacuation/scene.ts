/**
 * One host with eight guests that write, and two that take them: what the benchmark of evacuations is played on. What they
 * lose is told by the guests themselves: each counts its writes, and the count goes with its memory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { abortableSleep } from '../../../src/clock/abortable-sleep.ts';
import { cpusAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';
import { checkMemory, readState } from '../../../src/lab/guest/inspect.ts';
import { type Machine, withMonitor } from '../../../src/lab/guests.ts';
import type { LabManifest } from '../../../src/lab/manifest.ts';
import { qemusOf } from '../../../src/lab/processes.ts';
import { type ProfileName, profileNamed } from '../../../src/lab/profiles.ts';
import { startLab } from '../../../src/lab/start.ts';

const MIB = 2 ** 20;
export const EGRESS = 40 * MIB;
export const GUESTS: readonly ProfileName[] = ['brisk', 'mild', 'idle', 'mild', 'brisk', 'idle', 'mild', 'idle'];

const SETTLE_MS = 2_000;
const BASELINE_MS = 6_000;
const COUNT_EVERY_MS = 200;

interface Count {
  readonly atMs: number;
  readonly writes: number;
}

export interface Guest {
  readonly name: string;
  readonly touchedBytes: number;
  /** As long as nobody holds it back. */
  readonly writesPerMs: number;
  readonly cores: number;
}

export interface EgressSample {
  readonly atMs: number;
  readonly bytes: number;
}

export class Scene {
  readonly manifest: LabManifest;
  readonly stateDir: string;
  readonly guests: readonly Guest[];
  readonly egress: EgressSample[] = [];
  /** It lives in the network namespace of the host that is emptied, whatever becomes of the guests there. */
  readonly #resident: ChildProcess;
  readonly #timer: NodeJS.Timeout;

  private constructor(manifest: LabManifest, stateDir: string, guests: readonly Guest[]) {
    this.manifest = manifest;
    this.stateDir = stateDir;
    this.guests = guests;
    const namespace = manifest.hosts[0]?.networkNamespace;
    if (namespace == null) throw new Error('the lab has no network');
    this.#resident = spawn('ip', ['netns', 'exec', namespace, 'sleep', 'infinity'], { stdio: 'ignore' });
    this.#timer = setInterval(() => this.#count(), COUNT_EVERY_MS);
  }

  /** Guests that run and were looked at while nobody held them back. */
  static async open(stateDir: string, machine: Machine, signal: AbortSignal): Promise<Scene> {
    const { manifest } = await startLab({
      hosts: 3,
      guests: GUESTS.length,
      profiles: GUESTS,
      egressBytesPerSec: EGRESS,
      network: true,
      spread: false,
      stateDir,
      fleetFile: join(stateDir, 'fleet.yaml'),
      accel: 'tcg',
      machine,
      serveWith: null,
      env: process.env,
      signal,
      progress: () => undefined,
    });
    await abortableSleep(SETTLE_MS, signal);
    const look = async () => {
      const counts = await countsOf(manifest);
      return { counts, cpu: await cpuOf(manifest) };
    };
    const before = await look();
    await abortableSleep(BASELINE_MS, signal);
    const after = await look();
    signal.throwIfAborted();
    const guests = manifest.guests.map(({ name, profile }) => {
      const [from, to] = [before.counts.get(name), after.counts.get(name)];
      const [cpuFrom, cpuTo] = [before.cpu.get(name), after.cpu.get(name)];
      if (!from || !to || !cpuFrom || !cpuTo) throw new Error(`${name} does not run`);
      return {
        name,
        touchedBytes: profileNamed(profile).touchedBytes,
        writesPerMs: (to.writes - from.writes) / (to.atMs - from.atMs),
        cores: (cpuTo.ms - cpuFrom.ms) / (cpuTo.atMs - cpuFrom.atMs),
      };
    });
    return new Scene(manifest, stateDir, guests);
  }

  counts(): Promise<Map<string, Count>> {
    return countsOf(this.manifest);
  }

  /** What is wrong with the memory of each guest, and which of them does not run, or more than once. */
  async faults(): Promise<string[]> {
    const faults: string[] = [];
    for (const { name } of this.guests) {
      const running = await runningAt(this.manifest, name);
      if (running.length !== 1) faults.push(`${name} runs ${running.length} times`);
      for (const dir of running) {
        const report = await withMonitor(dir, (qmp) => checkMemory(qmp, this.stateDir));
        faults.push(...report.faults.map((fault) => `${name}: ${fault}`));
      }
    }
    return faults;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#resident.kill('SIGKILL');
  }

  /** As the interface of the host that is emptied counts it: headers are in. */
  #count(): void {
    const table = readFileSync(`/proc/${this.#resident.pid}/net/dev`, 'utf8');
    const sent = [...table.matchAll(/^\s*(?!lo:)\S+:\s*(.*)$/gm)].map(([, fields = '']) =>
      Number(fields.split(/\s+/)[8]),
    );
    // Until it has moved into the namespace it shows the machine's interfaces.
    if (sent.length === 1) this.egress.push({ atMs: performance.now(), bytes: sent[0] ?? 0 });
  }
}

async function countsOf(manifest: LabManifest): Promise<Map<string, Count>> {
  const counts = new Map<string, Count>();
  for (const { name } of manifest.guests) {
    const [dir, ...more] = await runningAt(manifest, name);
    if (dir === undefined || more.length > 0) continue;
    const { progress } = await withMonitor(dir, readState);
    counts.set(name, { atMs: performance.now(), writes: progress });
  }
  return counts;
}

const statusSchema = z.looseObject({ running: z.boolean() });

async function runningAt(manifest: LabManifest, vm: string) {
  const found = [];
  for (const { dir } of copiesOf(manifest).filter((copy) => copy.vm === vm)) {
    if ((await withMonitor(dir, (qmp) => qmp.execute('query-status', statusSchema))).running) found.push(dir);
  }
  return found;
}

function copiesOf({ place, hosts }: LabManifest) {
  return qemusOf(place).flatMap(({ pid }) => {
    const text = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
    return hosts.flatMap(({ runDir }) => {
      const vm = new RegExp(`unix:${runDir}/([^/]+)/`).exec(text)?.[1];
      return vm === undefined ? [] : [{ pid, vm, dir: vmDir(join(runDir, vm)) }];
    });
  });
}

/** CPU time of each guest's vCPU threads, ms. */
async function cpuOf(manifest: LabManifest): Promise<Map<string, { readonly atMs: number; readonly ms: number }>> {
  const used = new Map<string, { atMs: number; ms: number }>();
  for (const { pid, vm, dir } of copiesOf(manifest)) {
    const cpus = await withMonitor(dir, (qmp) => qmp.execute('query-cpus-fast', cpusAnswer));
    const ms = cpus.reduce((sum, cpu) => {
      const text = readFileSync(`/proc/${pid}/task/${cpu['thread-id']}/schedstat`, 'utf8');
      return sum + Number(text.split(' ')[0]) / 1e6;
    }, 0);
    used.set(vm, { atMs: performance.now(), ms });
  }
  return used;
}
