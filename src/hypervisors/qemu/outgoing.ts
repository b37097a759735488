/**
 * The migration out of a source: started, watched, steered, ended. QEMU carries no id of ours: which migration is ours
 * stands in `migration.json` (migration-file.ts), and what is not ours is neither steered nor ended.
 */
import type { Logger } from 'pino';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import type { Clock } from '../../clock/clock.ts';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { NO_COUNTERS } from '../counters.ts';
import type { MigrationSample, OutgoingMigration, OutgoingStatus } from '../hypervisor.ts';
import { anyAnswer, type MigrateAnswer, migrateAnswer, parametersAnswer } from './answers.ts';
import type { Answered, Examiner } from './examine.ts';
import type { Gates } from './gates.ts';
import type { HostNamed } from './host.ts';
import { type MigrationRecord, noteEnd, readMigration, recordOf } from './migration-file.ts';
import type { Monitors } from './monitors.ts';
import { isAlive, tail } from './process.ts';
import { scan, type VmEntry } from './run-dir.ts';
import { countersOf, failureOf, isEnded, isInFlight, isInPostCopy, isPostcopy, outgoingStatusOf } from './translate.ts';
import type { VmDir } from './vm-dir.ts';
import type { Watches } from './watch.ts';

export interface OutgoingParts {
  readonly monitors: Monitors;
  readonly examiner: Examiner;
  readonly watches: Watches;
  readonly gates: Gates;
  readonly hostNamed: HostNamed;
  readonly clock: Clock;
  readonly log: Logger;
}

/** After `migrate_cancel` QEMU ends its threads and lets a guest that waited for the switchover go on. */
const CANCEL_MS = 5_000;
const CANCEL_LOOK_MS = 20;

export interface Seen {
  readonly status: OutgoingStatus;
  /** null: nobody of us started it. */
  readonly record: MigrationRecord | null;
}

/** The last migration out of here, and whether it is ours; null: there was none. How it ended is kept with the record. */
export function outgoingOf(clock: Clock, dir: VmDir, qemu: Answered): Seen | null {
  const status = outgoingStatusOf(qemu.runState, qemu.migration);
  if (status === null) return null;
  const record = recordOf(readMigration(dir), {
    process: qemu.process,
    inFlight: isInFlight(status),
    sinceMs: qemu.migration['total-time'],
    monotonicMs: clock.monotonic(),
  });
  if (record !== null && isEnded(status)) noteEnd(dir, record, status);
  return { status, record };
}

export function sightedMigration(seen: Seen | null): OutgoingMigration | null {
  if (seen === null) return null;
  const { status, record } = seen;
  return { status, destination: record?.destination ?? null, migrationId: record?.migrationId ?? null };
}

export class Outgoing {
  readonly #parts: OutgoingParts;
  /** Counters that QEMU gave last, by VM directory: of a migration that failed or was cancelled it keeps none. */
  readonly #last = new Map<string, { readonly key: string; readonly counters: typeof NO_COUNTERS }>();

  constructor(parts: OutgoingParts) {
    this.#parts = parts;
  }

  async sample(host: string, { dir, definition }: VmEntry): Promise<MigrationSample | null> {
    const { clock, examiner, watches, gates } = this.#parts;
    watches.sampled(dir);
    const qemu = await examiner.answered(dir, definition.name);
    const seen = qemu === null ? null : outgoingOf(clock, dir, qemu);
    if (qemu === null || seen === null) return null;
    const { status, record } = seen;
    const key = `${qemu.process.pid}/${qemu.process.startTicks}/${record?.startedAtMonotonicMs ?? ''}`;
    const last = this.#last.get(dir.path);
    const counters =
      countersOf(status, qemu.migration) ?? (last?.key === key && status !== 'setup' ? last.counters : NO_COUNTERS);
    this.#last.set(dir.path, { key, counters });
    if (isEnded(status)) await gates.close(host, definition.name, dir);
    const failure = failureOf(status, qemu.migration, definition.name);
    const why = failure === null ? null : { ...failure, message: failure.message + this.#saidAtDestination(record) };
    return { atMs: clock.now(), status, ...counters, failure: why };
  }

  /** Why a copy did not take what was sent stands in its own log; the source sees no more than a broken connection. */
  #saidAtDestination(record: MigrationRecord | null): string {
    const host = record === null ? undefined : this.#parts.hostNamed(record.destination);
    if (host === undefined) return '';
    try {
      const copy = scan(host.runDir).find(
        (entry) => entry.kind === 'vm' && !entry.kept && entry.definition.incoming?.migrationId === record?.migrationId,
      );
      const words = copy === undefined ? null : tail(copy.dir.log);
      return words === null ? '' : `; its copy at ${host.name} said: ${words}`;
    } catch (error) {
      // What the source says stands without it.
      return `; what its copy at ${host.name} said cannot be read: ${reasonOf(error).message}`;
    }
  }

