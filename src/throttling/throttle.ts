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
  set(fence: Fence, target: ThrottleTarget & { readonly share: number; readonly validForMs: number }): Promise<void>;
  /** Back to what it was. Harmless when there is nothing to lift. */
  release(fence: Fence, target: ThrottleTarget): Promise<void>;
  guestCpu(target: ThrottleTarget): Promise<GuestCpu>;
}
