/**
 * The waiting copy at a destination: started with everything its source was started with, told where to listen, and
 * ended again if it never ran. Its definition stands as `incoming.json`, so that a reboot in the middle starts no second VM.
 */
import { mkdirSync } from 'node:fs';
import type { Logger } from 'pino';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { anyAnswer, migrateAnswer } from './answers.ts';
import { writeDurably } from './durable-file.ts';
import { type Answered, type Examiner, isThere } from './examine.ts';
import type { Features } from './features.ts';
import type { QemuHost } from './host.ts';
import { mismatch } from './identity.ts';
import type { Monitors, Send } from './monitors.ts';
import {
  killNeverRun,
  type ProcessId,
  SILENT,
  type StartedProcess,
  startProcess,
  tail,
  waitUntilGone,
  workingDirectoryOf,
} from './process.ts';
import { find, scan, type VmEntry } from './run-dir.ts';
import { assertMayDrive } from './token-file.ts';
import { migrationUri } from './translate.ts';
import { newVmDir, removeVmDir, type VmDir } from './vm-dir.ts';
import { definitionText, ensureUuid, type Incoming } from './vm-file.ts';

/** A guest with much memory and many devices takes a while to build; nothing waits for it but this move. */
const START_LIMIT_MS = 30_000;
const START_LOOK_MS = 20;
/** Between `quit` and SIGKILL, for a copy that never ran. */
const QUIT_MS = 3_000;
const KILL_MS = 5_000;

export interface DestinationParts {
  readonly monitors: Monitors;
  readonly examiner: Examiner;
  readonly log: Logger;
}

export interface Arrival {
  readonly vm: string;
  readonly source: QemuHost;
  readonly destination: QemuHost;
  readonly migrationId: string;
  /** It may be switched to post-copy. */
  readonly postCopy: boolean;
}

/** Doing it twice is harmless; a copy that waits for another migration is ended first. */
export async function prepare(parts: DestinationParts, fence: Fence, arrival: Arrival): Promise<void> {
  const { vm, source, destination, migrationId } = arrival;
  fence.assertHeld();
  const there = find(destination.runDir, vm);
  if (there?.kind === 'faulty' || there?.kept === true) {
    throw refused(
      `${destination.name} has a VM named ${vm} already, in ${there.dir.path}; rename or remove one of the two`,
    );
  }
  if (there !== undefined) {
    const waiting = await parts.examiner.answered(there.dir, vm);
    if (waiting?.runState === 'inmigrate' && there.definition.incoming?.migrationId === migrationId) {
      if (there.definition.incoming.port !== null) return;
    }
    await discard(parts, fence, destination, vm);
  }
  const definition = await definitionAtSource(parts, source, vm);
  await refuseWithoutMemory(parts, destination, vm, definition.memoryBytes);

  const dir = newVmDir(destination.runDir, vm);
  if (await isThere(dir)) throw refused(`${dir.path} is not ${vm}'s and something runs in it; end or move it`);
  // What an earlier attempt left without a definition.
  removeVmDir(dir, parts.log);
  fence.assertHeld();
  mkdirSync(dir.path, { mode: 0o700, recursive: true });
  let started: StartedProcess | undefined;
  try {
    const note = (port: number | null): void => {
      const incoming: Incoming = { migrationId, source: source.name, port, of: definition.of };
      writeDurably(dir.incoming, definitionText({ ...definition.raw, incoming }));
    };
    note(null);
    assertMayDrive(fence, dir, vm);
    started = await startProcess({
      binary: definition.binary,
      argv: argvOf(definition.argv, dir),
      cwd: definition.cwd,
      logPath: dir.log,
      networkNamespace: destination.networkNamespace,
    });
    const qemu = await comeUp(parts, dir, vm, started);
    note(await listen(parts, fence, arrival, dir, qemu, definition.sourceFeatures));
  } catch (error) {
    // Whoever holds the lease now finds this copy and ends it; its directory may be another copy's by now.
    if (error instanceof HostevacError && error.code === 'leaseLost') throw error;
    // Nothing half-made stays behind. The process is our own child and its CPUs have never run.
    if (started !== undefined) await killNeverRun(started.process, KILL_MS);
    removeVmDir(dir, parts.log);
    throw error;
  }
}

