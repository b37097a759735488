/**
 * The port to hypervisors. An adapter translates and decides nothing: what a sighting means is the workflow's business.
 * Every write carries the VM's fence; an adapter calls `assertHeld()` in the same tick as it writes.
 * Errors: `hostUnreachable` when the host does not answer, `hypervisorRefused` when it answers with an error.
 */

import type { Reason } from '../domain/errors.ts';
import type { DriverName } from '../domain/fleet.ts';
import type { Fence } from '../store/lease.ts';

/**
 * `incoming`: waits for a migration, its CPUs have never run. `postMigrate`: its guest goes on elsewhere, its CPUs stand
 * still; its memory has gone, or (in post-copy) is going.
 */
export type VmRunState = 'running' | 'paused' | 'incoming' | 'postMigrate' | 'shutOff';

export interface VmOnHost {
  readonly name: string;
  /** A name alone cannot prove that two copies are one VM. */
  readonly uuid: string;
  readonly state: VmRunState;
  readonly memoryBytes: number;
  /** Bytes that must be sent at least once; at most `memoryBytes`. */
  readonly touchedBytes: number;
  readonly cpus: number;
  /** Cores it would use unthrottled now (0..cpus). */
  readonly demandCores: number;
  /** null: may be migrated; else the hypervisor's reason why not. */
  readonly notMigratable: string | null;
  /** What its definition says of it, in words of whoever wrote it; hostevac's own begin with `hostevac.`. */
  readonly labels?: Readonly<Record<string, string>>;
}

export interface HostInventory {
  readonly host: string;
  /** Fleet time at which all of this was true. */
  readonly takenAtMs: number;
  readonly vms: readonly VmOnHost[];
}

export type OutgoingStatus =
  | 'setup'
  | 'active'
  /** The guest stands still and the hypervisor waits for `finishMigration`; every ms of it is downtime. */
  | 'preSwitchover'
  /** The guest stands still, the last bytes are being sent. */
  | 'switchover'
  /** The guest runs at the destination, its memory is at both ends: ending this would lose it. */
  | 'postCopy'
  /** As `postCopy`, and the connection between the ends is broken: pages that are not there yet are waited for. */
  | 'postCopyPaused'
  | 'completed'
  | 'failed'
  | 'cancelled';

export interface OutgoingMigration {
  readonly status: OutgoingStatus;
  /** Where to, when the hypervisor can tell. */
  readonly destination: string | null;
  /** Our id for it; null: none of ours started it. Where the hypervisor cannot carry it the adapter keeps it beside the VM. */
  readonly migrationId: string | null;
}

/** What one host says of one VM now. */
export type Sighting =
  | { readonly present: false }
  | {
      readonly present: true;
      readonly uuid: string;
      readonly state: VmRunState;
      /** It goes on here in post-copy: some of its memory is at its source only, and lost with that. */
      readonly arriving: boolean;
      /** The last migration out of here that the hypervisor knows of. */
      readonly outgoing: OutgoingMigration | null;
    };

/** Counters of an outgoing migration. Rates are the hypervisor's own; see facts on saturation before trusting them. */
export interface MigrationSample {
  readonly atMs: number;
  readonly status: OutgoingStatus;
  /** Pre-copy pass, from 1. */
  readonly pass: number;
  /** Still to send in this pass and dirtied since (as far as the hypervisor knows). */
  readonly remainingBytes: number;
  readonly transferredBytes: number;
  readonly totalBytes: number;
  readonly rateBytesPerSec: number;
  /** Unique bytes dirtied per second over the last whole pass; 0 before there was one. */
  readonly dirtyRateBytesPerSec: number;
  /** Known once the guest goes on at its destination: in post-copy, or when it has completed. */
  readonly downtimeMs: number | null;
  /** Why it failed, in the hypervisor's words. */
  readonly failure: Reason | null;
}

/** How much a guest dirtied in a look at it. */
export interface DirtyingMeasured {
  /** The look's real length: a hypervisor may know whole seconds only. */
  readonly windowMs: number;
  /** Different bytes dirtied in it. */
  readonly bytes: number;
  /** Standard error of `bytes`: sampling and rounding. */
  readonly errorBytes: number;
}

export interface MigrationTarget {
  readonly vm: string;
  readonly source: string;
  readonly destination: string;
  readonly migrationId: string;
}

export interface MigrationTerms {
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
  /** It may be switched to post-copy later; its destination was prepared for that. */
  readonly postCopy: boolean;
}

/**
 * How a driver keeps a process out that no longer holds the VM's lease. `token`: what takes the write refuses a stale
 * token. `process`: it cannot (a monitor socket takes no token), so an expired predecessor is ended before anybody acts.
 */
export type Fencing = 'token' | 'process';

