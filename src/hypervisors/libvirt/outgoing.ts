/**
 * The migration out of a source: started, watched, steered, ended. One that nobody of ours started is neither steered nor
 * ended. libvirtd carries it on whatever becomes of us, takes both ends back when it fails, and forgets it when it is over:
 * how it ended is known from the client that waited for it, or from both ends.
 */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import type { Clock } from '../../clock/clock.ts';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { NO_COUNTERS } from '../counters.ts';
import type { MigrationSample, MigrationTarget, MigrationTerms } from '../hypervisor.ts';
import { type JobStats, jobStats } from './answers.ts';
import type { Client, Clients } from './clients.ts';
import { removeRecord } from './ends.ts';
import type { Events } from './events.ts';
import type { HostNamed, LibvirtHost } from './host.ts';
import {
  failureOf,
  lifeOf,
  migrateArguments,
  STEP_BYTES_PER_SEC,
  sampleOf,
  wholeMib,
  wholeMs,
} from './migrate-words.ts';
import { RECORD_ARGUMENTS, recordText } from './record.ts';
import { recordOf, type Seen, see, seeUuid, statusOf } from './sights.ts';
import { ask, isNoDomain, refused, told, unreachable, uuidWord } from './virsh.ts';

/** What a limit of 0 is told as. */
const NO_LIMIT_MIB = 2 ** 40;

const LOOK_MS = 50;
/** After `domjobabort` QEMU ends its threads and libvirtd takes the copy at the destination away. */
const CANCEL_MS = 8_000;
const ABORT_ANSWER_MS = 3_000;

const NOTHING_SENT = { ...NO_COUNTERS, failure: null };

const CANCELLED_WORDS = /cancell?ed by client|migration was cancell?ed|operation aborted/i;

export interface OutgoingParts {
  readonly hostNamed: HostNamed;
  readonly clients: Clients;
  readonly events: Events;
  readonly clock: Clock;
}

/** A migration that this process has seen or started: for when its source knows nothing of it any more. */
interface Followed {
  readonly uuid: string;
  readonly destination: string;
  last: MigrationSample | null;
}

export class Outgoing {
  readonly #parts: OutgoingParts;
  /** By source and VM name. */
  readonly #followed = new Map<string, Followed>();

  constructor(parts: OutgoingParts) {
    this.#parts = parts;
  }

  async start(fence: Fence, target: MigrationTarget & MigrationTerms): Promise<void> {
    const { hostNamed, clients, events } = this.#parts;
    const { vm, migrationId } = target;
    const [source, destination] = [hostNamed(target.source), hostNamed(target.destination)];
    const bandwidth = wholeMib(source, vm, target.bandwidthBytesPerSec);
    const seen = await see(source, vm);
    if (seen === null) throw refused(source, `it has no ${vm}`);
    if (seen.job?.kind === 'outgoing') throw refused(source, `${vm} is being migrated already`);
    if (seen.job?.kind === 'ending') throw stillEnding(source, vm);
    if (seen.job?.kind === 'other') throw refused(source, `${vm} is busy with another job (a backup, a snapshot)`);
    if ((await this.#endPending(source, seen.uuid)) === 'mayHaveBegun') throw stillEnding(source, vm);
    const uuid = uuidWord(seen.uuid);
    const { persistent, autostart } = lifeOf(await told(source, ['dominfo', uuid]));
    const record = {
      migrationId,
      destination: destination.name,
      writtenAtMs: Date.now(),
      autostart,
      postCopy: target.postCopy,
    };
    await this.#write(fence, source, ['metadata', uuid, ...RECORD_ARGUMENTS, '--set', recordText(record), '--live']);
    await this.#write(fence, source, ['migrate-setmaxdowntime', uuid, wholeMs(target.downtimeLimitMs)]);
    events.begin(source, uuid);
    fence.assertHeld();
    const options = { persistent, postCopy: target.postCopy, tls: source.tls, bandwidth };
    const client = clients.start(source, { uuid, migrationId }, [...migrateArguments(uuid, destination, options)]);
    this.#followed.set(keyOf(target.source, vm), { uuid, destination: destination.name, last: null });
    await this.#begun(fence, source, client);
  }

  /** Until libvirtd has taken it, or has said why not. What could not be seen to begin must not begin later, unseen. */
  async #begun(fence: Fence, source: LibvirtHost, client: Client): Promise<void> {
    try {
      await this.#takenOrRefused(fence, source, client);
    } catch (error) {
      await this.#endPending(source, client.uuid);
      throw error;
    }
  }

  /** Ends a client of ours that still waits to ask: otherwise it could begin a migration that nobody counts any more. */
  async #endPending(source: LibvirtHost, uuid: string): Promise<'none' | 'mayHaveBegun'> {
    const client = this.#parts.clients.of(source, uuid);
    if (client === undefined || client.outcome !== null) return 'none';
    client.end();
    await client.ended;
    return 'mayHaveBegun';
  }

