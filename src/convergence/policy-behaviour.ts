/**
 * What a policy is: a small pure choice among what could be done, each with what it is predicted to cost. The requirements
 * are not its business: what is offered keeps them (or stands under `relaxed`, told before). A user's module supplies one
 * by name; see docs/policies.md.
 */
import type { Policy } from '../domain/policy.ts';
import type { Prediction } from '../domain/prediction.ts';
import type { ThrottlePlan } from './forward.ts';

export interface Candidate extends ThrottlePlan {
  /** From now on. */
  readonly prediction: Prediction;
}

export interface PolicyView {
  readonly policy: Policy;
  /** By descending share, at least one; the first is to let the guest run free. */
  readonly candidates: readonly Candidate[];
  readonly elapsedMs: number;
  /** Until the max time is over. */
  readonly timeLeftMs: number;
  /** What this migration has cost its guest so far. */
  readonly spentHarmCpuMs: number;
  /** Least total (spent and to come) that was predicted when throttling was first thought of; null: not yet. */
  readonly leastHarmCpuMs: number | null;
  /** The share chosen last time. */
  readonly share: number;
}

export interface Choice {
  readonly candidate: Candidate;
  /** In words that an operator understands: why this one. */
  readonly why: string;
}

export interface PolicyBehaviour {
  readonly name: string;
  /** One paragraph for people: what it is for, and the curve it gives. */
  readonly what: string;
  choose(view: PolicyView): Choice;
}
