/**
 * What a convergence controller is: a pure decision, made again at every tick. It sees samples and the policy, never a
 * clock or a hypervisor; the same inputs give the same decision.
 */

import type { Reason } from '../domain/errors.ts';
import type { Policy } from '../domain/policy.ts';

/** One tick's evidence. Times are fleet time. */
export interface ConvergenceSample {
  readonly atMs: number;
  readonly startedAtMs: number;
  readonly pass: number;
  readonly remainingBytes: number;
  readonly transferredBytes: number;
  readonly rateBytesPerSec: number;
  /** As the hypervisor reports it: unique bytes per second over the last pass. */
  readonly dirtyRateBytesPerSec: number;
  readonly grantBytesPerSec: number;
  /** Share in force during the sample. */
  readonly share: number;
  /** CPU the guest got over the last tick as a share of its demand, 0..1. */
  readonly gotShare: number;
}

export type ConvergenceAction =
  | { readonly kind: 'run'; readonly share: number; readonly downtimeLimitMs: number }
  | { readonly kind: 'abort'; readonly reason: Reason };

export interface Decision<State> {
  readonly action: ConvergenceAction;
  /** In words that an operator understands. */
  readonly reason: string;
  readonly next: State;
}

export interface Controller<State> {
  readonly name: string;
  start(policy: Policy): State;
  decide(state: State, sample: ConvergenceSample, policy: Policy): Decision<State>;
}
