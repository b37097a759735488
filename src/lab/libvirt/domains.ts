/** The lab's guests as domains of its libvirt daemons: defined, started, and waited for. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import { tail } from '../../hypervisors/qemu/process.ts';
import { readState } from '../guest/inspect.ts';
import { BOOT_LIMIT_MS } from '../guests.ts';
import type { LabGuest, LabHost } from '../plan.ts';
import { profileNamed } from '../profiles.ts';
import { libvirtUri } from './config.ts';
import { domainXml } from './domain-xml.ts';
import { monitorOf, virsh } from './virsh.ts';

export interface DomainOptions {
  /** One that libvirt forgets when it ends: default false. */
  readonly transient?: boolean;
  /** Further devices of a guest, as XML. */
  readonly moreDevices?: (guest: LabGuest) => string;
}

export interface DomainPlace {
  readonly host: LabHost;
  readonly image: string;
  readonly accel: 'tcg' | 'kvm';
  readonly preallocates: boolean;
  readonly emulator: string;
  readonly options: DomainOptions;
}

/** Not yet booted. Throws `hypervisorRefused` with libvirt's words. */
export async function startDomain(guest: LabGuest, place: DomainPlace, signal: AbortSignal): Promise<void> {
  const { host, image, accel, preallocates, emulator, options } = place;
  const { memoryBytes, vcpus } = profileNamed(guest.profile);
  const { name, uuid } = guest;
  const moreDevices = options.moreDevices?.(guest) ?? '';
  const file = join(host.runDir, 'domains', `${name}.xml`);
  writeFileSync(file, domainXml({ name, uuid, memoryBytes, preallocates, vcpus, accel, emulator, image, moreDevices }));
  const uri = libvirtUri(host);
  if (options.transient === true) {
    await virsh(uri, ['create', file], { signal });
    return;
  }
  await virsh(uri, ['define', file], { signal });
  await virsh(uri, ['start', `--domain=${name}`], { signal });
}

const LOOK_MS = 50;

/** Until it has filled its memory. Throws `labUnfit` with QEMU's words when it ends or takes too long. */
export async function domainBooted(guest: LabGuest, host: LabHost, signal: AbortSignal): Promise<void> {
  const uri = libvirtUri(host);
  const monitor = monitorOf(uri, guest.name);
  const log = join(host.runDir, 'log', 'qemu', `${guest.name}.log`);
  for (const since = performance.now(); ; await abortableSleep(LOOK_MS, signal)) {
    signal.throwIfAborted();
    if (!(await isActive(uri, guest.name))) {
      throw new HostevacError('labUnfit', `${guest.name} ended on ${host.name} before its guest ran: ${tail(log)}`);
    }
    if ((await readState(monitor)).booted) return;
    if (performance.now() - since > BOOT_LIMIT_MS) {
      throw new HostevacError(
        'labUnfit',
        `${guest.name} on ${host.name} has not booted in ${BOOT_LIMIT_MS / 1_000} s: ${tail(log)}`,
      );
    }
  }
}

async function isActive(uri: string, name: string): Promise<boolean> {
  return (await virsh(uri, ['list', '--name'])).split('\n').includes(name);
}
