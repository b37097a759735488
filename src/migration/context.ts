/**
 * What the steps of one migration share: the ports, the record, the VM's lease, and how they wait. Every wait renews the
 * lease and notices a shutdown, so no step can go on driving a VM that it no longer holds.
 */

import type { Budget } from '../bandwidth/budget.ts';
import { type Clock, OVER } from '../clock/clock.ts';
import type { Briefing } from '../convergence/controller.ts';
import type { GuestFacts } from '../convergence/dirty-model.ts';
import type { PolicyBehaviour } from '../convergence/policy-behaviour.ts';
import { HostevacError, type Reason } from '../domain/errors.ts';
import type { NonMigratable } from '../domain/non-migratable.ts';
import { type Control, type MoveRecord, NO_CONTROL } from '../domain/operation.ts';
import type { Policy } from '../domain/policy.ts';
import type { Hypervisor, HypervisorOf } from '../hypervisors/hypervisor.ts';
import type { Abandoned } from '../store/abandoned.ts';
import type { WakeupListener, Wakeups } from '../store/cell.ts';
import type { EventLog } from '../store/event-log.ts';
import type { Lease, LeaseOwner, Leases } from '../store/lease.ts';
import type { Records } from '../store/records.ts';
import type { Throttle } from '../throttling/throttle.ts';
import { type Handover, NO_HANDOVER } from './handover.ts';
import type { Cause, MigrationStep } from './states.ts';

export interface MigrationDeps {
  readonly clock: Clock;
  readonly hypervisorOf: HypervisorOf;
  readonly throttleOf: (host: string) => Throttle;
  readonly budget: Budget;
  /** Moves that ended unseen, and hosts that are confirmed to be down. */
  readonly abandoned: Abandoned;
  /** Hosts that a living process serves. */
  readonly servedHosts: () => Promise<readonly string[]>;
  /** Hosts that were last seen to run a VM. */
  readonly runningAt: (vm: string, uuid: string) => Promise<readonly string[]>;
  /** The operation that has the VM, or null. */
  readonly claimedBy: (vm: string) => Promise<string | null>;
  /** The most a host's NIC may carry, bytes/s. */
  readonly capacityOf: (host: string) => { readonly egress: number; readonly ingress: number };
  /** What policies of the user's own modules choose, by name. */
  readonly behaviours: ReadonlyMap<string, PolicyBehaviour>;
  readonly leases: Leases;
  readonly records: Records;
  readonly events: EventLog;
  readonly wakeups: Wakeups;
  /** The operation should look again: a move of it has ended. */
  readonly wakeOperation: (operationId: string) => Promise<void>;
  /**
   * Ends a process that may still act on a lease it has lost, and returns when it can do no harm. False: it may run on
   * this machine where we cannot see or end it. Only asked for where a driver's fencing is `process`.
   */
  readonly endProcess: (owner: LeaseOwner) => Promise<boolean>;
  /** Hosts whose VMs have just changed: fresh inventories are wanted. */
  readonly hostsChanged: (hosts: readonly string[]) => Promise<void>;
  /** Sees every transition taken; for logs and tests. */
  readonly onTransition?: (transition: Transition) => void;
  /** Sees every decision of a controller, and how long it took; for metrics. */
  readonly onVerdict?: (verdict: Verdict) => void;
}

export interface Verdict {
  readonly moveId: string;
  readonly vm: string;
  readonly action: 'run' | 'abort' | 'postCopy';
  /** Real time. */
  readonly tookMs: number;
}

export interface Transition {
  readonly moveId: string;
  readonly operationId: string;
  readonly vm: string;
  readonly attempt: number;
  readonly from: MigrationStep;
  readonly cause: Cause;
  readonly to: MigrationStep;
  readonly reason: Reason | null;
}

/** What a step found out: the cause that the table knows, and why in words where it is not plain success. */
export interface StepOutcome {
  readonly cause: Cause;
  readonly reason?: Reason;
}

/** How an attempt that is being cleaned up will end. */
export type Ending = 'failure' | 'cancel' | 'start';

/** Thrown by waits when this process is shutting down: the step stops where it is, the migration goes on by itself. */
export class ShuttingDown extends Error {
  override readonly name = 'ShuttingDown';
}

/** Longest wait between two looks at lease and flags, real ms; a third of the shortest lease we use is well above. */
const LONGEST_WAIT_REAL_MS = 1_000;
/** While something takes long the lease is looked at this often, real ms; it is renewed when a third of it is used. */
const KEEP_EVERY_MS = 500;

export class MigrationContext {
  readonly deps: MigrationDeps;
  readonly lease: Lease;
  readonly policy: Policy;
  /** What its request says of VMs that cannot be migrated; null: nothing. */
  readonly nonMigratable: NonMigratable | null;
  readonly shutdownTimeoutMs: number;
  /** When the operation must be over, in fleet time; null: no deadline. */
  readonly deadlineAtMs: number | null;
  readonly signal: AbortSignal;
  readonly tier: 'evacuation' | 'rebalance';
  record: MoveRecord;
  /** Somebody has driven it before; what he has sent may still be on its way. */
  readonly isTakenOver: boolean;
  /** A host of this move did not answer when it was looked at last: what is there is not known. */
  unseen = false;
  /** What was foreseen last: of what, and why it is hopeless (or null: it is not). */
  foreseen: {
    atMs: number;
    bytesPerSec: number;
    othersWait: boolean;
    evidence: MoveRecord['evidence'];
    hopeless: Reason | null;
    /** It loses nothing by connecting while those before it end. */
    headStartPays: boolean;
  } | null = null;
  /** Its waiting copy has been started in this attempt. */
  isPrepared = false;
  /** What `cleaning` cleans up after. */
  ending: Ending = 'failure';
  /** What it may ask of the budget at most; the policy's cap, unless that has given way. */
  bandwidthCap: number | null;
  handover: Handover = NO_HANDOVER;
  /** The guest as it was last seen at its source; null: not yet by this process. */
  guest: GuestFacts | null = null;
  /** What a controller is to be told, where that has been put together before the start. */
  briefing: Briefing | null = null;
  /** The flags as they were last read: for moments that cannot wait for the store. */
  lastControl: Control = NO_CONTROL;
  /** What waits listen to beside time: the budget or the operation's flags changed. */
  readonly listener: WakeupListener;