export interface Hypervisor {
  readonly driver: DriverName;
  readonly fencing: Fencing;
  /** Limits are whole multiples of it: what is asked is rounded down, and less than one is refused. */
  readonly bandwidthStepBytesPerSec: number;
  /** How long a migration may be in `setup` without a byte before its link counts as failed, fleet time. */
  readonly setupSilenceMs: number;
  /** What is planned for a switchover beside sending the last bytes, ms: the limit it is given is so much below max stall. */
  readonly handoverMs: number;
  inventory(host: string): Promise<HostInventory>;
  look(host: string, vm: string): Promise<Sighting>;
  /** The outgoing migration's counters; null when the source knows of none. */
  sample(source: string, vm: string): Promise<MigrationSample | null>;
  /**
   * Looks for about `windowMs` (fleet time) at how much the guest dirties, before or while it is migrated, without slowing
   * it. One look at a time for each VM. null: this hypervisor cannot tell, or not now; with a `fence`, also when that is
   * not held in the moment in which the look would begin.
   */
  measureDirtying(
    host: string,
    vm: string,
    windowMs: number,
    signal: AbortSignal,
    fence?: Fence,
  ): Promise<DirtyingMeasured | null>;
  /**
   * Resolves as soon as the hypervisor has said, since the last `sample` of this VM by this process, that its outgoing
   * migration changed its status or began a new pass; and when `signal` aborts. Never rejects. Where there are no such events, only on abort.
   */
  statusChange(source: string, vm: string, signal: AbortSignal): Promise<void>;
  /**
   * Starts the waiting copy at the destination, ready for post-copy where that is asked for: what it must be granted for
   * that is said here. Doing it twice is harmless.
   */
  prepareDestination(fence: Fence, target: MigrationTarget & Partial<Pick<MigrationTerms, 'postCopy'>>): Promise<void>;
  /**
   * Starts sending. Refused when the VM is already being migrated; `stillConnecting` while the hypervisor has not given up
   * connecting for one that was ended.
   */
  startMigration(fence: Fence, target: MigrationTarget & MigrationTerms): Promise<void>;
  /** The limit that its outgoing migration has now, bytes/s; Infinity: none. null: there is no migration. */
  bandwidthLimit(source: string, vm: string): Promise<number | null>;
  setBandwidth(fence: Fence, source: string, vm: string, bytesPerSec: number): Promise<void>;
  setDowntimeLimit(fence: Fence, source: string, vm: string, ms: number): Promise<void>;
  /** The last word: a migration that waits in `preSwitchover` goes on. Harmless when it does not wait. */
  finishMigration(fence: Fence, source: string, vm: string): Promise<void>;
  /**
   * The guest goes on at its destination as soon as that can be, and what is missing there follows. No way back. (Where
   * the hypervisor waits before a switchover it waits here, too: `preSwitchover`, `finishMigration`.) Refused where the
   * migration was not started for it; harmless when it is in post-copy or has completed already.
   */
  beginPostCopy(fence: Fence, source: string, vm: string): Promise<void>;
  /**
   * Connects the two ends of a migration in post-copy anew, also where its ends take a silent connection for whole: that
   * one is given up first. Returns when it has been asked for; whether it worked is seen later. Harmless when it is not in
   * post-copy, and to repeat.
   */
  recoverPostCopy(fence: Fence, target: MigrationTarget): Promise<void>;
  /**
   * Ends the outgoing migration; the VM goes on at its source. Refused in post-copy. Harmless when there is none or it has
   * completed, and to repeat: where an end takes its time (the link is silent) it returns before that, and a look tells.
   */
  cancelMigration(fence: Fence, source: string, vm: string): Promise<void>;
  /** Ends a copy whose CPUs never ran. Refuses (`hypervisorRefused`) any other; harmless when there is none. */
  discardIncoming(fence: Fence, destination: string, vm: string): Promise<void>;
  /**
   * The copy that runs here is the VM from now on: its definition stays when it stops. Comes before `retire`, so that
   * there is a definition at every moment. Refuses a copy that is still `incoming`; harmless when done already.
   */
  keepDefinition(fence: Fence, destination: string, vm: string): Promise<void>;
  /**
   * Asks the guest to shut down cleanly, as its power button would; it is never made to. Returns when it has been asked:
   * whether it does is seen later, and what stands there then is a `shutOff` VM with its definition. Harmless when it is off
   * already, and to repeat. Refuses (`hypervisorRefused`) where the guest cannot hear it (no running one), and while it is
   * being migrated or arrives.
   */
  shutdown(fence: Fence, host: string, vm: string): Promise<void>;
  /** Removes what is left at the source of a VM that has moved. Refuses any copy but a `postMigrate` one. */
  retire(fence: Fence, source: string, vm: string): Promise<void>;
}

/** The adapter that serves a host. Throws `unknownHost`. */
export type HypervisorOf = (host: string) => Hypervisor;
