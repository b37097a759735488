/**
 * The hypervisor port on libvirt: hosts that are run by a libvirtd each. Hands on to the other files of this room. libvirtd
 * makes the waiting copy, switches over and tidies both ends by itself, so some of the port's steps have little to do here.
 */
import type { Logger } from 'pino';
import { untilAborted } from '../../clock/abortable-sleep.ts';
import type { Clock } from '../../clock/clock.ts';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import type { VcpuThreads } from '../../throttling/vcpu-threads.ts';
import type {
  DirtyingMeasured,
  HostInventory,
  Hypervisor,
  MigrationSample,
  MigrationTarget,
  MigrationTerms,
  Sighting,
} from '../hypervisor.ts';
import { Clients } from './clients.ts';
import { measureDirtying } from './dirty-rate.ts';
import { discardIncoming, keepDefinition, prepare, retire, shutdown } from './ends.ts';
import { Events } from './events.ts';
import type { LibvirtHost } from './host.ts';
import { Inventory } from './inventory.ts';
import { STEP_BYTES_PER_SEC } from './migrate-words.ts';
import { Outgoing } from './outgoing.ts';
import { see, sighted, uuidAt } from './sights.ts';
import { findVcpus, vcpusOf } from './vcpus.ts';

export type { LibvirtHost } from './host.ts';

export interface LibvirtHypervisorOptions {
  readonly hosts: readonly LibvirtHost[];
  readonly clock: Clock;
  readonly log: Logger;
}

/** What libvirt says of a VM that it will migrate to nowhere, whatever the destination. */
const NEVER =
  /unsafe migration|cannot (?:be )?migrate(?!.*I\/O error)|migration is disabled|not migratable|non-migratable/i;

export class LibvirtHypervisor implements Hypervisor {
  readonly driver = 'libvirt';
  readonly fencing = 'process';
  readonly bandwidthStepBytesPerSec = STEP_BYTES_PER_SEC;
  /** The destination starts its QEMU within that time, and a host under load takes its time for it. */
  readonly setupSilenceMs = 30_000;
  /**
   * The source's libvirtd learns of the end, tells the destination's, and that has its QEMU go on: 36..86 ms for a guest
   * with nothing left to send, on a slow machine.
   */
  readonly handoverMs = 100;
  readonly #hosts: ReadonlyMap<string, LibvirtHost>;
  readonly #clock: Clock;
  readonly #clients = new Clients();
  readonly #events = new Events();
  readonly #inventory: Inventory;
  readonly #outgoing: Outgoing;
  /** By host and VM. */
  readonly #threads = new Map<string, VcpuThreads>();

