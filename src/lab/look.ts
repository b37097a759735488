/** `lab status`: every copy of every guest, where it is, what it does, how fast it gets on, and whether its memory is whole. */
import { z } from 'zod';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { reasonOf } from '../domain/errors.ts';
import { statusAnswer } from '../hypervisors/qemu/answers.ts';
import { isUnderWay } from '../hypervisors/qemu/translate.ts';
import { isDeadHere } from '../runtime/process-identity.ts';
import { type Copy, copiesOf, type SilentHost } from './copies.ts';
import { checkMemory, type MemoryReport, type Monitor, readState } from './guest/inspect.ts';
import { PAGE_BYTES } from './guest/layout.ts';
import { type LabManifest, readManifest } from './manifest.ts';

/** Long enough for several ticks of the slowest profile. */
const RATE_WINDOW_MS = 1_000;

/** A QEMU process, or the place of one, or a libvirt domain: there are two of a guest while it migrates. */
export interface CopyStatus {
  readonly guest: string;
  readonly profile: string;
  readonly host: string;
  /** QEMU's word (`running`, `paused`, `inmigrate`, `postmigrate`), or libvirt's (`shut off`), or `unreachable`. */
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
  readonly silent: readonly SilentHost[];
  /** Guests of which no running copy was seen, or more than one. */
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
  const { copies: found, silent } = await copiesOf(manifest);
  const seen = await Promise.all(
    found.map(async (copy) => {
      const profile = manifest.guests.find(({ name }) => name === copy.guest)?.profile ?? '';
      return { copy, status: await copyStatus(copy, profile) };
    }),
  );
  const copies: CopyStatus[] = [];
  // One after the other, and when all have been timed: reading a guest's memory takes the CPU that the others run on.
  for (const { copy, status } of seen) {
    options.signal.throwIfAborted();
    copies.push(options.check ? await checked(status, copy) : status);
  }
  options.signal.throwIfAborted();
  const running = (name: string): number =>
    copies.filter(({ guest, state }) => guest === name && state === 'running').length;
  return {
    manifest,
    serving: manifest.up !== null && !isDeadHere(manifest.up.process),
    copies,
    silent,
    missing: manifest.guests.filter(({ name }) => running(name) === 0).map(({ name }) => name),
    doubled: manifest.guests.filter(({ name }) => running(name) > 1).map(({ name }) => name),
  };
}

/** States in which the guest's memory is its own: elsewhere it comes or has gone. */
const HAS_MEMORY = ['running', 'paused'];

async function copyStatus(copy: Copy, profile: string): Promise<CopyStatus> {
  const { guest, host, told } = copy;
  const nothing = { progress: null, rateBytesPerSec: null, memory: null, unchecked: null, fault: null };
  const named = { guest, profile, host, ...nothing };
  if (told !== null) {
    return { ...named, state: told, unchecked: told === 'running' ? 'it cannot be asked while it is migrated' : null };
  }
  try {
    const { status } = await copy.ask((monitor) => monitor.execute('query-status', statusAnswer));
    if (!HAS_MEMORY.includes(status)) return { ...named, state: status };
    const before = await moment(copy);
    // Between the two the monitor is free for others.
    await abortableSleep(RATE_WINDOW_MS);
    const after = await moment(copy);
    const rateBytesPerSec = ((after.progress - before.progress) * PAGE_BYTES * 1_000) / (after.atMs - before.atMs);
    return { ...named, state: status, progress: after.progress, rateBytesPerSec: Math.round(rateBytesPerSec) };
  } catch (error) {
    return { ...named, state: 'unreachable', fault: reasonOf(error).message };
  }
}

async function checked(status: CopyStatus, copy: Copy): Promise<CopyStatus> {
  if (copy.told !== null || !HAS_MEMORY.includes(status.state)) return status;
  try {
    return { ...status, ...(await copy.ask((monitor) => check(monitor, copy.scratch))) };
  } catch (error) {
    return { ...status, state: 'unreachable', fault: reasonOf(error).message };
  }
}

async function moment(copy: Copy): Promise<{ progress: number; atMs: number }> {
  return copy.ask(async (monitor) => ({ progress: (await readState(monitor)).progress, atMs: performance.now() }));
}

const migrationSchema = z.looseObject({ status: z.string().optional() });

async function check(monitor: Monitor, scratch: string): Promise<Pick<CopyStatus, 'memory' | 'unchecked'>> {
  const { status } = await monitor.execute('query-migrate', migrationSchema);
  if (isUnderWay(status)) {
    return { memory: null, unchecked: 'it is being migrated: stopping it to read its memory would harm that' };
  }
  return { memory: await checkMemory(monitor, scratch), unchecked: null };
}
