/**
 * What is believed of how a guest dirties memory: D(u), the different bytes dirtied while it gets `u` of the CPU time it
 * demands. D grows with the raw rate r and ends at the writable working set W. Shapes; the curve itself is `dirtying.ts`,
 * how evidence becomes belief is `fit.ts`.
 */

/**
 * `sweep`: goes through its working set and writes no page twice before it has written all: D = min(W, r u).
 * `random`: any page at any time: D = W (1 - e^(-r u / W)).
 */
export type Pattern = 'sweep' | 'random';

/** One possible guest. The weights of all sum up to 1. */
export interface Hypothesis {
  readonly rateBytesPerSec: number;
  readonly workingSetBytes: number;
  readonly pattern: Pattern;
  readonly weight: number;
}

/**
 * A figure as far as evidence tells. `value` is null where evidence gives a bound only: then `low` or `high` is that bound
 * (a guest whose set is dirtied within the shortest look: r is at least ..., one that never filled it: W is at least ...).
 */
export interface Estimate {
  readonly value: number | null;
  /** 0 and null: no bound on that side. */
  readonly low: number;
  readonly high: number | null;
}

export interface DirtyModel {
  readonly rateBytesPerSec: Estimate;
  readonly workingSetBytes: Estimate;
  /** null: evidence cannot tell. */
  readonly pattern: Pattern | null;
  /** A few tens, by descending weight: predictions are made for each. */
  readonly hypotheses: readonly Hypothesis[];
  /** The last time it began to behave otherwise, in fleet time, and how, in words; null: not since there is evidence. */
  readonly change: { readonly atMs: number; readonly what: string } | null;
}

/** What is known of the guest beside its dirtying. */
export interface GuestFacts {
  readonly memoryBytes: number;
  /** What has to be sent at least once. */
  readonly touchedBytes: number;
  /** Cores that it would use unthrottled. */
  readonly demandCores: number;
  /** What its hypervisor needs for a switchover beside sending the last bytes, ms; default: what QEMU asked directly does. */
  readonly handoverMs?: number | undefined;
}
