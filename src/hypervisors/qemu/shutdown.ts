/**
 * Asking a guest to shut down: QMP's `system_powerdown` presses its ACPI power button. QEMU ends by itself when the guest
 * is off (or, with `-no-shutdown`, stands there and says `shutdown`), and what is left of the directory is a VM that is shut
 * off: hostevac starts none.
 */
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { anyAnswer } from './answers.ts';
import { keep } from './definition.ts';
import type { DestinationParts } from './destination.ts';
import type { QemuHost } from './host.ts';
import { mismatch } from './identity.ts';
import { type OutgoingParts, oursAt } from './outgoing.ts';
import type { VmEntry } from './run-dir.ts';
import { copyStateOf, isArriving, isInFlight } from './translate.ts';

/** Returns when it has been asked. Throws `hypervisorRefused` where it cannot be; harmless when it is off. */
export async function shutDown(
  parts: OutgoingParts & DestinationParts,
  fence: Fence,
  host: QemuHost,
  entry: VmEntry,
): Promise<void> {
  const { dir, definition } = entry;
  const vm = definition.name;
  fence.assertHeld();
  const { qemu, seen } = await oursAt(parts, host.name, entry);
  if (qemu === null) return;
  const state = copyStateOf(qemu.runState, qemu.migration);
  if (state === 'shutOff') return;
  if (state !== 'running')
    throw refused(`${vm} is ${qemu.runState} at ${host.name}: its guest cannot hear a power button`);
  if (isArriving(qemu.runState, qemu.migration)) throw refused(`${vm} arrives at ${host.name} in post-copy`);
  if (seen !== null && isInFlight(seen.status)) throw refused(`${vm} is being migrated from ${host.name}`);
  const other = mismatch(entry, qemu);
  if (other !== null) throw refused(`${vm} at ${host.name}: ${other}`);
  // A definition that is not kept yet would be taken for that of a copy which never arrived, once its QEMU has ended.
  if (!entry.kept) await keep(parts, parts.hostNamed, fence, host, vm);
  await parts.monitors.drive(fence, dir, vm, (send) => send('system_powerdown', anyAnswer));
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