interface Complete {
  readonly sourceFeatures: Features;
  readonly memoryBytes: number;
  readonly argv: readonly string[];
  readonly binary: string;
  readonly cwd: string;
  readonly raw: Readonly<Record<string, unknown>>;
  /** Whose definition it is. */
  readonly of: Incoming['of'];
}

/** With the uuid and the working directory stated: relative paths in `argv` mean the same at the destination. */
async function definitionAtSource({ examiner }: DestinationParts, source: QemuHost, vm: string): Promise<Complete> {
  const entry = find(source.runDir, vm);
  if (entry === undefined) throw refused(`${vm} is not at ${source.name}`);
  if (entry.kind === 'faulty') throw refused(`${vm}: ${entry.fault}`);
  const qemu = await examiner.answered(entry.dir, vm);
  if (qemu === null) throw refused(`${vm} does not run at ${source.name}`);
  const wrong = mismatch(entry, qemu) ?? qemu.features.refusal;
  if (wrong !== null) throw refused(`${vm}: ${wrong}`);
  const { definition, dir } = entry;
  const uuid = definition.uuid ?? (await ensureUuid(dir, entry.kept ? dir.definition : dir.incoming, qemu.uuid));
  const cwd = definition.cwd ?? workingDirectoryOf(qemu.process.pid) ?? '/';
  return {
    ...definition,
    cwd,
    raw: { ...definition.raw, uuid, cwd },
    sourceFeatures: qemu.features,
    of: { pid: qemu.process.pid, startTicks: qemu.process.startTicks },
  };
}

async function refuseWithoutMemory(
  { examiner }: DestinationParts,
  destination: QemuHost,
  vm: string,
  needed: number,
): Promise<void> {
  const others = scan(destination.runDir).flatMap((entry) => (entry.kind === 'vm' ? [entry] : []));
  const used = await Promise.all(
    others.map(async ({ dir, definition }) =>
      (await examiner.examine(dir)).kind === 'off' ? 0 : definition.memoryBytes,
    ),
  );
  const free = destination.memoryBytes - used.reduce((sum, bytes) => sum + bytes, 0);
  if (needed > free) {
    throw refused(
      `${destination.name} has ${Math.max(0, free)} bytes of memory left for VMs and ${vm} needs ${needed}`,
    );
  }
}

/**
 * The source's arguments and ours. `-S` is left out: whether the guest runs or is paused comes with the migration, and
 * with it a running guest would arrive paused.
 */
function argvOf(argv: readonly string[], dir: VmDir): string[] {
  const socket = (path: string): string => `unix:${path.replaceAll(',', ',,')},server=on,wait=off`;
  const ours = ['-qmp', socket(dir.monitor), '-qmp', socket(dir.spare), '-pidfile', dir.pid, '-incoming', 'defer'];
  return [...argv.filter((text) => text !== '-S' && text !== '--S'), ...ours];
}

/** Waits until its monitor answers. Throws `hypervisorRefused` with QEMU's words when it ends instead. */
async function comeUp(
  { examiner }: DestinationParts,
  dir: VmDir,
  vm: string,
  started: StartedProcess,
): Promise<Answered> {
  for (const since = performance.now(); ; await abortableSleep(START_LOOK_MS)) {
    const how = started.exit();
    if (how !== null) throw refused(`the copy of ${vm} could not be started (${how}): ${tail(dir.log) ?? SILENT}`);
    const examined = await examiner.examine(dir);
    if (examined.kind === 'answers') return examined;
    if (performance.now() - since > START_LIMIT_MS) {
      throw refused(`the copy of ${vm} did not come up within ${START_LIMIT_MS / 1_000}s: ${tail(dir.log) ?? SILENT}`);
    }
  }
}