  constructor(given: {
    deps: MigrationDeps;
    lease: Lease;
    policy: Policy;
    nonMigratable: NonMigratable | null;
    shutdownTimeoutMs: number;
    deadlineAtMs: number | null;
    tier: 'evacuation' | 'rebalance';
    signal: AbortSignal;
    record: MoveRecord;
    listener: WakeupListener;
  }) {
    this.deps = given.deps;
    this.lease = given.lease;
    this.policy = given.policy;
    this.nonMigratable = given.nonMigratable;
    this.shutdownTimeoutMs = given.shutdownTimeoutMs;
    this.bandwidthCap = given.policy.maxBandwidthBytesPerSec;
    this.deadlineAtMs = given.deadlineAtMs;
    this.tier = given.tier;
    this.signal = given.signal;
    this.record = given.record;
    this.isTakenOver = given.record.token > 0;
    this.listener = given.listener;
  }

  /** One VM has at most one migration, so its budget entry is kept under the VM: an old attempt's grant is found again. */
  get budgetId(): string {
    return this.record.vm;
  }

  get sourceHypervisor(): Hypervisor {
    return this.deps.hypervisorOf(this.record.source);
  }

  get destinationHypervisor(): Hypervisor {
    return this.deps.hypervisorOf(this.record.destination);
  }

  now(): number {
    return this.deps.clock.now();
  }

  async save(change: Partial<MoveRecord>): Promise<void> {
    this.record = { ...this.record, ...change };
    await this.deps.records.saveMove(this.lease, this.record);
  }

  async event(kind: string, message: string): Promise<void> {
    const { operationId, vm, id } = this.record;
    await this.deps.events.append({ atMs: this.now(), operationId, kind, vm, moveId: id, message });
  }

  async control(): Promise<Control> {
    this.lastControl = await this.deps.records.control(this.record.operationId);
    return this.lastControl;
  }

  /** Waits for work that may take longer than the lease lasts, and keeps the lease meanwhile. */
  during<T>(work: Promise<T>): Promise<T> {
    return keeping(this.deps.clock, this.lease, work);
  }

  /** True once the operation's deadline has passed. */
  overdue(): boolean {
    return this.deadlineAtMs !== null && this.now() >= this.deadlineAtMs;
  }

  /** Waits `fleetMs` (at most about a second of real time), then `check`s. */
  async pace(fleetMs: number): Promise<void> {
    await this.deps.clock.sleep(Math.min(fleetMs, this.deps.clock.fleetMs(LONGEST_WAIT_REAL_MS)), this.signal);
    await this.check();
  }

  /** Like `pace`, but over as soon as the source says that the migration's status has changed. */
  async paceOrChange(fleetMs: number): Promise<void> {
    const waitMs = Math.min(fleetMs, this.deps.clock.fleetMs(LONGEST_WAIT_REAL_MS));
    await this.#orChange((signal) => this.deps.clock.sleep(waitMs, signal));
  }

  /** Waits for a wake-up, at most about a second of real time, then `check`s. */
  async idle(): Promise<void> {
    await this.listener.next(LONGEST_WAIT_REAL_MS, this.signal);
    await this.check();
  }

  /** Waits for a wake-up or a change of the migration's status at its source, at most about a second of real time, then `check`s. */
  async idleOrChange(): Promise<void> {
    await this.#orChange((signal) => this.listener.next(LONGEST_WAIT_REAL_MS, signal));
  }

  async #orChange(wait: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const over = new AbortController();
    const signal = AbortSignal.any([this.signal, over.signal]);
    await Promise.race([wait(signal), this.sourceHypervisor.statusChange(this.record.source, this.record.vm, signal)]);
    over.abort(OVER);
    await this.check();
  }

  /** Throws `ShuttingDown` or `leaseLost` when this process must stop driving the VM. */
  async check(): Promise<void> {
    if (this.signal.aborted) throw new ShuttingDown('shutting down');
    if (!(await this.lease.keep())) {
      throw new HostevacError('leaseLost', `${this.record.vm}: the lease ran out; another process may drive it now`);
    }
  }
}

/** Waits for work that may take longer than the lease lasts, and keeps the lease meanwhile. */
export async function keeping<T>(clock: Clock, lease: Lease, work: Promise<T>): Promise<T> {
  const over = new AbortController();
  const keep = async (): Promise<void> => {
    while (!over.signal.aborted && (await lease.keep())) await clock.sleepReal(KEEP_EVERY_MS, over.signal);
  };
  const kept = keep();
  try {
    return await work;
  } finally {
    over.abort(OVER);
    await kept;
  }
}

/** The reason in a step's own words. */
export function because(code: Reason['code'], message: string): Reason {
  return { code, message };
}
