/**
 * QEMU's words into the port's, as pure functions and tables: run states, migration status, counters, failures.
 * Sources: qapi/run-state.json, qapi/migration.json, migration/migration.c (`fill_source_migration_info`).
 */
import type { Reason } from '../../domain/errors.ts';
import { uriHost } from '../../domain/uri-host.ts';
import type { Counters } from '../counters.ts';
import type { OutgoingStatus, VmRunState } from '../hypervisor.ts';
import type { MigrateAnswer } from './answers.ts';

/** Every RunState of QEMU 10; what a later one adds is `paused`: not running, and nobody may think it gone. */
const RUN_STATES: Readonly<Record<string, VmRunState>> = {
  running: 'running',
  inmigrate: 'incoming',
  postmigrate: 'postMigrate',
  shutdown: 'shutOff',
  preconfig: 'shutOff',
  'finish-migrate': 'paused',
  paused: 'paused',
  suspended: 'paused',
  'io-error': 'paused',
  prelaunch: 'paused',
  watchdog: 'paused',
  'guest-panicked': 'paused',
  debug: 'paused',
  'save-vm': 'paused',
  'restore-vm': 'paused',
  'internal-error': 'paused',
  colo: 'paused',
};

export function runStateOf(status: string): VmRunState {
  return RUN_STATES[status] ?? 'paused';
}

/**
 * `cancelling` still holds the migration's resources. Until `postcopy-device` is over the guest may still go on at its
 * source; from `postcopy-active` on it does not, and while the ends connect anew no page moves.
 */
const STATUSES: Readonly<Record<string, OutgoingStatus>> = {
  setup: 'setup',
  active: 'active',
  'wait-unplug': 'active',
  'pre-switchover': 'preSwitchover',
  'pre-switchover-device': 'preSwitchover',
  device: 'switchover',
  cancelling: 'active',
  'postcopy-device': 'switchover',
  'postcopy-active': 'postCopy',
  'postcopy-paused': 'postCopyPaused',
  'postcopy-recover-setup': 'postCopyPaused',
  'postcopy-recover': 'postCopyPaused',
  completed: 'completed',
  failed: 'failed',
  failing: 'active',
  cancelled: 'cancelled',
};

/** These come without counters at the source too; any other that does is told by a QEMU about what came *into* it. */
const WITHOUT_COUNTERS: ReadonlySet<string> = new Set(['setup', 'failed', 'failing', 'cancelled']);

/**
 * What `query-migrate` says of a migration *out* of here; null: there was none. QEMU answers with the incoming one's
 * status where there was no outgoing one: while it waits (`inmigrate`), and for ever after it arrived.
 */
export function outgoingStatusOf(runState: string, answer: MigrateAnswer): OutgoingStatus | null {
  const { status, ram } = answer;
  if (status === undefined || status === 'none' || runState === 'inmigrate') return null;
  if (ram === undefined && !WITHOUT_COUNTERS.has(status)) return null;
  // The guest is stopped a moment before the status says so. (In post-copy it is stopped here all the time.)
  if (status === 'active' && runState === 'finish-migrate') return 'switchover';
  return STATUSES[status] ?? 'active';
}

export function isInFlight(status: OutgoingStatus | null): boolean {
  return status !== null && !isEnded(status);
}

export function isEnded(status: OutgoingStatus): status is 'completed' | 'failed' | 'cancelled' {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

/** Whether `query-migrate` tells of a migration, out of here or into here, that has begun and not ended. */
export function isUnderWay(status: string | undefined): boolean {
  return status !== undefined && status !== 'none' && isInFlight(STATUSES[status] ?? 'active');
}

/** The guest goes on at the destination, and needs the source. */
export function isInPostCopy(status: OutgoingStatus | null): status is 'postCopy' | 'postCopyPaused' {
  return status === 'postCopy' || status === 'postCopyPaused';
}

/** The state of a copy, whichever end it is. A source in post-copy is stopped for good, and says `finish-migrate`. */
export function copyStateOf(runState: string, answer: MigrateAnswer): VmRunState {
  return isInPostCopy(outgoingStatusOf(runState, answer)) ? 'postMigrate' : runStateOf(runState);
}

/** It runs here in post-copy: `query-migrate` tells of the migration into here, which has no counters. */
export function isArriving(runState: string, answer: MigrateAnswer): boolean {
  return isPostcopy(answer) && answer.ram === undefined && runState !== 'inmigrate';
}

/** Its memory is at both ends by now: ending it would lose the guest. */
export function isPostcopy(answer: MigrateAnswer): boolean {
  return answer.status?.startsWith('postcopy-') === true;
}

/** null: QEMU sent none. `mbps` is decimal megabits. */
export function countersOf(status: OutgoingStatus, answer: MigrateAnswer): Counters | null {
  const { ram } = answer;
  if (ram === undefined) return null;
  return {
    pass: Math.max(1, ram['dirty-sync-count']),
    remainingBytes: ram.remaining,
    transferredBytes: ram.transferred,
    totalBytes: ram.total,
    rateBytesPerSec: Math.max(0, (ram.mbps * 1e6) / 8),
    dirtyRateBytesPerSec: ram['dirty-pages-rate'] * ram['page-size'],
    downtimeMs: status === 'completed' || isInPostCopy(status) ? (answer.downtime ?? null) : null,
  };
}

/**
 * What QEMU (migration/, io/channel-socket.c) says when the connection broke rather than the migration itself. -5, -32
 * and -104 are EIO, EPIPE and ECONNRESET, as the device that was being sent reports them.
 */
const LINK_WORDS =
  /unable to (?:write to|read from|shutdown) socket|channel error|input\/output error|connection (?:reset|refused|timed out)|broken pipe|no route to host|network is unreachable|failed to connect to|: -(?:5|32|104)$/i;

export function failureOf(status: OutgoingStatus, answer: MigrateAnswer, vm: string): Reason | null {
  if (status !== 'failed') return null;
  const words = answer['error-desc'] ?? 'no reason given';
  return {
    code: LINK_WORDS.test(words) ? 'linkFailed' : 'hypervisorRefused',
    message: `${vm}: QEMU says that the migration failed: ${words}`,
  };
}

/** `tcp:10.0.0.1:49152`; an IPv6 address stands in brackets. `to`: QEMU listens on the first free port up to it. */
export function migrationUri(address: string, port: number, to?: number): string {
  return `tcp:${uriHost(address)}:${port}${to === undefined || to === port ? '' : `,to=${to}`}`;
}

/** `ZERO` is what QEMU answers for a VM that was given no `-uuid`. */
export function uuidOf(text: string): string | null {
  const uuid = text.toLowerCase();
  return uuid === '00000000-0000-0000-0000-000000000000' ? null : uuid;
}
