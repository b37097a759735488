/**
 * What one libvirtd says of one VM: its state, the job that it has, and whose that is. Everything else here that looks at
 * a VM looks through this.
 */
import type { OutgoingMigration, OutgoingStatus, Sighting, VmRunState } from '../hypervisor.ts';
import { type DomainStats, domainList, domainStats, type JobStats, jobStats } from './answers.ts';
import type { LibvirtHost } from './host.ts';
import { isOf, type MigrationRecord, RECORD_URI, recordIn } from './record.ts';
import { askAll, isNoDomain, refused, told, unreachable, uuidWord } from './virsh.ts';

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
  // Also where it has gone between two of the commands.
  if (isNoDomain(words)) return null;
  if (stats === undefined) throw refused(host, words);
  const job = jobStats(outs[1] ?? '');
  const strange = wordsLeft(words, job);
  // What could not be told is not to be taken for "none": somebody would end what runs.
  if (strange !== '') throw unreachable(host, strange);
  return { uuid, stats, job, record: recordIn(outs[2] ?? '') };
}

/** It does not run, it is its destination, where libvirt has no figures, or it has no metadata of ours. */
const NO_JOB = /migration statistics are available only on the source host|domain is (?:not|no longer) running/i;
const NO_RECORD = /metadata not found|requested metadata element is not present/i;

function wordsLeft(words: string, job: JobStats | null): string {
  const expected = job === null ? [NO_JOB, NO_RECORD] : [NO_RECORD];
  return words
    .split('; ')
    .filter((line) => line !== '' && !expected.some((one) => one.test(line)))
    .join('; ');
}

/** Of the migration that leaves now; null: none does. */
export function statusOf({ stats, job }: Seen): OutgoingStatus | null {
  // It was ended while it stood still for the last bytes: libvirtd lets it go on, or has sent it.
  if (job?.kind === 'ending' && stats.pausedByMigration) return 'switchover';
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
      if (stats.startsUp) return job === null ? 'incoming' : 'paused';
      if (!stats.pausedByMigration) return 'paused';
      // Of a copy that waits libvirt tells no job at all; its source has one until the end, or is what a daemon that died has left.
      return job === null ? 'incoming' : 'postMigrate';
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
