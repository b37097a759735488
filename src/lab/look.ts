/** `lab status`: every copy of every guest, where it is, what it does, how fast it gets on, and whether its memory is whole. */
import { z } from 'zod';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { reasonOf } from '../domain/errors.ts';
import { statusAnswer } from '../hypervisors/qemu/answers.ts';
import type { Qmp } from '../hypervisors/qemu/qmp/qmp.ts';
import { nameOf, scan } from '../hypervisors/qemu/run-dir.ts';
import { isUnderWay } from '../hypervisors/qemu/translate.ts';
import type { VmDir } from '../hypervisors/qemu/vm-dir.ts';
import { isDeadHere } from '../runtime/process-identity.ts';
import { checkMemory, type MemoryReport, readState } from './guest/inspect.ts';
import { PAGE_BYTES } from './guest/layout.ts';
import { withMonitor } from './guests.ts';
import { type LabManifest, readManifest } from './manifest.ts';

/** Long enough for several ticks of the slowest profile. */
const RATE_WINDOW_MS = 1_000;

/** A QEMU process, or the place of one: there are two of a guest while it migrates. */
export interface CopyStatus {
  readonly guest: string;
  readonly profile: string;
  readonly host: string;
  /** QEMU's word (`running`, `paused`, `inmigrate`, `postmigrate`), or `unreachable`. */
  readonly state: string;
  /** Writes since its boot; null where it cannot be asked. */
  readonly progress: number | null;
  /** Bytes of pages written per second, counting every write. */
  readonly rateBytesPerSec: number | null;
  /** Null: not asked for, or `unchecked` says why not. */
  readonly memory: MemoryReport | null;
  readonly unchecked: string | null;
  /** Why it is unreachable. */
  readonly fault: string | null;
}

export interface LabStatus {
  readonly manifest: LabManifest;
  readonly serving: boolean;
  readonly copies: readonly CopyStatus[];
  /** Guests of which there is no running copy, or more than one. */
  readonly missing: readonly string[];
  readonly doubled: readonly string[];
}

/** Null: no lab. Throws what aborted the signal. */
export async function labStatus(
  stateDir: string,
  options: {
    readonly check: boolean;
    /** Ends it between two guests: one that has been stopped to be checked goes on first. */
    readonly signal: AbortSignal;
  },
): Promise<LabStatus | null> {
  const manifest = readManifest(stateDir);
  if (manifest === null) return null;
  const places = manifest.hosts.flatMap((host) =>
    scanned(host.runDir).map((entry) => ({ host: host.name, runDir: host.runDir, ...entry })),
  );
  const seen = await Promise.all(
    places.map(async ({ host, runDir, guest, dir }) => {
      const profile = manifest.guests.find(({ name }) => name === guest)?.profile ?? '';
      return { runDir, dir, copy: await copyStatus({ guest, profile, host }, dir) };
    }),
  );
  const copies: CopyStatus[] = [];
  // One after the other, and when all have been timed: reading a guest's memory takes the CPU that the others run on.
  for (const { runDir, dir, copy } of seen) {
    options.signal.throwIfAborted();
    copies.push(options.check ? await checked(copy, dir, runDir) : copy);
  }
  options.signal.throwIfAborted();
  const running = (name: string): number =>
    copies.filter(({ guest, state }) => guest === name && state === 'running').length;
  return {
    manifest,
    serving: manifest.up !== null && !isDeadHere(manifest.up.process),
    copies,
    missing: manifest.guests.filter(({ name }) => running(name) === 0).map(({ name }) => name),
    doubled: manifest.guests.filter(({ name }) => running(name) > 1).map(({ name }) => name),
  };
}

function scanned(runDir: string): { guest: string; dir: VmDir }[] {
  return scan(runDir).flatMap((entry) =>
    entry.kind === 'unreadable' ? [] : [{ guest: nameOf(entry), dir: entry.dir }],
  );
}

/** States in which the guest's memory is its own: elsewhere it comes or has gone. */
const HAS_MEMORY = ['running', 'paused'];

type Named = Pick<CopyStatus, 'guest' | 'profile' | 'host'>;

async function copyStatus(named: Named, dir: VmDir): Promise<CopyStatus> {
  const nothing = { progress: null, rateBytesPerSec: null, memory: null, unchecked: null, fault: null };
  try {
    const { status } = await withMonitor(dir, (qmp) => qmp.execute('query-status', statusAnswer));
    if (!HAS_MEMORY.includes(status)) return { ...named, ...nothing, state: status };
    const before = await moment(dir);
    // Between the two the monitor is free for others.
    await abortableSleep(RATE_WINDOW_MS);
    const after = await moment(dir);
    const rateBytesPerSec = ((after.progress - before.progress) * PAGE_BYTES * 1_000) / (after.atMs - before.atMs);
    return {
      ...named,
      ...nothing,
      state: status,
      progress: after.progress,
      rateBytesPerSec: Math.round(rateBytesPerSec),
    };
  } catch (error) {
    return { ...named, ...nothing, state: 'unreachable', fault: reasonOf(error).message };
  }
}

async function checked(copy: CopyStatus, dir: VmDir, scratch: string): Promise<CopyStatus> {
  if (!HAS_MEMORY.includes(copy.state)) return copy;
  try {
    return { ...copy, ...(await withMonitor(dir, (qmp) => check(qmp, scratch))) };
  } catch (error) {
    return { ...copy, state: 'unreachable', fault: reasonOf(error).message };
  }
}

async function moment(dir: VmDir): Promise<{ progress: number; atMs: number }> {
  return withMonitor(dir, async (qmp) => ({ progress: (await readState(qmp)).progress, atMs: performance.now() }));
}

const migrationSchema = z.looseObject({ status: z.string().optional() });

async function check(qmp: Qmp, scratch: string): Promise<Pick<CopyStatus, 'memory' | 'unchecked'>> {
  const { status } = await qmp.execute('query-migrate', migrationSchema);
  if (isUnderWay(status)) {
    return { memory: null, unchecked: 'it is being migrated: stopping it to read its memory would harm that' };
  }
  return { memory: await checkMemory(qmp, scratch), unchecked: null };
}
