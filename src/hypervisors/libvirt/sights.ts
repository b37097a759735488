/**
 * What one libvirtd says of one VM: its state, the job that it has, and whose that is. Everything else here that looks at
 * a VM looks through this.
 */
import type { OutgoingMigration, OutgoingStatus, Sighting, VmRunState } from '../hypervisor.ts';
import { type DomainStats, domainList, domainStats, type JobStats, jobStats } from './answers.ts';
import type { LibvirtHost } from './host.ts';
import { isOf, type MigrationRecord, RECORD_URI, recordIn } from './record.ts';
import { askAll, isNoDomain, refused, told, uuidWord } from './virsh.ts';

export interface Seen {
  readonly uuid: string;
  readonly stats: DomainStats;
  readonly job: JobStats | null;
  /** As it stands in the metadata, whether or not it is of the job. */
  readonly record: MigrationRecord | null;
}

/** null: libvirtd has no VM of that name. Throws `hostUnreachable`. */
export async function see(host: LibvirtHost, vm: string): Promise<Seen | null> {
  const uuid = await uuidAt(host, vm);
  return uuid === null ? null : seeUuid(host, uuid);
}

export async function uuidAt(host: LibvirtHost, vm: string): Promise<string | null> {
  return domainList(await told(host, ['list', '--all', '--uuid', '--name'])).get(vm) ?? null;
}

/** null: it has gone. */
export async function seeUuid(host: LibvirtHost, uuid: string): Promise<Seen | null> {
  const word = uuidWord(uuid);
  const { outs, words } = await askAll(host, [
    `domstats --raw --nowait --state --balloon --vcpu ${word}`,
    `domjobinfo ${word} --rawstats`,
    `metadata ${word} --uri ${RECORD_URI}`,
  ]);
  const [stats] = [...domainStats(outs[0] ?? '').values()];
  if (stats === undefined) {
    if (isNoDomain(words)) return null;
    throw refused(host, words);
  }
  // Without one: it does not run, or it is its destination, where libvirt has no figures.
  return { uuid, stats, job: jobStats(outs[1] ?? ''), record: recordIn(outs[2] ?? '') };
}

/** Of the migration that leaves now; null: none does. */
export function statusOf({ stats, job }: Seen): OutgoingStatus | null {
  if (job?.kind !== 'outgoing') return null;
  // Its source's QEMU is told to end when all has been sent.
  if (stats.state === 'inShutdown' || stats.state === 'shutOff') return 'completed';
  if (stats.postCopy === 'active') return 'postCopy';
  if (stats.postCopy === 'broken') return 'postCopyPaused';
  if (stats.pausedByMigration) return 'switchover';
  return job.processedBytes === 0 ? 'setup' : 'active';
}

/** The record, if it is that of the job that runs. */
export function recordOf({ job, record }: Seen, nowMs: number): MigrationRecord | null {
  return job?.kind === 'outgoing' && record !== null && isOf(record, nowMs, job.elapsedMs) ? record : null;
}

export function sighted(seen: Seen | null, nowMs: number): Sighting {
  if (seen === null) return { present: false };
  const outgoing = outgoingOf(seen, nowMs);
  return {
    present: true,
    uuid: seen.uuid,
    state: runStateOf(seen.stats, seen.job),
    arriving: isArriving(seen),
    outgoing,
  };
}

function outgoingOf(seen: Seen, nowMs: number): OutgoingMigration | null {
  const status = statusOf(seen);
  if (status === null) return null;
  const record = recordOf(seen, nowMs);
  return { status, destination: record?.destination ?? null, migrationId: record?.migrationId ?? null };
}

/** In post-copy its source is paused for that, its destination runs for it. */
function isArriving({ stats }: Seen): boolean {
  return stats.state === 'running' && stats.postCopy !== 'no';
}

export function runStateOf(stats: DomainStats, job: JobStats | null): VmRunState {
  switch (stats.state) {
    case 'running':
      return 'running';
    case 'paused':
      if (stats.postCopy !== 'no') return 'postMigrate';
      if (!stats.pausedByMigration) return 'paused';
      // Its source waits at the end of it, with the job; its destination until then, with no job that may be asked about.
      return job?.kind === 'outgoing' ? 'postMigrate' : 'incoming';
    case 'suspended':
    case 'crashed':
    case 'unknown':
      return 'paused';
    // Its guest is off, and its process about to end.
    case 'inShutdown':
    case 'shutOff':
      return 'shutOff';
  }
}
