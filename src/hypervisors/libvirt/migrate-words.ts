/**
 * A migration in virsh's words and back: the arguments that begin one, the units of limits, counters as the port has them,
 * and what a failure was. Pure.
 */
import type { Reason } from '../../domain/errors.ts';
import { uriHost } from '../../domain/uri-host.ts';
import type { MigrationSample, OutgoingStatus } from '../hypervisor.ts';
import type { JobStats } from './answers.ts';
import type { LibvirtHost } from './host.ts';
import { refused } from './virsh.ts';

/** libvirt's limits are whole MiB/s. */
export const STEP_BYTES_PER_SEC = 2 ** 20;
/** What libvirt says when the connection between the two ends broke, or never was. */
const LINK_WORDS =
  /unable to (?:connect|write|read)|connection (?:reset|refused|timed out|closed)|broken pipe|no route to host|network is unreachable|keepalive|end of file|cannot recv data|channel error|input\/output error|lost connection/i;

interface MigrateOptions {
  readonly persistent: boolean;
  readonly postCopy: boolean;
  readonly tls: boolean;
  readonly bandwidth: number;
}

/**
 * A persistent domain is defined there before it is undefined here, by the two daemons themselves, so that no reboot of its
 * source doubles it. Auto-converge is never asked for: guests are slowed from outside.
 */
export function* migrateArguments(uuid: string, destination: LibvirtHost, options: MigrateOptions): Generator<string> {
  const { persistent, postCopy, tls, bandwidth } = options;
  yield* ['migrate', '--live', '--p2p', '--domain', uuid, ...where(destination), '--bandwidth', String(bandwidth)];
  if (persistent) yield* ['--persistent', '--undefinesource'];
  if (postCopy) yield* ['--postcopy', '--postcopy-bandwidth', String(bandwidth)];
  if (tls) yield '--tls';
}

function where({ peerUri, migrationAddress }: LibvirtHost): string[] {
  return ['--desturi', peerUri, '--migrateuri', `tcp://${uriHost(migrationAddress)}`];
}

/** Rounded down: never more than was granted. libvirt takes 0 for no limit. */
export function wholeMib(host: LibvirtHost, vm: string, bytesPerSec: number): number {
  const mib = Math.floor(bytesPerSec / STEP_BYTES_PER_SEC);
  if (mib >= 1) return mib;
  throw refused(host, `${vm}: limits are whole MiB/s, and ${bytesPerSec} B/s is less than one`);
}

export function wholeMs(ms: number): string {
  return String(Math.max(1, Math.floor(ms)));
}

export function lifeOf(dominfo: string): { readonly persistent: boolean; readonly autostart: boolean } {
  return {
    persistent: /^Persistent:\s+yes$/m.test(dominfo),
    autostart: /^Autostart:\s+enable$/m.test(dominfo),
  };
}

export function sampleOf(atMs: number, status: OutgoingStatus, job: JobStats): MigrationSample {
  const isOver = status === 'completed' || status === 'postCopy' || status === 'postCopyPaused';
  return {
    atMs,
    status,
    pass: job.pass,
    remainingBytes: job.remainingBytes,
    transferredBytes: job.processedBytes,
    totalBytes: job.totalBytes,
    rateBytesPerSec: job.bytesPerSec,
    dirtyRateBytesPerSec: job.dirtiedBytesPerSec,
    downtimeMs: isOver ? job.downtimeMs : null,
    failure: null,
  };
}

export function failureOf(source: LibvirtHost, words: string): Reason {
  return {
    code: LINK_WORDS.test(words) ? 'linkFailed' : 'hypervisorRefused',
    message: `${source.name}: libvirt says that the migration failed: ${words || 'nothing'}`,
  };
}
