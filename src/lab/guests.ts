/**
 * Starting the lab's QEMU processes, and what must be known of this machine before: which QEMU, whether KVM really runs a
 * guest, and how fast it runs the guest's empty loops.
 */
import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import { anyAnswer, cpusAnswer } from '../hypervisors/qemu/answers.ts';
import { type ProcessId, startProcess, tail, threadCpuMs } from '../hypervisors/qemu/process.ts';
import { connectQmp } from '../hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../hypervisors/qemu/qmp/qmp.ts';
import { newVmDir, type VmDir } from '../hypervisors/qemu/vm-dir.ts';
import { definitionText } from '../hypervisors/qemu/vm-file.ts';
import { readState } from './guest/inspect.ts';
import { type GuestParameters, guestImage, PAGE_BYTES } from './guest/layout.ts';
import type { LabGuest, LabHost } from './plan.ts';
import { endProcesses } from './processes.ts';
import { type ProfileName, parametersOf, profileNamed } from './profiles.ts';
import { findProgram } from './programs.ts';

export const QEMU = 'qemu-system-x86_64';
const INSTALL =
  'apt-get install qemu-system-x86 (Debian 13), apt-get install -t bookworm-backports qemu-system-x86 (12)';
const MIB = 2 ** 20;

export type Accel = 'tcg' | 'kvm';

/** Filling a GiB takes two seconds where nothing else runs. */
export const BOOT_LIMIT_MS = 60_000;
/** A machine whose KVM works boots a sector in a fraction of this. */
const KVM_LIMIT_MS = 5_000;
const LOOK_MS = 20;

/** Throws `labUnfit` where there is none. */
export async function qemuVersion(path: string | undefined): Promise<{ major: number; text: string }> {
  const found = findProgram(QEMU, path) !== null;
  if (!found) throw new HostevacError('labUnfit', `${QEMU} is not in PATH; install QEMU 9.0 or later: ${INSTALL}`);
  const { stdout } = await promisify(execFile)(QEMU, ['--version'], { env: { PATH: path } });
  const text = /version (\d+\.\d+\S*)/.exec(stdout)?.[1];
  if (text === undefined) {
    throw new HostevacError('labUnfit', `${QEMU} --version says ${JSON.stringify(stdout.slice(0, 100))}, no version`);
  }
  return { major: Number.parseInt(text, 10), text };
}

export interface Machine {
  readonly accel: Accel;
  /** Empty loops of a guest in a second of CPU time. */
  readonly loopsPerCpuSec: number;
}

/**
 * Runs a small guest for a moment: with KVM if that is wanted and really runs it, else with TCG. `scratch` is made and
 * removed. Throws `labUnfit` when no guest runs.
 */
export async function probeMachine(
  wanted: Accel | 'auto',
  version: { readonly major: number; readonly text: string },
  scratch: string,
  signal: AbortSignal,
): Promise<Machine> {
  if (wanted !== 'tcg') {
    const loopsPerCpuSec = await calibrate('kvm', scratch, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      if (wanted === 'kvm') throw error;
      return null;
    });
    if (loopsPerCpuSec !== null) return { accel: 'kvm', loopsPerCpuSec };
  }
  if (version.major < 9) {
    throw new HostevacError(
      'labUnfit',
      `QEMU ${version.text} without KVM loses dirty pages while migrating; install 9.0 or later: ${INSTALL}`,
    );
  }
  return { accel: 'tcg', loopsPerCpuSec: await calibrate('tcg', scratch, signal) };
}

const PROBE: GuestParameters = {
  pattern: 'sweep',
  unpaced: true,
  tickHz: 100,
  // So many that the write itself does not count.
  delayLoops: 20_000,
  secondLoops: 1,
  touchedBytes: 16 * PAGE_BYTES,
  phases: [{ ticks: 1_000_000_000, pagesPerTick: 16, workingSetBytes: 16 * PAGE_BYTES }],
};
const PROBE_WINDOWS = 5;
const PROBE_CPU_MS = 80;