/** Lets it listen on the first free port of the host's range, which it chooses itself; the port. */
async function listen(
  { monitors }: DestinationParts,
  fence: Fence,
  { vm, destination, postCopy }: Arrival,
  dir: VmDir,
  { features }: Answered,
  source: Features,
): Promise<number> {
  if (features.refusal !== null) throw refused(`${vm}: ${features.refusal}`);
  if (postCopy && !features.has.postcopy) {
    throw refused(`${vm} cannot be switched to post-copy: the QEMU of ${destination.name} has none; upgrade it`);
  }
  const { first, last } = destination.ports;
  const uri = migrationUri(destination.migrationAddress, first, features.has.portSearch ? last : first);
  return monitors.drive(fence, dir, vm, async (send, qmp) => {
    const capabilities = [
      ...(features.has.events ? [{ capability: 'events', state: true }] : []),
      ...(features.has.returnPath ? [{ capability: 'return-path', state: true }] : []),
    ];
    await send('migrate-set-capabilities', anyAnswer, { capabilities });
    if (postCopy)
      await readyForPostCopy(send, destination, vm, features.has.postcopyPreempt && source.has.postcopyPreempt);
    try {
      await send('migrate-incoming', anyAnswer, { uri });
    } catch (error) {
      const words = reasonOf(error).message;
      if (!/address already in use/i.test(words)) throw error;
      throw refused(`${destination.name}: every port of ${first}-${last} is taken; widen the host's ports: ${words}`);
    }
    const { 'socket-address': addresses = [] } = await qmp.execute('query-migrate', migrateAnswer);
    return Number(addresses.find(({ type }) => type === 'inet')?.port ?? first);
  });
}

/** QEMU asks the kernel whether it may catch accesses to pages that are not there yet; before it listens, or never. */
async function readyForPostCopy(send: Send, destination: QemuHost, vm: string, preempt: boolean): Promise<void> {
  const capabilities = ['postcopy-ram', ...(preempt ? ['postcopy-preempt'] : [])];
  try {
    await send('migrate-set-capabilities', anyAnswer, {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    });
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hypervisorRefused') throw error;
    const grant = /userfaultfd/i.test(error.message)
      ? '; let QEMU there use userfaultfd (run it as root, or set vm.unprivileged_userfaultfd=1, or grant its user /dev/userfaultfd) or choose something else than post-copy at the deadline'
      : '';
    throw refused(`${destination.name} cannot take ${vm} in post-copy: ${error.message}${grant}`);
  }
}

/** Ends a copy whose CPUs never ran. Throws `hypervisorRefused` for any other; harmless when there is none. */
export async function discard(parts: DestinationParts, fence: Fence, destination: QemuHost, vm: string): Promise<void> {
  fence.assertHeld();
  const entry = find(destination.runDir, vm);
  if (entry === undefined) return;
  if (entry.kind === 'faulty') throw refused(`${vm} at ${destination.name}: ${entry.fault}`);
  const qemu = await parts.examiner.answered(entry.dir, vm);
  if (entry.kept || (qemu !== null && qemu.runState !== 'inmigrate')) {
    const state = qemu === null ? 'is defined' : `is ${qemu.runState}`;
    throw refused(`${vm} ${state} at ${destination.name}; only a copy that waits for its migration is discarded`);
  }
  if (qemu !== null) await endNeverRun(parts, fence, entry, qemu.process);
  fence.assertHeld();
  removeVmDir(entry.dir, parts.log);
}

async function endNeverRun(
  { monitors, examiner }: DestinationParts,
  fence: Fence,
  { dir, definition }: VmEntry,
  process: ProcessId,
): Promise<void> {
  let answered = true;
  try {
    await monitors.drive(fence, dir, definition.name, (send) => send('quit', anyAnswer));
  } catch (error) {
    // It may be gone before it has answered.
    if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    answered = false;
  }
  if (await waitUntilGone(process, QUIT_MS)) return;
  if (!answered) {
    // Its migration may have arrived since it was seen waiting: then the guest's only running copy is this one.
    const now = await examiner.examine(dir);
    if (now.kind === 'off') return;
    if (now.kind === 'silent' || now.runState !== 'inmigrate') {
      const what = now.kind === 'silent' ? 'does not answer any more' : `is ${now.runState} now`;
      throw refused(
        `process ${process.pid}, a copy of ${definition.name} that waited for its migration, ${what}; it is left alone. If ${definition.name} runs at its source, end this one by hand (kill -9 ${process.pid})`,
      );
    }
  }
  fence.assertHeld();
  if (!(await killNeverRun(process, KILL_MS))) {
    throw refused(
      `process ${process.pid}, a copy of ${definition.name} that never ran, cannot be ended; end it by hand`,
    );
  }
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
