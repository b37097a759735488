/** Every copy of the lab's guests, in run directories or under libvirt, and how each is asked about itself. */
import { nameOf, scan } from '../hypervisors/qemu/run-dir.ts';
import type { Monitor } from './guest/inspect.ts';
import { withMonitor } from './guests.ts';
import { domainsOf } from './libvirt/look.ts';
import type { LabManifest } from './manifest.ts';
import type { LabHost } from './plan.ts';

export interface Copy {
  readonly guest: string;
  readonly host: string;
  /** A directory that QEMU may write to, too. */
  readonly scratch: string;
  /** Its state, where only that can be known of it now; null: it can be asked. */
  readonly told: string | null;
  ask<T>(work: (monitor: Monitor) => Promise<T>): Promise<T>;
}

/** A host whose daemon does not answer: what runs on it is not known. */
export interface SilentHost {
  readonly host: string;
  readonly fault: string;
}

export async function copiesOf({
  driver,
  hosts,
}: LabManifest): Promise<{ copies: readonly Copy[]; silent: readonly SilentHost[] }> {
  if (driver === 'libvirt') return domainsOf(hosts);
  return { copies: hosts.flatMap(inRunDir), silent: [] };
}

function inRunDir({ name, runDir }: LabHost): Copy[] {
  return scan(runDir).flatMap((entry) => {
    if (entry.kind === 'unreadable') return [];
    const { dir } = entry;
    return [{ guest: nameOf(entry), host: name, scratch: runDir, told: null, ask: (work) => withMonitor(dir, work) }];
  });
}
