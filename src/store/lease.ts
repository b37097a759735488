/**
 * Fencing leases: who may drive a VM (or an operation) now. The token grows with every new holder, so whoever receives
 * a write can refuse a stale one; the holder checks real monotonic time in the same tick as each write.
 */

/** What a writer shows: proof that it still holds the lease, and the token for the receiver. */
export interface Fence {
  readonly token: number;
  /** Throws `leaseLost` when the lease may have run out. Synchronous: call it in the same tick as the write. */
  assertHeld(): void;
}

export interface Lease extends Fence {
  readonly name: string;
  /**
   * Processes that held it before, have not given it back and are not known to be dead: one may run on without knowing
   * that it lost the lease. Where the resource takes no token they must have ended before anything is written.
   */
  predecessors(): Promise<readonly LeaseOwner[]>;
  /** The predecessors can do no harm any more: nobody need think of them again. */
  forgetPredecessors(): Promise<void>;
  held(): boolean;
  /**
   * Renews when a third of its time is used; cheap to call every tick. False: lost (and it stays lost).
   * An unreachable store is not "lost" until the lease's own time has run out.
   */
  keep(): Promise<boolean>;
  /** Also a holder that has lost it says so with this, once it has stopped acting: it is no danger to its successor. */
  release(): Promise<void>;
}

/** Who holds a lease: enough for a successor on the same machine to see that the process is gone. */
export interface LeaseOwner {
  /** Unique per process run. */
  readonly id: string;
  /** Boot id of the machine (`/proc/sys/kernel/random/boot_id`) or another id of where the pid means something. */
  readonly machine: string;
  readonly pid: number;
  /** Start time of the process in clock ticks since boot (`/proc/<pid>/stat`, field 22): pids are used again. */
  readonly startTicks: number;
}

export interface Leases {
  /**
   * The lease, or who holds it and for how long yet (real ms). A holder whose process is known to be dead (same machine,
   * pid gone or another start time) is succeeded at once; anyone else is waited for.
   */
  acquire(name: string): Promise<Lease | { readonly heldBy: LeaseOwner; readonly forMs: number }>;
}

export function isLease(value: Awaited<ReturnType<Leases['acquire']>>): value is Lease {
  return 'assertHeld' in value;
}