  /** QEMU's own word for what it may send, before or after it has gone into post-copy. */
  async limit({ dir, definition }: VmEntry): Promise<number | null> {
    const { clock, examiner, monitors } = this.#parts;
    const qemu = await examiner.answered(dir, definition.name);
    const status = qemu === null ? null : (outgoingOf(clock, dir, qemu)?.status ?? null);
    if (!isInFlight(status)) return null;
    const set = await monitors.read(dir, (qmp) => qmp.execute('query-migrate-parameters', parametersAnswer));
    const bandwidth = isInPostCopy(status) ? set['max-postcopy-bandwidth'] : set['max-bandwidth'];
    return bandwidth === undefined || bandwidth === 0 ? Number.POSITIVE_INFINITY : bandwidth;
  }

  async setParameters(fence: Fence, host: string, entry: VmEntry, parameters: Parameters): Promise<void> {
    const { monitors, gates } = this.#parts;
    const { dir, definition } = entry;
    const { qemu, seen } = await oursAt(this.#parts, host, entry);
    if (qemu === null) throw refused(`${definition.name} does not run at ${host}`);
    if (seen?.record?.gated === true && isInFlight(seen.status)) {
      fence.assertHeld();
      await gates.reopen(host, entry);
    }
    await monitors.drive(fence, dir, definition.name, (send) =>
      send('migrate-set-parameters', anyAnswer, migrateParameters(qemu, parameters)),
    );
  }

  /** Harmless when it does not wait. One command and no look before it: the guest stands still meanwhile. */
  async finish(fence: Fence, host: string, { dir, definition }: VmEntry): Promise<void> {
    const record = readMigration(dir);
    if (record?.status !== 'started' || !isAlive(record)) {
      const qemu = await this.#parts.examiner.answered(dir, definition.name);
      if (qemu === null || outgoingStatusOf(qemu.runState, qemu.migration) !== 'preSwitchover') return;
      throw refused(
        `${definition.name} at ${host} stands still before the switchover of a migration that hostevac has no record of in ${dir.migration}; let it go on (migrate-continue) or end it (migrate_cancel) over ${dir.monitor}`,
      );
    }
    const { monitors, watches } = this.#parts;
    await monitors.drive(fence, dir, definition.name, async (send, qmp) => {
      try {
        const sent = send('migrate-continue', anyAnswer, { state: 'pre-switchover' });
        watches.spoken(dir);
        await sent;
      } catch (error) {
        // Without a word carried out it still waits for one.
        watches.waits(dir);
        // Somebody else (the gatekeeper) may have let it go on between the look and the word.
        const { status } = await qmp.execute('query-migrate', migrateAnswer);
        if (status === 'pre-switchover') throw error;
        watches.spoken(dir);
      }
    });
  }

  async cancel(fence: Fence, host: string, entry: VmEntry): Promise<void> {
    const { monitors, clock, examiner, watches, gates } = this.#parts;
    const { dir, definition } = entry;
    const { qemu, seen } = await oursAt(this.#parts, host, entry);
    if (qemu === null || !isInFlight(seen?.status ?? null)) return;
    refusePostcopy(qemu.migration, definition.name);
    await monitors.drive(fence, dir, definition.name, async (send, qmp) => {
      // The last look before the word: in post-copy, ending it would lose the guest.
      refusePostcopy(await qmp.execute('query-migrate', migrateAnswer), definition.name);
      const sent = send('migrate_cancel', anyAnswer);
      watches.spoken(dir);
      await sent;
    });
    for (const since = performance.now(); performance.now() - since < CANCEL_MS; await abortableSleep(CANCEL_LOOK_MS)) {
      const now = await examiner.answered(dir, definition.name);
      if (now !== null && isInFlight(outgoingOf(clock, dir, now)?.status ?? null)) continue;
      await gates.close(host, definition.name, dir);
      return;
    }
  }
}

/** Throws `hypervisorRefused` when what runs was started by somebody else. */
export async function oursAt(
  { examiner, clock }: OutgoingParts,
  host: string,
  { dir, definition }: VmEntry,
): Promise<{ qemu: Answered | null; seen: Seen | null }> {
  const qemu = await examiner.answered(dir, definition.name);
  const seen = qemu === null ? null : outgoingOf(clock, dir, qemu);
  if (seen !== null && isInFlight(seen.status) && seen.record === null) {
    throw refused(`${definition.name} at ${host} is in a migration that hostevac did not start; it is left alone`);
  }
  return { qemu, seen };
}

export interface Parameters {
  readonly bandwidthBytesPerSec?: number;
  readonly downtimeLimitMs?: number;
}

/** For `migrate-set-parameters`. A bandwidth of 0 would mean unlimited. */
export function migrateParameters({ features }: Answered, parameters: Parameters): Record<string, number> {
  const { bandwidthBytesPerSec, downtimeLimitMs } = parameters;
  const answer: Record<string, number> = {};
  if (bandwidthBytesPerSec !== undefined) {
    const bandwidth = Math.max(1, Math.floor(bandwidthBytesPerSec));
    answer['max-bandwidth'] = bandwidth;
    if (features.has.postcopyBandwidth) answer['max-postcopy-bandwidth'] = bandwidth;
  }
  if (downtimeLimitMs !== undefined) answer['downtime-limit'] = Math.max(1, Math.floor(downtimeLimitMs));
  return answer;
}

function refusePostcopy(migration: MigrateAnswer, vm: string): void {
  if (isPostcopy(migration)) {
    throw refused(`${vm} is in post-copy: its memory is at both ends, and ending the migration would lose it`);
  }
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
