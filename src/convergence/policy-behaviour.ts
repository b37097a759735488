/**
 * What a policy is: a small pure choice among what could be done, each with what it is predicted to cost. The requirements
 * are not its business: what is offered keeps them (or stands under `relaxed`, told before). A user's module supplies one
 * by name; see docs/policies.md.
 */
import type { Policy } from '../domain/policy.ts';
import type { Prediction } from '../domain/prediction.ts';
import type { ThrottlePlan } from './forward.ts';

/**
 * The expected figures are means over all guests that this one may be, from now on, knowing that it will be decided again:
 * a guest that turns out to end by itself before a throttle of `nextPass` begins will be let, and a plan that turns out to
 * lead nowhere will be given up for a better one.
 */
export interface Candidate extends ThrottlePlan {
  readonly expectedHarmCpuMs: number;
  readonly expectedTotalMs: number;
  /** The same, but a guest that a plan never ends counts as when that is noticed, not with all the time there is. */
  readonly expectedEndMs: number;
  /** 0..1: how likely it is that the migration ends within its max time. */
  readonly endsInTime: number;
  /** Of this plan, held to the end, from now on. Made when it is read. */
  readonly prediction: Prediction;
}

export interface PolicyView {
  readonly policy: Policy;
  /** By descending share, at least one; the first is to let the guest run free. */
  readonly candidates: readonly Candidate[];
  readonly elapsedMs: number;
  /** 0: not begun; 1: all of its memory is sent for the first time; then what it has written meanwhile. */
  readonly pass: number;
  /** Until the max time is over. */
  readonly timeLeftMs: number;
  /** What this migration has cost its guest so far. */
  readonly spentHarmCpuMs: number;
  /**
   * The least that it could have cost in all (spent and to come) when throttling was first thought of, by what is known
   * now. As long as the guest runs free: the least from here.
   */
  readonly leastHarmCpuMs: number;
  /** The share that the guest is held to now. */
  readonly share: number;
  /** Cores that the guest would use unthrottled now. */
  readonly demandCores: number;
  /** Evacuations wait for the bandwidth that this one uses. */
  readonly othersWait: boolean;
}

export interface Choice {
  /** One of those offered. */
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
