/**
 * The two ends of a definition's journey: kept where the VM has arrived, removed where it has left. In this order: first
 * the record at the source says that its migration completed (from then on its `vm.json` is void, a reboot must not start
 * it), then the destination's becomes `vm.json`, then the source's goes. So there is always a definition, never two in force.
 */
import { renameSync } from 'node:fs';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { anyAnswer } from './answers.ts';
import type { DestinationParts } from './destination.ts';
import { syncDirectory } from './durable-file.ts';
import type { HostNamed, QemuHost } from './host.ts';
import { noteEnd, readMigration } from './migration-file.ts';
import { waitUntilGone } from './process.ts';
import { find, type VmEntry } from './run-dir.ts';
import { assertMayDrive } from './token-file.ts';
import { isArriving, outgoingStatusOf, runStateOf } from './translate.ts';
import { removeVmDir } from './vm-dir.ts';

/** QEMU closes its disks and ends; a slow disk takes its time. */
const QUIT_MS = 15_000;

/** Throws `hypervisorRefused` unless the copy has arrived; harmless when done already. */
export async function keep(
  { examiner }: DestinationParts,
  hostNamed: HostNamed,
  fence: Fence,
  destination: QemuHost,
  vm: string,
): Promise<void> {
  fence.assertHeld();
  const entry = find(destination.runDir, vm);
  if (entry === undefined || entry.kind === 'faulty')
    throw refused(`${vm} has no readable definition at ${destination.name}`);
  if (entry.kept) return;
  const qemu = await examiner.answered(entry.dir, vm);
  const state = qemu === null ? 'shutOff' : runStateOf(qemu.runState);
  if (state !== 'running' && state !== 'paused') {
    throw refused(`${vm} is ${state} at ${destination.name}: it has not arrived, so its definition is not kept`);
  }
  if (qemu !== null && isArriving(qemu.runState, qemu.migration)) {
    throw refused(
      `${vm} is in post-copy at ${destination.name}: not all of it has arrived, so its definition is not kept`,
    );
  }
  voidAtSource(hostNamed, entry);
  assertMayDrive(fence, entry.dir, vm);
  renameSync(entry.dir.incoming, entry.dir.definition);
  syncDirectory(entry.dir.path);
}

/** The copy that arrived proves that the migration completed, also where nobody saw the source say so. */
function voidAtSource(hostNamed: HostNamed, { definition }: VmEntry): void {
  const source = definition.incoming === null ? undefined : hostNamed(definition.incoming.source);
  const entry = source === undefined ? undefined : find(source.runDir, definition.name);
  const record = entry === undefined ? undefined : readMigration(entry.dir);
  if (entry === undefined || record?.migrationId !== definition.incoming?.migrationId || record === undefined) return;
  noteEnd(entry.dir, record, 'completed');
}

/**
 * Ends and removes a copy whose memory has gone. Throws `hypervisorRefused` for any other. Where QEMU itself has died
 * meanwhile, our record that its migration completed, or the copy that runs at its destination, must say so.
 */
export async function retire(
  parts: DestinationParts,
  hostNamed: HostNamed,
  fence: Fence,
  source: QemuHost,
  vm: string,
): Promise<void> {
  fence.assertHeld();
  const entry = find(source.runDir, vm);
  if (entry === undefined) return;
  if (entry.kind === 'faulty') throw refused(`${vm} at ${source.name}: ${entry.fault}`);
  const { dir } = entry;
  const qemu = await parts.examiner.answered(dir, vm);
  if (qemu === null) {
    if (!(await hasLeft(parts, hostNamed, entry))) {
      throw refused(`${vm} is shut off at ${source.name} and nothing says that it has moved; its definition is kept`);
    }
  } else {
    const status = outgoingStatusOf(qemu.runState, qemu.migration);
    const gone = runStateOf(qemu.runState) === 'postMigrate' && status === 'completed';
    // A connection that broke at the last byte: its destination has everything, and it was never told.
    const unaware = !gone && status === 'postCopyPaused' && (await hasLeft(parts, hostNamed, entry));
    if (!gone && !unaware) {
      throw refused(`${vm} is ${qemu.runState} at ${source.name}; only a copy whose memory has gone is retired`);
    }
    try {
      await parts.monitors.drive(fence, dir, vm, (send) => send('quit', anyAnswer));
    } catch (error) {
      // It may be gone before it has answered; whether it is, is seen next.
      if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    }
    if (!(await waitUntilGone(qemu.process, QUIT_MS))) {
      throw refused(
        `${vm} has moved, but process ${qemu.process.pid} at ${source.name} did not end within ${QUIT_MS / 1_000}s of \`quit\`; its definition is kept`,
      );
    }
  }
  fence.assertHeld();
  removeVmDir(dir, parts.log);
}

async function hasLeft({ examiner }: DestinationParts, hostNamed: HostNamed, entry: VmEntry): Promise<boolean> {
  const { dir, definition } = entry;
  const record = readMigration(dir);
  if (record === undefined) return false;
  if (record.status === 'completed') return true;
  const destination = hostNamed(record.destination);
  const copy = destination === undefined ? undefined : find(destination.runDir, definition.name);
  if (copy?.kind !== 'vm' || copy.definition.incoming?.migrationId !== record.migrationId) return false;
  const qemu = await examiner.answered(copy.dir, definition.name);
  if (qemu !== null && isArriving(qemu.runState, qemu.migration)) return false;
  const state = qemu === null ? 'shutOff' : runStateOf(qemu.runState);
  return state === 'running' || state === 'paused';
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