  async #takenOrRefused(fence: Fence, source: LibvirtHost, client: Client): Promise<void> {
    while (client.outcome === null) {
      const job = jobStats((await ask(source, ['domjobinfo', client.uuid, '--rawstats'])).out);
      if (job?.kind === 'outgoing') return;
      await Promise.race([client.ended, abortableSleep(LOOK_MS)]);
    }
    const { how, words } = client.outcome;
    if (how === 'completed') return;
    // What libvirtd makes of what it had been asked is to be seen.
    if (how === 'lost') throw unreachable(source, words);
    await this.#forgetRecord(fence, source, client.uuid, client.migrationId);
    const { code, message } = failureOf(source, words);
    throw new HostevacError(code, message);
  }

  async sample(sourceName: string, vm: string): Promise<MigrationSample | null> {
    const { hostNamed, clients, events, clock } = this.#parts;
    const source = hostNamed(sourceName);
    const key = keyOf(sourceName, vm);
    const followed = this.#followed.get(key);
    if (followed !== undefined) events.sampled(source, followed.uuid);
    const seen = await see(source, vm);
    const status = seen === null ? null : statusOf(seen);
    if (seen !== null && seen.job !== null && status !== null) {
      const sample = sampleOf(clock.now(), status, seen.job);
      const record = recordOf(seen, Date.now());
      if (record !== null) {
        this.#followed.set(key, { uuid: seen.uuid, destination: record.destination, last: sample });
        events.listen(source, seen.uuid);
        const arrived = status === 'switchover' ? await this.#arrived(source, seen.uuid, record.destination, vm) : null;
        if (arrived !== null) return arrived;
      }
      return sample;
    }
    if (followed === undefined || (seen !== null && seen.uuid !== followed.uuid)) return null;
    const client = clients.of(source, followed.uuid);
    if (seen?.job?.kind === 'ending') return this.#failed(source, followed, client);
    if (client !== undefined && client.outcome === null) {
      // It is about to say how it ended, or has not begun.
      return followed.last ?? { ...NOTHING_SENT, atMs: clock.now(), status: 'setup' };
    }
    if (client?.outcome?.how === 'failed') return this.#failed(source, followed, client);
    // There is nothing there, or it is off: both ends have to say what that means; what is known is what it came to.
    if (seen !== null && seen.stats.state !== 'shutOff') return null;
    return this.#completed(source, followed);
  }

  /** It runs there already; that its source's process is ended takes libvirtd another second or two. */
  async #arrived(source: LibvirtHost, uuid: string, destination: string, vm: string): Promise<MigrationSample | null> {
    const there = await see(this.#parts.hostNamed(destination), vm);
    if (there?.uuid !== uuid || there.stats.state !== 'running' || there.stats.postCopy !== 'no') return null;
    return this.#completed(source, {
      uuid,
      destination,
      last: this.#followed.get(keyOf(source.name, vm))?.last ?? null,
    });
  }

  #failed(source: LibvirtHost, followed: Followed, client: Client | undefined): MigrationSample {
    const words = client?.outcome?.words ?? '';
    const status = client?.isCancelled || CANCELLED_WORDS.test(words) ? 'cancelled' : 'failed';
    const failure = status === 'failed' ? failureOf(source, words) : null;
    return { ...(followed.last ?? NOTHING_SENT), atMs: this.#parts.clock.now(), status, failure };
  }

  /** libvirtd tells it once, to who listens, and of a pre-copy its destination remembers it. */
  async #completed(source: LibvirtHost, { uuid, destination, last }: Followed): Promise<MigrationSample | null> {
    const { events, hostNamed, clock } = this.#parts;
    const heard = events.completed(source, uuid);
    const job = heard ?? (await completedAt(hostNamed(destination), uuid));
    if (job !== null) return { ...sampleOf(clock.now(), 'completed', job), remainingBytes: 0 };
    return last === null ? null : { ...last, atMs: clock.now(), status: 'completed', remainingBytes: 0 };
  }

  /** Of a migration that this process has seen or started. */
  uuidOf(source: string, vm: string): string | null {
    return this.#followed.get(keyOf(source, vm))?.uuid ?? null;
  }

  async limit(sourceName: string, vm: string): Promise<number | null> {
    const source = this.#parts.hostNamed(sourceName);
    const seen = await see(source, vm);
    if (seen === null || statusOf(seen) === null) return null;
    const phase = isInPostCopy(seen) ? ['--postcopy'] : [];
    const mib = Number.parseInt(await told(source, ['migrate-getspeed', uuidWord(seen.uuid), ...phase]), 10);
    if (!Number.isFinite(mib)) throw refused(source, `no bandwidth limit of ${vm}`);
    return mib === 0 || mib >= NO_LIMIT_MIB ? Number.POSITIVE_INFINITY : mib * STEP_BYTES_PER_SEC;
  }

  async setBandwidth(fence: Fence, sourceName: string, vm: string, bytesPerSec: number): Promise<void> {
    const source = this.#parts.hostNamed(sourceName);
    const seen = await this.#ours(source, vm);
    if (seen === null) return;
    const mib = wholeMib(source, vm, bytesPerSec);
    const set = ['migrate-setspeed', seen.uuid, String(mib)];
    // libvirt keeps two limits: the one of post-copy must not be an older, larger one when that begins.
    if (!isInPostCopy(seen)) await this.#write(fence, source, set);
    if (seen.record?.postCopy === true) await this.#write(fence, source, [...set, '--postcopy']);
  }

  async setDowntimeLimit(fence: Fence, sourceName: string, vm: string, ms: number): Promise<void> {
    const source = this.#parts.hostNamed(sourceName);
    const seen = await this.#ours(source, vm);
    if (seen !== null) await this.#write(fence, source, ['migrate-setmaxdowntime', seen.uuid, wholeMs(ms)]);
  }

  async beginPostCopy(fence: Fence, sourceName: string, vm: string): Promise<void> {
    const source = this.#parts.hostNamed(sourceName);
    const seen = await this.#ours(source, vm);
    if (seen === null || isInPostCopy(seen) || statusOf(seen) === 'completed') return;
    await this.#write(fence, source, ['migrate-postcopy', seen.uuid]);
  }

  /**
   * Not done by us. A connection that is silent may come back by itself, and giving it up could not be undone: told to connect
   * anew, the destination's libvirtd (11.3) dies, and with it every other migration to that host (docs/decisions/0036). Throws
   * `hypervisorRefused` with what a person can do.
   */
  async recoverPostCopy(target: MigrationTarget): Promise<void> {
    const source = this.#parts.hostNamed(target.source);
    const seen = await this.#ours(source, target.vm);
    if (seen === null || !isInPostCopy(seen)) return;
    const by = `virsh migrate --live --p2p --postcopy --postcopy-resume ${seen.uuid} ${this.#parts.hostNamed(target.destination).peerUri}`;
    const when = 'a link that comes back may do; else, where its libvirtd does not die of it';
    throw refused(source, `${target.vm} is in post-copy and is not connected anew by hostevac: ${when}: ${by}`);
  }

  async cancel(fence: Fence, sourceName: string, vm: string): Promise<void> {
    const { clients, clock, hostNamed } = this.#parts;
    const source = hostNamed(sourceName);
    const seen = await this.#ours(source, vm);
    if (seen === null) {
      const uuid = this.uuidOf(sourceName, vm);
      if (uuid !== null) await this.#endPending(source, uuid);
      return;
    }
    if (statusOf(seen) === 'completed') return;
    if (isInPostCopy(seen)) {
      throw refused(source, `${vm} is in post-copy: ending that would lose it`);
    }
    const client = clients.of(source, seen.uuid);
    if (client !== undefined) client.isCancelled = true;
    fence.assertHeld();
    await abort(source, seen.uuid);
    const until = clock.monotonic() + CANCEL_MS;
    for (let now: Seen | null = seen; now !== null && isBusy(now); now = await seeUuid(source, seen.uuid)) {
      // Where the link is silent libvirtd waits for the other end: whoever asked looks again.
      if (clock.monotonic() > until) return;
      await abortableSleep(LOOK_MS);
    }
    await this.#forgetRecord(fence, source, seen.uuid, seen.record?.migrationId ?? null);
  }

  /** null: nothing leaves there. Throws for one that somebody else started. */
  async #ours(source: LibvirtHost, vm: string): Promise<Seen | null> {
    const seen = await see(source, vm);
    if (seen === null || statusOf(seen) === null) return null;
    if (recordOf(seen, Date.now()) !== null) return seen;
    const client = this.#parts.clients.of(source, seen.uuid);
    // Whatever the clocks say: its client is ours and waits for its end.
    if (client?.outcome === null && client.migrationId === seen.record?.migrationId) return seen;
    throw refused(source, `the migration of ${vm} was not started by hostevac: it is left alone`);
  }

  /** Harmless where it has gone with its domain, and where another's stands there by now. */
  async #forgetRecord(fence: Fence, source: LibvirtHost, uuid: string, migrationId: string | null): Promise<void> {
    const seen = await seeUuid(source, uuid);
    if (seen === null || seen.record === null || seen.record.migrationId !== migrationId || isBusy(seen)) return;
    const why = await removeRecord(fence, source, uuid);
    // What stays is told from a later migration's by its time.
    if (why !== null && !isNoDomain(why) && !/state change lock/i.test(why)) throw refused(source, why);
  }

  async #write(fence: Fence, source: LibvirtHost, args: readonly string[]): Promise<void> {
    fence.assertHeld();
    await told(source, args);
  }
}

