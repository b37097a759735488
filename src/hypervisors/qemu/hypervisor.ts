/**
 * The hypervisor port on bare QEMU: hosts that are run directories on this machine. Finds the VM's directory and hands on;
 * what is asked and done there lives in the other files of this room.
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
import { CpuTimes } from './cpu-time.ts';
import { keep, retire } from './definition.ts';
import { type DestinationParts, discard, prepare } from './destination.ts';
import { DirtyRates } from './dirty-rate.ts';
import { changing, looking } from './edge.ts';
import { Examiner, refuseNameless, silentError } from './examine.ts';
import type { Gatekeeper } from './gatekeeper.ts';
import { Gates } from './gates.ts';
import type { QemuHost } from './host.ts';
import { uuidOfVm } from './identity.ts';
import { Inventory } from './inventory.ts';
import { Monitors } from './monitors.ts';
import { Outgoing, type OutgoingParts, outgoingOf, sightedMigration } from './outgoing.ts';
import { PostCopy } from './post-copy.ts';
import { isAlive } from './process.ts';
import { find, scan, type VmEntry } from './run-dir.ts';
import { shutDown } from './shutdown.ts';
import { start } from './start.ts';
import { copyStateOf, isArriving, runStateOf } from './translate.ts';
import { Watches } from './watch.ts';

export type { QemuHost } from './host.ts';

export interface QemuHypervisorOptions {
  readonly hosts: readonly QemuHost[];
  readonly clock: Clock;
  readonly log: Logger;
  /** null: migrations switch over by themselves. */
  readonly gatekeeper: Gatekeeper | null;
}

export class QemuHypervisor implements Hypervisor {
  readonly driver = 'qemu';
  readonly fencing = 'process';
  readonly bandwidthStepBytesPerSec = 1;
  readonly setupSilenceMs = 10_000;
  readonly handoverMs = 50;
  readonly #hosts: ReadonlyMap<string, QemuHost>;
  readonly #clock: Clock;
  readonly #monitors = new Monitors();
  readonly #examiner: Examiner;
  readonly #watches: Watches;
  readonly #gates: Gates;
  readonly #inventory: Inventory;
  readonly #outgoing: Outgoing;
  readonly #postCopy: PostCopy;
  readonly #dirtyRates: DirtyRates;
  readonly #parts: OutgoingParts & DestinationParts;
  /** By VM directory. */
  readonly #threads = new Map<string, VcpuThreads>();

