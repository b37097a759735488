/**
 * The port to the shared bandwidth budget. Bytes count against a host's egress and another's ingress from the moment
 * they are granted until the hypervisor is known to use less: a grant counts as `max(granted, in force)`.
 */
import type { Fence } from '../store/lease.ts';

export type Tier = 'evacuation' | 'rebalance';

export interface Demand {
  readonly migrationId: string;
  readonly operationId: string;
  /** The move that asks. One VM has one entry, whatever its moves. */
  readonly moveId: string;
  readonly vm: string;
  readonly source: string;
  readonly destination: string;
  readonly tier: Tier;
  /** Start order within a tier; smaller first. */
  readonly order: number;
  /** Do not start below this. */
  readonly usefulBytesPerSec: number;
  /** More than this cannot be used. */
  readonly maxBytesPerSec: number;
  /**
   * While nothing is sent: it could begin at once, with the little that is free, where those before it are about to end.
   * Then: it has begun like that, as far as its worker knows.
   */
  readonly headStart: boolean;
  /** It is sent and expected to end within moments. */
  readonly endsSoon: boolean;
  /** The limit that its hypervisor has now; null: nothing is sent for it, and whatever is entered for the VM is void. */
  readonly usesBytesPerSec: number | null;
}

/** What leaves a host for one VM, as the hypervisor itself says. */
export type Sent = Pick<
  Demand,
  'migrationId' | 'operationId' | 'moveId' | 'vm' | 'source' | 'destination' | 'tier' | 'order'
> & {
  readonly bytesPerSec: number;
};

/** The store was restarted or replaced and may have forgotten grants: nothing starts or grows until all hosts were heard. */
export interface Doubt {
  /** The store's generation since which there is doubt. */
  readonly generation: string;
  readonly heard: readonly string[];
}

export interface Grant {
  /** What the migration may use now; 0: wait. */
  readonly bytesPerSec: number;
  /** When waiting: for what, in words. */
  readonly waitingFor: string | null;
  /** It waits, and of all that wait for something on its path it is the first. */
  readonly isNext: boolean;
  /** An evacuation waits for what this rebalance uses: which, in words. It keeps what it has until it has ended. */
  readonly givesWayTo: string | null;
  /** It is an evacuation, and others wait for something on its path and could start if it were free. A rebalance has time. */
  readonly othersWait: boolean;
  /** One that waits for something on its path and has not begun could begin at once if there were a little to begin with. */
  readonly isAwaited: boolean;
  /** The store may have forgotten grants: nothing starts or grows for now. */
  readonly inDoubt: boolean;
  /** It has begun ahead of its turn: what it may use is no useful rate yet, and becomes one when those before it end. */
  readonly isHeadStart: boolean;
}

export interface HostUse {
  readonly host: string;
  readonly egress: { readonly capacity: number; readonly counted: number };
  readonly ingress: { readonly capacity: number; readonly counted: number };
}

/** What all that a migration from one host to another draws on could carry. */
export interface PathRoom {
  readonly capacity: number;
  /** Of that, what nobody uses or has been promised now. */
  readonly free: number;
  /** What carries least: `egress of a`, `link rack1`. */
  readonly narrowest: string;
}

export type Entered = Omit<Demand, 'usesBytesPerSec'>;

/** With a `fence`, a write is made only while the lease is held: a process that comes back late changes nothing. */
export interface Budget {
  /** Enters the demand, or renews it, and says what it may use now. Once started, never below what is in force without an ack. */
  request(demand: Demand, fence?: Fence): Promise<Grant>;
  /** The hypervisor now uses at most this; only then may what was freed go to others. */
  inForce(migrationId: string, bytesPerSec: number, fence?: Fence): Promise<void>;
  /** What it was to get after its head start is not kept for it any longer. Harmless where it has none. */
  endHeadStart(migrationId: string, fence?: Fence): Promise<void>;
  /** The migration is known to have ended (or never to have begun). Harmless twice. */
  release(migrationId: string, fence?: Fence): Promise<void>;
  use(): Promise<readonly HostUse[]>;
  /** What the way from one host to another can carry, by itself and beside what uses it now. */
  room(source: string, destination: string): Promise<PathRoom>;
  /** Whatever is entered, whether it waits or sends. */
  entries(): Promise<readonly Entered[]>;
  /** null: what is entered is all there is. */
  doubt(): Promise<Doubt | null>;
  /**
   * All that leaves a host: the doubt ends with the last of `hosts`, which are those that anybody serves. To be looked at
   * only once nobody can still be about to use a grant from before (a lease's time after the doubt was seen).
   */
  hear(host: string, sent: readonly Sent[], hosts: readonly string[], generation: string): Promise<void>;
}

/** Woken (store/cell.ts `Wakeups`) whenever the budget changed. */
export const BUDGET_TOPIC = 'budget';
