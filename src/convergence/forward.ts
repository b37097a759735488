/**
 * One migration played forward for one hypothesis of its guest and one plan of throttling: pass by pass, as QEMU does it
 * (see src/hypervisors/simulated/passes.ts, whose arithmetic is held against real QEMU). Pure.
 */
import type { GuestFacts, Hypothesis } from './dirty-model.ts';

/** When the guest is slowed, and how much. `nextPass`: it runs free until the pass that is being sent has ended. */
export interface ThrottlePlan {
  readonly share: number;
  readonly begins: 'now' | 'nextPass';
}

/** Where a migration stands. Before its start: pass 0, nothing sent. */
export interface Standing {
  readonly pass: number;
  /** Of this pass, still to be sent. In the first pass zero pages (which cost nothing) are not counted. */
  readonly leftBytes: number;
  /** CPU time (share x time, ms) that the guest has got since this pass began. */
  readonly cpuMsInPass: number;
  readonly passElapsedMs: number;
  readonly transferredBytes: number;
  /** What is sent with, bytes/s; what is granted or seen, whichever is less. */
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
  readonly guest: GuestFacts;
}

/** From now to its end. */
export interface Outcome {
  /** False: not within `limitMs`; the other figures are those at the limit. */
  readonly ends: boolean;
  readonly totalMs: number;
  readonly downtimeMs: number;
  readonly transferredBytes: number;
  readonly harmCpuMs: number;
  readonly meanShare: number;
  /** What the passes to come leave, bytes; the first is the one being sent. */
  readonly leftAfterPasses: readonly number[];
}

export declare function playForward(from: Standing, guest: Hypothesis, plan: ThrottlePlan, limitMs: number): Outcome;