  constructor({ hosts, clock, log, gatekeeper }: QemuHypervisorOptions) {
    this.#hosts = new Map(hosts.map((host) => [host.name, host]));
    this.#clock = clock;
    this.#examiner = new Examiner(this.#monitors);
    this.#watches = new Watches(this.#monitors, log, (dir) => void this.#gates.abandon(dir));
    this.#gates = new Gates({ gatekeeper, watches: this.#watches, examiner: this.#examiner, log });
    this.#inventory = new Inventory(this.#examiner, new CpuTimes(), log);
    this.#parts = {
      monitors: this.#monitors,
      examiner: this.#examiner,
      watches: this.#watches,
      gates: this.#gates,
      hostNamed: (name) => this.#hosts.get(name),
      clock,
      log,
    };
    this.#outgoing = new Outgoing(this.#parts);
    this.#postCopy = new PostCopy(this.#parts);
    this.#dirtyRates = new DirtyRates(this.#parts);
  }

  inventory(host: string): Promise<HostInventory> {
    return looking(async () => {
      const { runDir } = this.#host(host);
      const takenAtMs = this.#clock.now();
      return { host, takenAtMs, vms: await this.#inventory.of(host, runDir) };
    });
  }

  look(host: string, vm: string): Promise<Sighting> {
    return looking(async () => {
      const entry = this.#find(host, vm);
      if (entry === undefined) {
        await refuseNameless(host, scan(this.#host(host).runDir));
        return { present: false };
      }
      this.#postCopy.refresh(entry.dir);
      const examined = await this.#examiner.examine(entry.dir);
      if (examined.kind === 'silent') throw silentError(vm, examined.why);
      if (examined.kind === 'off') {
        // A copy that never arrived is no VM; its directory is cleaned by the next that comes.
        if (!entry.kept) return { present: false };
        return {
          present: true,
          uuid: await uuidOfVm(entry, examined),
          state: 'shutOff',
          arriving: false,
          outgoing: null,
        };
      }
      const outgoing = sightedMigration(outgoingOf(this.#clock, entry.dir, examined));
      const state = copyStateOf(examined.runState, examined.migration);
      const arriving = isArriving(examined.runState, examined.migration);
      if (!arriving && state !== 'incoming') this.#postCopy.hangUp(entry.dir);
      return { present: true, uuid: await uuidOfVm(entry, examined), state, arriving, outgoing };
    });
  }

  sample(source: string, vm: string): Promise<MigrationSample | null> {
    return looking(async () => {
      const entry = this.#find(source, vm);
      if (entry === undefined) return null;
      const sample = await this.#outgoing.sample(source, entry);
      this.#postCopy.attend(entry, sample?.status ?? null);
      return sample;
    });
  }

  measureDirtying(
    host: string,
    vm: string,
    windowMs: number,
    signal: AbortSignal,
    fence?: Fence,
  ): Promise<DirtyingMeasured | null> {
    return looking(async () => {
      const entry = this.#find(host, vm);
      return entry === undefined ? null : this.#dirtyRates.measure(entry, windowMs, { signal, fence });
    });
  }

  async statusChange(source: string, vm: string, signal: AbortSignal): Promise<void> {
    let entry: VmEntry | undefined;
    try {
      entry = this.#find(source, vm);
    } catch {
      // What is wrong there is for `sample` to say; here it means that there are no events.
    }
    if (entry !== undefined) return this.#watches.change(entry.dir, signal);
    await untilAborted(signal);
  }

  prepareDestination(fence: Fence, target: MigrationTarget & Partial<Pick<MigrationTerms, 'postCopy'>>): Promise<void> {
    return changing(async () => {
      const { vm, migrationId, postCopy = false } = target;
      const ends = { source: this.#host(target.source), destination: this.#host(target.destination) };
      await prepare(this.#parts, fence, { vm, migrationId, postCopy, ...ends });
    });
  }

  startMigration(fence: Fence, target: MigrationTarget & MigrationTerms): Promise<void> {
    return changing(async () => {
      const { vm, migrationId, bandwidthBytesPerSec, downtimeLimitMs, postCopy } = target;
      const [source, destination] = [this.#host(target.source), this.#host(target.destination)];
      const entry = this.#at(target.source, vm);
      const order = { source, destination, migrationId, bandwidthBytesPerSec, downtimeLimitMs, postCopy };
      await start(this.#parts, fence, entry, order);
    });
  }

  bandwidthLimit(source: string, vm: string): Promise<number | null> {
    return this.#outgoing.limit(this.#at(source, vm));
  }

  setBandwidth(fence: Fence, source: string, vm: string, bytesPerSec: number): Promise<void> {
    return changing(async () => {
      await this.#outgoing.setParameters(fence, source, this.#at(source, vm), { bandwidthBytesPerSec: bytesPerSec });
    });
  }

  setDowntimeLimit(fence: Fence, source: string, vm: string, ms: number): Promise<void> {
    return changing(async () => {
      await this.#outgoing.setParameters(fence, source, this.#at(source, vm), { downtimeLimitMs: ms });
    });
  }

  finishMigration(fence: Fence, source: string, vm: string): Promise<void> {
    return changing(async () => {
      const entry = this.#find(source, vm);
      if (entry !== undefined) await this.#outgoing.finish(fence, source, entry);
    });
  }

  beginPostCopy(fence: Fence, source: string, vm: string): Promise<void> {
    return changing(() => this.#postCopy.begin(fence, source, this.#at(source, vm)));
  }

  recoverPostCopy(fence: Fence, target: MigrationTarget): Promise<void> {
    return changing(async () => {
      const [source, destination] = [this.#host(target.source), this.#host(target.destination)];
      const entry = this.#find(target.source, target.vm);
      if (entry !== undefined) await this.#postCopy.recover(fence, source, destination, entry);
    });
  }

  cancelMigration(fence: Fence, source: string, vm: string): Promise<void> {
    return changing(async () => {
      const entry = this.#find(source, vm);
      if (entry !== undefined) await this.#outgoing.cancel(fence, source, entry);
    });
  }

  discardIncoming(fence: Fence, destination: string, vm: string): Promise<void> {
    return changing(async () => {
      await discard(this.#parts, fence, this.#host(destination), vm);
    });
  }

  keepDefinition(fence: Fence, destination: string, vm: string): Promise<void> {
    return changing(async () => {
      await keep(this.#parts, this.#parts.hostNamed, fence, this.#host(destination), vm);
    });
  }

  shutdown(fence: Fence, host: string, vm: string): Promise<void> {
    return changing(() => shutDown(this.#parts, fence, this.#host(host), this.#at(host, vm)));
  }

  retire(fence: Fence, source: string, vm: string): Promise<void> {
    return changing(async () => {
      const entry = this.#find(source, vm);
      await retire(this.#parts, this.#parts.hostNamed, fence, this.#host(source), vm);
      if (entry !== undefined) await this.#gates.close(source, vm, entry.dir);
    });
  }

  /** Implements `VcpuThreadsOf`. Asked often, so QEMU is asked once for each of its processes. */
  readonly vcpuThreads = (host: string, vm: string): Promise<VcpuThreads | null> =>
    looking(async () => {
      const entry = this.#find(host, vm);
      if (entry === undefined) return null;
      const { path } = entry.dir;
      const known = this.#threads.get(path);
      if (known !== undefined && isAlive(known)) return known;
      this.#threads.delete(path);
      const qemu = await this.#examiner.answered(entry.dir, vm);
      if (qemu === null || runStateOf(qemu.runState) === 'incoming') return null;
      const threads = { ...qemu.process, tids: qemu.tids };
      this.#threads.set(path, threads);
      return threads;
    });

  async close(): Promise<void> {
    await this.#gates.abandonAll();
    this.#postCopy.close();
    this.#watches.close();
    this.#monitors.close();
  }

  #host(name: string): QemuHost {
    const host = this.#hosts.get(name);
    if (host === undefined)
      throw new HostevacError('unknownHost', `The fleet file has no QEMU host ${JSON.stringify(name)}`);
    return host;
  }

  /** Throws `hostUnreachable` when its definition is faulty: what is true of it cannot be told. */
  #find(host: string, vm: string): VmEntry | undefined {
    const entry = find(this.#host(host).runDir, vm);
    if (entry?.kind === 'faulty') throw new HostevacError('hostUnreachable', `${vm} at ${host}: ${entry.fault}`);
    return entry;
  }

  #at(host: string, vm: string): VmEntry {
    const entry = this.#find(host, vm);
    if (entry === undefined) throw new HostevacError('hypervisorRefused', `${vm} is not at ${host}`);
    return entry;
  }
}
