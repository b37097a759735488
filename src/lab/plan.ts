/** What a lab consists of before any of it runs: its hosts, its guests, what a host can carry, and its fleet file. Pure. */
import { randomUUID } from 'node:crypto';
import { stringify } from 'yaml';
import { libvirtPeerUri, libvirtUri } from './libvirt/config.ts';
import type { ProfileName } from './profiles.ts';
import { profileNamed } from './profiles.ts';

/** What runs the guests: QEMU alone, or a libvirt daemon for each host. */
export const LAB_DRIVERS = ['qemu', 'libvirt'] as const;
export type LabDriver = (typeof LAB_DRIVERS)[number];

export interface LabOptions {
  /** Default: qemu. */
  readonly driver?: LabDriver;
  readonly hosts: number;
  readonly guests: number;
  /** Taken in turn, one for each guest. */
  readonly profiles: readonly ProfileName[];
  readonly egressBytesPerSec: number;
  /** Each host in a network namespace of its own; libvirt hosts always are. */
  readonly network: boolean;
  /** Guests on all hosts in turn instead of all on the first. */
  readonly spread: boolean;
}

export interface LabHost {
  readonly name: string;
  /** Of libvirt: where its daemon's directories are. */
  readonly runDir: string;
  readonly migrationAddress: string;
  readonly ports: { readonly first: number; readonly last: number };
  readonly networkNamespace: string | null;
}

export interface LabGuest {
  readonly name: string;
  readonly uuid: string;
  readonly profile: ProfileName;
  /** Where it is started. */
  readonly host: string;
}

export interface LabPlan {
  readonly driver: LabDriver;
  readonly id: string;
  readonly hosts: readonly LabHost[];
  readonly guests: readonly LabGuest[];
}

/** Hosts have letters, and every one a share of the ports that libvirt uses, too. */
export const MOST_HOSTS = 8;
export const MOST_GUESTS = 32;
const FIRST_PORT = 49_152;
const PORTS_EACH = 64;
const GIB = 2 ** 30;

/** `id` is in the names that all labs of a machine share: network namespaces, and the fleet's. */
export function planLab(options: LabOptions, place: string, id: string): LabPlan {
  const { driver = 'qemu' } = options;
  const network = options.network || driver === 'libvirt';
  const hosts = Array.from({ length: options.hosts }, (_, index): LabHost => {
    const letter = String.fromCharCode('a'.charCodeAt(0) + index);
    const first = FIRST_PORT + index * PORTS_EACH;
    return {
      name: `lab-${letter}`,
      runDir: `${place}/lab-${letter}`,
      migrationAddress: network ? `10.213.0.${index + 1}` : '127.0.0.1',
      ports: { first, last: first + PORTS_EACH - 1 },
      networkNamespace: network ? `hevlab-${id}-${letter}` : null,
    };
  });
  const counts = new Map<string, number>();
  const guests = Array.from({ length: options.guests }, (_, index): LabGuest => {
    const profile = options.profiles[index % options.profiles.length] ?? 'idle';
    const count = (counts.get(profile) ?? 0) + 1;
    counts.set(profile, count);
    const host = hosts[options.spread ? index % hosts.length : 0]?.name ?? '';
    return { name: `${profile}-${count}`, uuid: randomUUID(), profile, host };
  });
  return { driver, id, hosts, guests };
}

/** Every host can carry all guests at once, so that each can be emptied onto any other. */
export function fleetText(plan: LabPlan, egressBytesPerSec: number): string {
  const needed = plan.guests.reduce((sum, guest) => sum + profileNamed(guest.profile).memoryBytes, 0);
  const vcpus = plan.guests.reduce((sum, guest) => sum + profileNamed(guest.profile).vcpus, 0);
  const fleet = {
    name: `lab-${plan.id}`,
    hosts: plan.hosts.map((host) => ({
      name: host.name,
      driver: plan.driver,
      ...(plan.driver === 'libvirt' ? { libvirt: libvirtSettings(host) } : { qemu: qemuSettings(host) }),
      migrationAddress: host.migrationAddress,
      egress: exactRate(egressBytesPerSec),
      ingress: exactRate(egressBytesPerSec),
      cpus: Math.max(4, vcpus),
      memory: `${Math.max(1, Math.ceil((needed * 1.25) / GIB))}GiB`,
    })),
  };
  return stringify(fleet);
}

function qemuSettings({ runDir, ports, networkNamespace }: LabHost): object {
  return { runDir, ports: `${ports.first}-${ports.last}`, ...(networkNamespace === null ? {} : { networkNamespace }) };
}

function libvirtSettings(host: LabHost): object {
  const { networkNamespace } = host;
  return {
    uri: libvirtUri(host),
    peerUri: libvirtPeerUri(host),
    ...(networkNamespace === null ? {} : { networkNamespace }),
  };
}

/** `formatRate` rounds; a fleet file says what was asked for. */
function exactRate(bytesPerSec: number): string {
  const mib = bytesPerSec / 2 ** 20;
  return Number.isInteger(mib) ? `${mib}MiB/s` : `${bytesPerSec}B/s`;
}
