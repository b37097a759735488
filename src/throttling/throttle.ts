/**
 * The port to CPU throttling, from outside the guest. A share is of what the guest *demands*. A throttle that is not
 * renewed within `validForMs` (real time) lifts itself, whatever became of the worker.
 */

import type { Reason } from '../domain/errors.ts';
import type { Fence } from '../store/lease.ts';

export interface ThrottleTarget {
  readonly host: string;
  readonly vm: string;
}

export interface ThrottleTerms {
  readonly share: number;
  readonly validForMs: number;
  /** No busy vCPU may wait longer than this for CPU because of the throttle (max stall), real ms. */
  readonly longestStretchMs: number;
}

export interface GuestCpu {
  readonly atMs: number;
  /** CPU time that the vCPU threads have got, ms, since the VM started here. */
  readonly gotCpuMs: number;
  /** Cores it would use unthrottled now. */
  readonly demandCores: number;
  /** In force now. */
  readonly share: number;
}

export interface Throttle {
  /** null: guests of this host can be throttled; else why not and what to grant. */
  unavailable(host: string): Promise<Reason | null>;
  /** A share that cannot be had without a longer stretch than that is raised until it can; `guestCpu` tells. */
  set(fence: Fence, target: ThrottleTarget & ThrottleTerms): Promise<void>;
  /** Back to what it was. Harmless when there is nothing to lift. */
  release(fence: Fence, target: ThrottleTarget): Promise<void>;
  guestCpu(target: ThrottleTarget): Promise<GuestCpu>;
}
