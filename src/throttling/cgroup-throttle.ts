/**
 * The throttle port on real guests: measures what a guest's vCPU threads use and asks the guard for a quota. It writes
 * no group itself, and finds nothing out about VMs: which threads are vCPUs is told.
 */
import type { Clock } from '../clock/clock.ts';
import { HostevacError, type Reason } from '../domain/errors.ts';
import { parseProcessStat } from '../runtime/process-identity.ts';
import type { Fence } from '../store/lease.ts';
import { GroupFiles } from './cgroup/files.ts';
import { DemandMeter, FIRST_WINDOW_MS } from './demand.ts';
import type { GuardClient } from './guard/client.ts';
import type { Look } from './guard/protocol.ts';
import type { GuestCpu, Throttle, ThrottleTarget, ThrottleTerms } from './throttle.ts';
import type { VcpuThreads, VcpuThreadsOf } from './vcpu-threads.ts';

export interface CgroupThrottleOptions {
  readonly guard: GuardClient;
  readonly vcpuThreadsOf: VcpuThreadsOf;
  readonly clock: Clock;
  readonly log: (line: string) => void;
  /** VMs that run on a host: `unavailable` tries their groups. Without it, the group of this process stands for them. */
  readonly vmsOn?: (host: string) => Promise<readonly string[]>;
}

/** `unavailable` is asked before every migration; that guests can be throttled is believed for so long. */
const AVAILABLE_MS = 5_000;
const NOT_THROTTLED: Look = { throttle: null, sinceMs: null };

interface Measured {
  readonly threads: VcpuThreads;
  readonly meter: DemandMeter;
  /** What the guard said last. */
  look: Look;
}

interface Now extends Measured {
  /** Fleet time at which all of this was so. */
  readonly atMs: number;
  readonly gotCpuMs: number;
  readonly demandCores: number;
  readonly look: Look;
}

export class CgroupThrottle implements Throttle {
  readonly #given: CgroupThrottleOptions;
  readonly #files = new GroupFiles();
  readonly #measured = new Map<string, Measured>();
  readonly #availableUntil = new Map<string, number>();
  readonly #asked = new Map<string, Promise<Reason | null>>();
  #told = '';

  constructor(given: CgroupThrottleOptions) {
    this.#given = given;
  }