async function calibrate(accel: Accel, scratch: string, signal: AbortSignal): Promise<number> {
  mkdirSync(scratch, { recursive: true, mode: 0o700 });
  const image = join(scratch, 'probe.img');
  writeFileSync(image, guestImage(PROBE));
  const dir = newVmDir(scratch, 'probe');
  mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  let started: RunningGuest | undefined;
  try {
    started = await launch(dir, argvOf({ accel, memoryBytes: 32 * MIB, vcpus: 1, image, preallocates: false }), null);
    const limitMs = accel === 'kvm' ? KVM_LIMIT_MS : BOOT_LIMIT_MS;
    await booted(started, limitMs, signal);
    return await loopsPerCpuSec(started, limitMs, signal);
  } finally {
    if (started !== undefined) await endProcesses([started.process]);
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** The best of a few: where others use the core's twin, its caches and its clock, one second of CPU time is worth less. */
async function loopsPerCpuSec({ dir, process }: RunningGuest, limitMs: number, signal: AbortSignal): Promise<number> {
  return withMonitor(dir, async (qmp) => {
    const [cpu] = await qmp.execute('query-cpus-fast', cpusAnswer);
    const cpuMs = (): number => threadCpuMs(process.pid, cpu?.['thread-id'] ?? process.pid) ?? 0;
    // Standing still, so that both figures are of the same moment.
    const moment = async (): Promise<{ cpuMs: number; writes: number }> => {
      await qmp.execute('stop', anyAnswer);
      const { progress } = await readState(qmp);
      return { cpuMs: cpuMs(), writes: progress };
    };
    let best = 0;
    let before = await moment();
    const since = performance.now();
    for (let window = 0; window < PROBE_WINDOWS; window += 1) {
      await qmp.execute('cont', anyAnswer);
      for (; cpuMs() - before.cpuMs < PROBE_CPU_MS; await abortableSleep(LOOK_MS, signal)) {
        signal.throwIfAborted();
        if (performance.now() - since > limitMs)
          throw new HostevacError('labUnfit', `a guest gets no CPU: ${dir.path}`);
      }
      const after = await moment();
      const loops = (after.writes - before.writes) * PROBE.delayLoops;
      best = Math.max(best, (loops * 1_000) / (after.cpuMs - before.cpuMs));
      before = after;
    }
    if (best === 0) throw new HostevacError('labUnfit', 'a guest takes CPU time and gets nowhere');
    return best;
  });
}

export interface RunningGuest {
  readonly dir: VmDir;
  readonly process: ProcessId;
  /** How it ended; null as long as it lives. */
  exit(): string | null;
}

/**
 * One for all guests of a profile, before any of them is started: QEMU must not open one that is being written. Filled up
 * with zeros to `leastBytes`.
 */
export function writeImages(
  guests: readonly LabGuest[],
  images: string,
  { loopsPerCpuSec }: Machine,
  leastBytes = 0,
): void {
  mkdirSync(images, { recursive: true, mode: 0o700 });
  for (const name of new Set(guests.map(({ profile }) => profile))) {
    const image = guestImage(parametersOf(profileNamed(name), loopsPerCpuSec));
    const rest = Buffer.alloc(Math.max(0, leastBytes - image.length));
    writeFileSync(imageOf(images, name), Buffer.concat([image, rest]));
  }
}

export function imageOf(images: string, profile: ProfileName): string {
  return join(images, `${profile}.img`);
}

export interface GuestPlace {
  readonly host: LabHost;
  /** Where `writeImages` has put the images. */
  readonly images: string;
  readonly accel: Accel;
  /** It gets all of its memory when QEMU starts. */
  readonly preallocates: boolean;
  /** Further arguments for QEMU. A part of the definition: they are the destination's, too. */
  readonly moreArguments: readonly string[];
}

/** Its directory, its definition and its process; not yet booted. */
export async function startGuest(guest: LabGuest, place: GuestPlace): Promise<RunningGuest> {
  const { host, images, moreArguments } = place;
  const profile = profileNamed(guest.profile);
  const image = imageOf(images, guest.profile);
  const dir = newVmDir(host.runDir, guest.name);
  mkdirSync(dir.path, { recursive: true, mode: 0o700 });
  const { name, uuid } = guest;
  const { memoryBytes, vcpus } = profile;
  const machine = argvOf({ ...place, memoryBytes, vcpus, image });
  const argv = ['-name', name, '-uuid', uuid, ...machine, ...moreArguments];
  const definition = { name, uuid, memory: `${memoryBytes / MIB}MiB`, cpus: vcpus, argv };
  writeFileSync(dir.definition, definitionText(definition));
  return launch(dir, argv, host.networkNamespace);
}

/** A guest that breaks (a triple fault) ends instead of starting anew as if nothing had been. */
function argvOf(
  guest: Pick<GuestPlace, 'accel' | 'preallocates'> & { memoryBytes: number; vcpus: number; image: string },
): string[] {
  const drive = `file=${guest.image.replaceAll(',', ',,')},format=raw,if=ide,snapshot=on`;
  const memory = ['-accel', guest.accel, '-m', String(guest.memoryBytes / MIB), '-smp', String(guest.vcpus)];
  if (guest.preallocates) memory.push('-mem-prealloc');
  return [...memory, '-nodefaults', '-display', 'none', '-no-reboot', '-drive', drive];
}

async function launch(dir: VmDir, argv: readonly string[], networkNamespace: string | null): Promise<RunningGuest> {
  const socket = (path: string): string => `unix:${path.replaceAll(',', ',,')},server=on,wait=off`;
  const ours = ['-qmp', socket(dir.monitor), '-qmp', socket(dir.spare), '-pidfile', dir.pid];
  const started = await startProcess({
    binary: QEMU,
    argv: [...argv, ...ours],
    cwd: dir.path,
    logPath: dir.log,
    networkNamespace,
  });
  return { dir, ...started };
}

/** Until it has filled its memory. Throws `labUnfit` with QEMU's words when it ends or takes too long. */
export async function booted(guest: RunningGuest, limitMs: number, signal: AbortSignal): Promise<void> {
  const { dir } = guest;
  for (const since = performance.now(); ; await abortableSleep(LOOK_MS, signal)) {
    signal.throwIfAborted();
    const how = guest.exit();
    if (how !== null) throw new HostevacError('labUnfit', `QEMU ended (${how}) before its guest ran: ${tail(dir.log)}`);
    if (await hasBooted(dir)) return;
    if (performance.now() - since > limitMs) {
      throw new HostevacError(
        'labUnfit',
        `${dir.path}: the guest has not booted in ${limitMs / 1_000} s: ${tail(dir.log)}`,
      );
    }
  }
}

export function bootedInTime(guest: RunningGuest, signal: AbortSignal): Promise<void> {
  return booted(guest, BOOT_LIMIT_MS, signal);
}

async function hasBooted(dir: VmDir): Promise<boolean> {
  try {
    return await withMonitor(dir, async (qmp) => (await readState(qmp)).booted);
  } catch (error) {
    // Its socket is not there yet, or it is on its way down: its end is seen by its caller.
    if (error instanceof HostevacError && error.code === 'hostUnreachable') return false;
    throw error;
  }
}

/** Over the spare monitor: the other one may be a worker's. */
export async function withMonitor<T>(dir: VmDir, work: (qmp: Qmp) => Promise<T>): Promise<T> {
  const qmp = await connectQmp(dir.spare);
  try {
    return await work(qmp);
  } finally {
    qmp.close();
  }
}
