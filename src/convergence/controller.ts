/**
 * What a convergence controller is: a pure decision, made again at every tick. It sees samples and the policy, never a
 * clock or a hypervisor; the same inputs give the same decision.
 */

import type { Reason } from '../domain/errors.ts';
import type { Policy } from '../domain/policy.ts';
import type { DirtyWindow, Prediction } from '../domain/prediction.ts';
import type { GuestFacts } from './dirty-model.ts';

/** One tick's evidence. Times are fleet time. */
export interface ConvergenceSample {
  readonly atMs: number;
  readonly startedAtMs: number;
  readonly pass: number;
  readonly remainingBytes: number;
  readonly transferredBytes: number;
  /** With what is not sent because it is zero. */
  readonly totalBytes: number;
  readonly rateBytesPerSec: number;
  /** As the hypervisor reports it: unique bytes per second over the last pass. */
  readonly dirtyRateBytesPerSec: number;
  readonly grantBytesPerSec: number;
  /** Share in force during the sample. */
  readonly share: number;
  /** CPU the guest got over the last tick as a share of its demand, 0..1. */
  readonly gotShare: number;
  /** Cores that it would use unthrottled now. */
  readonly demandCores: number;
  /** What the migration has cost so far. */
  readonly harmCpuMs: number;
  /** Measured since the last tick. */
  readonly windows: readonly DirtyWindow[];
  /** Others of the same errand cannot go before this one has ended: its time is theirs. Default: nobody does. */
  readonly othersWait?: boolean;
}

/** What a controller is told before its first tick. */
export interface Briefing {
  readonly guest: GuestFacts;
  /** What is known of how it dirties: measured before the start, and earlier migrations; a predecessor's evidence. */
  readonly evidence: readonly DirtyWindow[];
  /** Of the host's fleet clock. */
  readonly nowMs: number;
}

/** A requirement that had to give way, and why in words. */
export interface Relaxation {
  readonly requirement: 'minCpu' | 'maxBandwidth' | 'maxTime' | 'maxStall';
  readonly why: string;
}

export type ConvergenceAction =
  | {
      readonly kind: 'run';
      readonly share: number;
      /** What the switchover may take at most; the guest's whole standstill is a little longer. */
      readonly maxStallMs: number;
      /** Look again no later than this, fleet time from now; null: at the next tick. */
      readonly lookAgainMs: number | null;
      /** The cap for this migration; null: whatever the budget gives. */
      readonly maxBandwidthBytesPerSec: number | null;
    }
  | { readonly kind: 'postCopy'; readonly reason: Reason }
  | { readonly kind: 'abort'; readonly reason: Reason };

export interface Decision<State> {
  readonly action: ConvergenceAction;
  /** In words that an operator understands. */
  readonly reason: string;
  readonly next: State;
  /** What has given way by now; what is in it once stays in it. */
  readonly relaxed: readonly Relaxation[];
  /** From now on; null: cannot tell. */
  readonly prediction: Prediction | null;
  /** Evidence that a successor, and a later migration of this VM, should know. */
  readonly evidence: readonly DirtyWindow[];
  /** What the hypervisor said that cannot be, and what of the guest has changed: one line each, said once. */
  readonly notes: readonly string[];
}

export interface Controller<State> {
  readonly name: string;
  start(policy: Policy, briefing: Briefing): State;
  decide(state: State, sample: ConvergenceSample, policy: Policy): Decision<State>;
}
