/**
 * All VMs of a host, as its libvirtd lists them. What takes a job of a domain is not asked of one that is busy: libvirt would
 * let us wait for half a minute, and all others with it.
 */
import type { Logger } from 'pino';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import { entityName } from '../../domain/names.ts';
import type { VmOnHost } from '../hypervisor.ts';
import { type DomainStats, domainList, domainStats, uuidList } from './answers.ts';
import { type DomainDefinition, definitionOf } from './domain-xml.ts';
import { keyOf, type LibvirtHost } from './host.ts';
import { runStateOf } from './sights.ts';
import { askAll, told, uuidWord } from './virsh.ts';

/** A guest that halts on a timer needs several of its periods. */
const SHORTEST_SPAN_MS = 200;
const XML_MS = 3_000;
/** One whose definition cannot be read now is not asked for it again for so long. */
const XML_AGAIN_MS = 60_000;
const STATS = 'domstats --raw --nowait --state --balloon --vcpu';
/** Long enough for an operation that goes by it, short enough for whoever mends what was in the way. */
const REFUSED_MS = 300_000;
const UNKNOWN: DomainDefinition = { labels: {}, notMigratable: null };

interface Reading {
  readonly atMs: number;
  readonly cpuMs: number;
}

interface Listed {
  readonly name: string;
  readonly uuid: string;
  readonly stats: DomainStats;
}

export class Inventory {
  readonly #log: Logger;
  /** The reading that the next span begins at, by host and uuid. */
  readonly #begun = new Map<string, Reading>();
  /** With the text that each was read from: it is parsed again only when that has changed. */
  readonly #definitions = new Map<string, { readonly text: string; readonly definition: DomainDefinition }>();
  readonly #silentUntil = new Map<string, number>();
  /** What libvirt has said of VMs that it would not migrate, by uuid, and when. */
  readonly #refusals = new Map<string, { readonly words: string; readonly atMs: number }>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** libvirt tells only when it is asked to migrate. Its words hold for some minutes: then it has to be asked again. */
  refuses(host: LibvirtHost, uuid: string, words: string): void {
    this.#refusals.set(keyOf(host, uuid), { words, atMs: performance.now() });
  }