  /** Those that ask at once have one answer: all migrations of a host begin together. */
  unavailable(host: string): Promise<Reason | null> {
    const { clock } = this.#given;
    if ((this.#availableUntil.get(host) ?? 0) > clock.monotonic()) return Promise.resolve(null);
    const asked = this.#asked.get(host) ?? this.#try(host).finally(() => this.#asked.delete(host));
    this.#asked.set(host, asked);
    return asked;
  }

  async #try(host: string): Promise<Reason | null> {
    const { guard, clock, vmsOn, vcpuThreadsOf } = this.#given;
    const vms = (await vmsOn?.(host)) ?? [];
    try {
      const threads = await Promise.all(vms.map((vm) => vcpuThreadsOf(host, vm)));
      await guard.probe(threads.flatMap((each) => each?.tids ?? []));
    } catch (error) {
      if (!(error instanceof HostevacError) || error.code === 'hostUnreachable') throw error;
      return { code: 'throttleUnavailable', message: `guests of ${host} cannot be throttled: ${error.message}` };
    }
    this.#availableUntil.set(host, clock.monotonic() + AVAILABLE_MS);
    return null;
  }

  async set(fence: Fence, target: ThrottleTarget & ThrottleTerms): Promise<void> {
    const { host, vm, share, validForMs, longestStretchMs } = target;
    if (share >= 1) return this.release(fence, target);
    const { threads, meter, demandCores } = await this.#measure(target);
    const { pid, startTicks, tids } = threads;
    const parts = meter.parts(tids.length);
    return this.#given.guard.set(fence, {
      host,
      vm,
      validForMs,
      process: { pid, startTicks },
      threads: tids.map((tid, index) => ({ tid, cores: share * demandCores * (parts[index] ?? 0) })),
      share,
      demandCores,
      longestStretchMs,
    });
  }

  async release(fence: Fence, { host, vm }: ThrottleTarget): Promise<void> {
    const threads = this.#measured.get(keyOf({ host, vm }))?.threads;
    const process = threads === undefined ? {} : { process: { pid: threads.pid, startTicks: threads.startTicks } };
    return this.#given.guard.release(fence, { host, vm, ...process });
  }

  async guestCpu(target: ThrottleTarget): Promise<GuestCpu> {
    const { atMs, gotCpuMs, demandCores, look } = await this.#measure(target);
    return { atMs, gotCpuMs, demandCores, share: look.throttle?.share ?? 1 };
  }

  async #measure(target: ThrottleTarget): Promise<Now> {
    const measured = await this.#meterOf(target);
    const { threads, meter } = measured;
    for (;;) {
      const look = await this.#look(target, measured);
      const seen = threads.tids.map((tid) => this.#seen(target, threads.pid, tid));
      const atMs = this.#given.clock.now();
      const sample = {
        atMs: this.#given.clock.monotonic(),
        usedMs: seen.map(({ usedMs }) => usedMs),
        waitedMs: seen.map(({ waitedMs }) => waitedMs),
        runnable: seen.map(({ runnable }) => runnable),
      };
      meter.observe(sample, look.throttle, look.sinceMs);
      const { demandCores } = meter;
      const gotCpuMs = seen.reduce((sum, { usedMs }) => sum + usedMs, 0);
      if (demandCores !== null) return { ...measured, atMs, gotCpuMs, demandCores, look };
      // Never measured before: a short look is better than none.
      await this.#given.clock.sleepReal(FIRST_WINDOW_MS);
    }
  }

  /** A VM that was started again is another one. */
  async #meterOf(target: ThrottleTarget): Promise<Measured> {
    const threads = await this.#given.vcpuThreadsOf(target.host, target.vm);
    const key = keyOf(target);
    if (threads === null || threads.tids.length === 0) {
      this.#measured.delete(key);
      throw notThere(target);
    }
    const known = this.#measured.get(key);
    if (known !== undefined && isSame(known.threads, threads)) return known;
    const measured = { threads, meter: new DemandMeter(), look: NOT_THROTTLED };
    this.#measured.set(key, measured);
    return measured;
  }

  /**
   * A guard that cannot be asked has lifted nothing as far as is known: what it said last counts, so that a throttled
   * guest is not taken for one that wants no more. A migration goes on either way.
   */
  async #look({ host, vm }: ThrottleTarget, measured: Measured): Promise<Look> {
    try {
      measured.look = (await this.#given.guard.look(host, vm)) ?? NOT_THROTTLED;
      this.#told = '';
      return measured.look;
    } catch (error) {
      if (!(error instanceof HostevacError) || error.code !== 'throttleUnavailable') throw error;
      if (error.message !== this.#told) this.#given.log(error.message);
      this.#told = error.message;
      return measured.look;
    }
  }

  /** schedstat: ns on a CPU, ns on a run queue (the kernel's Documentation/scheduler/sched-stats.rst). */
  #seen(target: ThrottleTarget, pid: number, tid: number): { usedMs: number; waitedMs: number; runnable: boolean } {
    const task = `/proc/${pid}/task/${tid}`;
    const [, used, waited] = /^(\d+) (\d+) /.exec(this.#files.readIfThere(`${task}/schedstat`) ?? '') ?? [];
    const stat = parseProcessStat(this.#files.readIfThere(`${task}/stat`) ?? '');
    if (used === undefined || waited === undefined || stat === undefined) throw notThere(target);
    return { usedMs: Number(used) / 1e6, waitedMs: Number(waited) / 1e6, runnable: stat.state === 'R' };
  }
}

function isSame(one: VcpuThreads, other: VcpuThreads): boolean {
  return (
    one.pid === other.pid &&
    one.startTicks === other.startTicks &&
    one.tids.length === other.tids.length &&
    one.tids.every((tid, index) => tid === other.tids[index])
  );
}

function keyOf({ host, vm }: ThrottleTarget): string {
  return JSON.stringify([host, vm]);
}

function notThere({ host, vm }: ThrottleTarget): HostevacError {
  return new HostevacError('hypervisorRefused', `${host} has no running ${vm}`);
}
