/**
 * Why a host does not take a VM: a closed set of reasons, so that they can be counted over a fleet of any size and
 * shown in a line. (Ganeti's planner does the same with FailMem, FailN1, ...) Not here: the search for a host.
 */
import type { Reason } from '../domain/errors.ts';
import type { FleetRule } from '../domain/fleet.ts';
import { formatShare, formatSize } from '../domain/units.ts';
import { pinOf } from './constraints.ts';
import { byName, type Reserve, type Size } from './snapshot.ts';

export type RefusalKind =
  /** Its state is not known well enough now. */
  | 'unusable'
  | 'cordoned'
  | 'pinned'
  | 'antiAffinity'
  /** A VM of that name is there. */
  | 'present'
  | 'memory'
  | 'cpus'
  | 'memoryAndCpus';

export interface Refusal {
  readonly host: string;
  readonly kind: RefusalKind;
  readonly text: string;
}

/** In the counted part of a message, which cannot name hosts. */
const COUNTED: Readonly<Record<RefusalKind, string>> = {
  unusable: 'unusable now',
  cordoned: 'cordoned',
  pinned: 'excluded by a pin',
  antiAffinity: 'anti-affinity',
  present: 'with a VM of that name',
  memory: 'too little memory',
  cpus: 'too few cpus',
  memoryAndCpus: 'too little memory and cpus',
};

/** More would not be read; the rest is counted. */
const HOSTS_SHOWN = 8;

/** What is missing, or null when it fits. */
export function shortage(need: Size, free: Size): Pick<Refusal, 'kind' | 'text'> | null {
  const memory = need.memoryBytes - free.memoryBytes;
  const cpus = need.cpus - free.cpus;
  if (memory > 0 && cpus > 0) {
    return { kind: 'memoryAndCpus', text: `${formatSize(memory)} of memory and ${cpuCount(cpus)} short` };
  }
  if (memory > 0) return { kind: 'memory', text: `${formatSize(memory)} of memory short` };
  if (cpus > 0) return { kind: 'cpus', text: `${cpuCount(cpus)} short` };
  return null;
}

interface Asked extends Size {
  readonly vm: string;
  readonly source: string;
}

/** Why no host at all takes it: host by host while they are few, counted beyond. */
export function noHostReason(task: Asked, rules: readonly FleetRule[], refusals: readonly Refusal[]): Reason {
  const pin = pinOf(task.vm, rules);
  const elsewhere = pin?.hosts.filter((host) => host !== task.source);
  if (pin !== null && elsewhere?.length === 0) {
    const stays = pin.hosts.includes(task.source) ? `allows only ${task.source}, where it is` : 'keeps it where it is';
    return { code: 'noDestination', message: `${pin.text} ${stays}` };
  }
  // The hosts that a pin excludes are said once, by the rule.
  const told = pin === null ? refusals : refusals.filter(({ host }) => elsewhere?.includes(host));
  const start = pin === null ? 'no host can take it' : `${pin.text} leaves no host that can take it`;
  if (told.length === 0) {
    return { code: 'noDestination', message: `${start}: the fleet has no other host` };
  }
  const sorted = [...told].sort((a, b) => byName(a.host, b.host));
  const shown = sorted.slice(0, HOSTS_SHOWN).map(({ host, text }) => `${host}: ${text}`);
  const rest = sorted.slice(HOSTS_SHOWN);
  if (rest.length > 0) shown.push(`and ${rest.length} more: ${counted(rest)}`);
  return { code: 'noDestination', message: `${start} (needs ${describe(task)}): ${shown.join('; ')}` };
}

function counted(refusals: readonly Refusal[]): string {
  const counts = new Map<RefusalKind, number>();
  for (const { kind } of refusals) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  return [...counts]
    .sort(([a, many], [b, more]) => more - many || byName(a, b))
    .map(([kind, count]) => `${count} ${COUNTED[kind]}`)
    .join(', ');
}

/** Why the one host that was asked for does not take it. */
export function wantedReason(task: Asked, refusal: Refusal, free: Size, reserve: Reserve): Reason {
  const { host, text } = refusal;
  switch (refusal.kind) {
    case 'unusable':
      return { code: 'noDestination', message: `${host} cannot be planned on now: ${text}` };
    case 'cordoned':
      return { code: 'noDestination', message: `${host} is cordoned; uncordon it to move VMs there` };
    case 'pinned':
      return { code: 'noDestination', message: `${text} does not allow ${host}` };
    case 'antiAffinity':
      return { code: 'noDestination', message: `${host} is forbidden by ${text}, which is there` };
    case 'present':
      return { code: 'noDestination', message: `${host}: ${text}` };
    case 'memory':
    case 'cpus':
    case 'memoryAndCpus': {
      const left = { memoryBytes: Math.max(0, free.memoryBytes), cpus: Math.max(0, free.cpus) };
      const message = `needs ${describe(task)}; ${host} has ${describe(left)} free${afterReserve(reserve)}`;
      return { code: 'destinationTooSmall', message };
    }
  }
}

function afterReserve(reserve: Reserve): string {
  const parts: string[] = [];
  if (reserve.memory > 0) parts.push(`${formatShare(reserve.memory)} of its memory`);
  if (reserve.cpus > 0) parts.push(`${formatShare(reserve.cpus)} of its cpus`);
  return parts.length === 0 ? '' : ` after a reserve of ${parts.join(' and ')}`;
}

/** `16GiB and 4 cpus`. */
export function describe(size: Size): string {
  return `${formatSize(size.memoryBytes)} and ${cpuCount(size.cpus)}`;
}

function cpuCount(cpus: number): string {
  const rounded = Math.round(cpus * 100) / 100;
  return `${rounded} ${rounded === 1 ? 'cpu' : 'cpus'}`;
}