  #refusalOf(host: LibvirtHost, uuid: string): string | null {
    const refusal = this.#refusals.get(keyOf(host, uuid));
    if (refusal === undefined) return null;
    if (performance.now() - refusal.atMs < REFUSED_MS) return refusal.words;
    this.#refusals.delete(keyOf(host, uuid));
    return null;
  }

  async of(host: LibvirtHost): Promise<VmOnHost[]> {
    let listed = await list(host);
    const short = listed.some(({ uuid, stats }) => this.#spanMs(host, uuid, stats) < SHORTEST_SPAN_MS);
    if (short) {
      for (const { uuid, stats } of listed) this.#begin(host, uuid, stats);
      await abortableSleep(SHORTEST_SPAN_MS);
      listed = await list(host);
    }
    const definitions = await this.#definitionsOf(host, listed);
    const snapshots = uuidList(await told(host, ['list', '--all', '--with-snapshot', '--uuid']));
    return listed.map((one) => {
      const { labels, notMigratable } = definitions.get(one.uuid) ?? UNKNOWN;
      const why = snapshots.has(one.uuid) ? 'libvirt migrates no domain with snapshots' : notMigratable;
      return this.#vmOf(host, one, labels, this.#refusalOf(host, one.uuid) ?? why);
    });
  }

  #vmOf(
    host: LibvirtHost,
    { name, uuid, stats }: Listed,
    labels: Readonly<Record<string, string>>,
    refusal: string | null,
  ): VmOnHost {
    const state = runStateOf(stats, null);
    const arriving = stats.postCopy !== 'no' ? 'it is in post-copy: some of its memory is at the other end' : null;
    const crashed = stats.state === 'crashed' ? 'its guest has crashed' : null;
    return {
      name,
      uuid,
      state,
      memoryBytes: stats.maxMemoryBytes,
      // Pages that the guest has freed are in it, and QEMU's own: an upper bound.
      touchedBytes: Math.min(stats.maxMemoryBytes, stats.residentBytes ?? stats.maxMemoryBytes),
      cpus: stats.cpus,
      demandCores: Math.min(stats.cpus, this.#cores(host, uuid, stats)),
      labels,
      notMigratable: arriving ?? crashed ?? refusal,
    };
  }

  #spanMs(host: LibvirtHost, uuid: string, stats: DomainStats): number {
    const begun = this.#begun.get(keyOf(host, uuid));
    if (stats.cpuMs === null) return Number.POSITIVE_INFINITY;
    // Started again since: its time began anew.
    return begun === undefined || begun.cpuMs > stats.cpuMs ? 0 : performance.now() - begun.atMs;
  }

  #begin(host: LibvirtHost, uuid: string, { cpuMs }: DomainStats): void {
    const key = keyOf(host, uuid);
    if (cpuMs === null) this.#begun.delete(key);
    else this.#begun.set(key, { atMs: performance.now(), cpuMs });
  }

  #cores(host: LibvirtHost, uuid: string, stats: DomainStats): number {
    const begun = this.#begun.get(keyOf(host, uuid));
    const spanMs = this.#spanMs(host, uuid, stats);
    this.#begin(host, uuid, stats);
    if (begun === undefined || stats.cpuMs === null || spanMs <= 0) return 0;
    return Math.max(0, (stats.cpuMs - begun.cpuMs) / spanMs);
  }

  /** Of those that can be asked; what was known of the others stays. */
  async #definitionsOf(host: LibvirtHost, listed: readonly Listed[]): Promise<ReadonlyMap<string, DomainDefinition>> {
    const now = performance.now();
    const free = listed.filter(({ uuid, stats }) => {
      if (stats.pausedByMigration || stats.state === 'inShutdown') return false;
      return (this.#silentUntil.get(keyOf(host, uuid)) ?? 0) <= now;
    });
    try {
      await this.#read(host, free);
    } catch (error) {
      // One of them is busy: which, is found by asking each, and those that do not answer are left alone for a while.
      this.#log.debug({ host: host.name, why: reasonOf(error).message }, 'definitions could not be read at once');
      await Promise.all(
        free.map(async (one) => {
          try {
            await this.#read(host, [one]);
          } catch (cause) {
            this.#silentUntil.set(keyOf(host, one.uuid), now + XML_AGAIN_MS);
            this.#log.warn(
              { host: host.name, vm: one.name, why: reasonOf(cause).message },
              'its definition cannot be read now',
            );
          }
        }),
      );
    }
    return new Map(listed.map(({ uuid }) => [uuid, this.#definitions.get(keyOf(host, uuid))?.definition ?? UNKNOWN]));
  }

  async #read(host: LibvirtHost, listed: readonly Listed[]): Promise<void> {
    if (listed.length === 0) return;
    const commands = listed.map(({ uuid }) => `dumpxml ${uuidWord(uuid)}`);
    const { outs } = await askAll(host, commands, XML_MS);
    for (const [index, { uuid }] of listed.entries()) {
      const text = outs[index] ?? '';
      // It has gone meanwhile.
      if (text.trim() === '') continue;
      const key = keyOf(host, uuid);
      if (this.#definitions.get(key)?.text === text) continue;
      this.#definitions.set(key, { text, definition: definitionOf(text) });
    }
  }
}

/** Throws `hostUnreachable` for a VM that nobody here can name: what is true of the host could not be said. */
async function list(host: LibvirtHost): Promise<Listed[]> {
  const { outs } = await askAll(host, ['list --all --uuid --name', STATS]);
  const uuids = domainList(outs[0] ?? '');
  const stats = domainStats(outs[1] ?? '');
  return [...stats].flatMap(([name, one]) => {
    const uuid = uuids.get(name);
    // It has come or gone between the two.
    if (uuid === undefined) return [];
    if (entityName.safeParse(name).success) return [{ name, uuid, stats: one }];
    const what = `a domain whose name has control characters (uuid ${uuid})`;
    throw new HostevacError('hostUnreachable', `${host.name} has ${what}: rename it, nothing here can name it`);
  });
}