  constructor({ hosts, clock, log }: LibvirtHypervisorOptions) {
    this.#hosts = new Map(hosts.map((host) => [host.name, host]));
    this.#clock = clock;
    this.#inventory = new Inventory(log);
    this.#outgoing = new Outgoing({
      hostNamed: (name) => this.#host(name),
      clients: this.#clients,
      events: this.#events,
      clock,
    });
  }

  async inventory(host: string): Promise<HostInventory> {
    const takenAtMs = this.#clock.now();
    return { host, takenAtMs, vms: await this.#inventory.of(this.#host(host)) };
  }

  async look(host: string, vm: string): Promise<Sighting> {
    return sighted(await see(this.#host(host), vm), Date.now());
  }

  sample(source: string, vm: string): Promise<MigrationSample | null> {
    return this.#outgoing.sample(source, vm);
  }

  measureDirtying(
    host: string,
    vm: string,
    windowMs: number,
    signal: AbortSignal,
    fence?: Fence,
  ): Promise<DirtyingMeasured | null> {
    return measureDirtying(this.#host(host), vm, windowMs, { signal, fence });
  }

  async statusChange(source: string, vm: string, signal: AbortSignal): Promise<void> {
    const host = this.#host(source);
    const uuid = this.#outgoing.uuidOf(source, vm);
    // Nobody of this process has seen it leave: then `sample` says what is to be known.
    if (uuid === null) return untilAborted(signal);
    const client = this.#clients.of(host, uuid);
    const news = this.#events.change(host, uuid, signal);
    await (client === undefined || client.outcome !== null ? news : Promise.race([news, client.ended]));
  }

  async prepareDestination(
    fence: Fence,
    { vm, source, destination }: MigrationTarget & Partial<Pick<MigrationTerms, 'postCopy'>>,
  ): Promise<void> {
    await prepare(fence, { vm, source: this.#host(source), destination: this.#host(destination) });
  }

  async startMigration(fence: Fence, target: MigrationTarget & MigrationTerms): Promise<void> {
    const source = this.#host(target.source);
    try {
      await this.#outgoing.start(fence, target);
    } catch (error) {
      if (error instanceof HostevacError && error.code === 'hypervisorRefused' && NEVER.test(error.message)) {
        const uuid = await uuidAt(source, target.vm);
        if (uuid !== null) this.#inventory.refuses(source, uuid, error.message);
      }
      throw error;
    }
  }

  bandwidthLimit(source: string, vm: string): Promise<number | null> {
    return this.#outgoing.limit(source, vm);
  }

  setBandwidth(fence: Fence, source: string, vm: string, bytesPerSec: number): Promise<void> {
    return this.#outgoing.setBandwidth(fence, source, vm, bytesPerSec);
  }

  setDowntimeLimit(fence: Fence, source: string, vm: string, ms: number): Promise<void> {
    return this.#outgoing.setDowntimeLimit(fence, source, vm, ms);
  }

  /** libvirtd switches over by itself. */
  async finishMigration(): Promise<void> {}

  beginPostCopy(fence: Fence, source: string, vm: string): Promise<void> {
    return this.#outgoing.beginPostCopy(fence, source, vm);
  }

  recoverPostCopy(_fence: Fence, target: MigrationTarget): Promise<void> {
    return this.#outgoing.recoverPostCopy(target);
  }

  cancelMigration(fence: Fence, source: string, vm: string): Promise<void> {
    return this.#outgoing.cancel(fence, source, vm);
  }

  discardIncoming(fence: Fence, destination: string, vm: string): Promise<void> {
    return discardIncoming(fence, this.#host(destination), vm);
  }

  keepDefinition(fence: Fence, destination: string, vm: string): Promise<void> {
    return keepDefinition(fence, this.#host(destination), vm);
  }

  async shutdown(fence: Fence, host: string, vm: string): Promise<void> {
    await shutdown(fence, this.#host(host), vm);
  }

  async retire(fence: Fence, source: string, vm: string): Promise<void> {
    await retire(fence, this.#host(source), vm);
  }

  /** Implements `VcpuThreadsOf`. Asked often, so a process that lives is not looked for again. */
  readonly vcpuThreads = async (name: string, vm: string): Promise<VcpuThreads | null> => {
    const host = this.#host(name);
    const key = JSON.stringify([name, vm]);
    const known = this.#threads.get(key);
    const now = known === undefined ? null : vcpusOf(known);
    if (now !== null) return now;
    this.#threads.delete(key);
    const seen = await see(host, vm);
    if (seen === null) return null;
    const { state } = seen.stats;
    if (state === 'shutOff' || state === 'inShutdown') return null;
    // A copy that waits has no CPUs yet that anybody may slow.
    if (seen.stats.pausedByMigration && seen.job?.kind !== 'outgoing') return null;
    const threads = findVcpus(host, seen.uuid);
    if (threads === null) {
      const why = `no QEMU process of ${vm} is on this machine; a worker for ${name} has to run on ${name}`;
      throw new HostevacError('throttleUnavailable', why);
    }
    this.#threads.set(key, threads);
    return threads;
  };

  close(): void {
    this.#events.close();
  }

  #host(name: string): LibvirtHost {
    const host = this.#hosts.get(name);
    if (host === undefined) {
      throw new HostevacError('unknownHost', `The fleet file has no libvirt host ${JSON.stringify(name)}`);
    }
    return host;
  }
}