/** While the link is silent libvirtd does not answer that; it is carried out all the same. */
async function abort(source: LibvirtHost, uuid: string): Promise<void> {
  try {
    const { code, words } = await ask(source, ['domjobabort', uuidWord(uuid)], ABORT_ANSWER_MS);
    if (code !== 0 && !/no job is active|not running/i.test(words) && !isNoDomain(words)) throw refused(source, words);
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    // Whether anybody is there is for the next look to say.
  }
}

function isInPostCopy(seen: Seen): boolean {
  return ['postCopy', 'postCopyPaused'].includes(statusOf(seen) ?? '');
}

/** Changing the domain would wait for that job. */
function isBusy({ job }: Seen): boolean {
  return job !== null && job.kind !== 'none';
}

function stillEnding(source: LibvirtHost, vm: string): HostevacError {
  const why =
    'its libvirtd has not given up yet on its last migration, which was ended: nothing came back over its link';
  return new HostevacError('stillConnecting', `${vm}: ${source.name}: ${why}`);
}

async function completedAt(destination: LibvirtHost, uuid: string): Promise<JobStats | null> {
  const asked = ['domjobinfo', uuidWord(uuid), '--completed', '--keep-completed', '--rawstats'];
  const answer = await ask(destination, asked);
  const job = answer.code === 0 ? jobStats(answer.out) : null;
  return job?.kind === 'completed' ? job : null;
}

function keyOf(host: string, vm: string): string {
  return JSON.stringify([host, vm]);
}
