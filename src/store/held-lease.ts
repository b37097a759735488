/**
 * The holder's side of a lease: pure bookkeeping of monotonic time around a store that grants and renews. Shared by the
 * Redis and the in-memory leases, so that what tests see in virtual time is what runs.
 *
 * Validity. The store counts `ttlMs` from when it carries a request out, which is after we sent it. So the lease is ours
 * for at least `ttlMs` from the moment before sending; we use `LEASE_MARGIN` less. The margin covers a store whose clock
 * runs faster than ours and the way of a write from `assertHeld()` to its receiver. With the default of 5 s: valid
 * for 4.5 s, renewed from 1.67 s on, so renewals may fail for almost 3 s before the lease is lost. What the margin
 * cannot cover (a process stopped between check and write, the store's wall clock set forward) the token fences.
 */
import { type Clock, OVER } from '../clock/clock.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Lease, LeaseOwner } from './lease.ts';

/** Real ms. Long enough to outlive a slow disk or a failover, short enough that a successor does not wait for long. */
export const LEASE_TTL_MS = 5_000;
/** Part of the ttl that the holder never uses. */
const LEASE_MARGIN = 0.1;
/** Longest that a tick waits for a renewal's answer, or a release's. */
const ANSWER_MS = 500;

export interface HeldLeaseOptions {
  readonly name: string;
  readonly token: number;
  readonly ttlMs: number;
  /** Monotonic time before the request that took it was sent. */
  readonly sentAtMs: number;
  readonly clock: Clock;
  /** True: the store still has our token and now counts a full ttl. False: somebody else's, or nobody's. Throws: no answer. */
  readonly renew: () => Promise<boolean>;
  /** Ours no more, and no longer acting, whether the store still has our token or not. */
  readonly release: () => Promise<void>;
  readonly predecessors: () => Promise<readonly LeaseOwner[]>;
  readonly forgetPredecessors: () => Promise<void>;
}

export class HeldLease implements Lease {
  readonly name: string;
  readonly token: number;
  readonly #options: HeldLeaseOptions;
  #confirmedAtMs: number;
  #lost = false;
  #released = false;
  #renewal: Promise<void> | null = null;

  constructor(options: HeldLeaseOptions) {
    this.name = options.name;
    this.token = options.token;
    this.#options = options;
    this.#confirmedAtMs = options.sentAtMs;
  }

  predecessors(): Promise<readonly LeaseOwner[]> {
    return this.#options.predecessors();
  }

  forgetPredecessors(): Promise<void> {
    return this.#options.forgetPredecessors();
  }

  held(): boolean {
    if (!this.#lost && this.#age() >= this.#options.ttlMs * (1 - LEASE_MARGIN)) this.#lost = true;
    return !this.#lost;
  }

  assertHeld(): void {
    if (!this.held()) {
      throw new HostevacError(
        'leaseLost',
        `${this.name}: this process no longer holds the lease (token ${this.token})`,
      );
    }
  }

  async keep(): Promise<boolean> {
    if (!this.held()) return false;
    if (this.#age() < this.#options.ttlMs / 3) return true;
    this.#renewal ??= this.#renew();
    // A renewal without an answer goes on behind our back; the caller's tick does not wait for it longer than this.
    const { clock, ttlMs } = this.#options;
    const answered = new AbortController();
    await Promise.race([this.#renewal, clock.sleepReal(Math.min(ttlMs * LEASE_MARGIN, ANSWER_MS), answered.signal)]);
    answered.abort(OVER);
    return this.held();
  }

  async release(): Promise<void> {
    if (this.#released) return;
    this.#released = true;
    this.#lost = true;
    const answered = new AbortController();
    try {
      await Promise.race([this.#options.release(), this.#options.clock.sleepReal(ANSWER_MS, answered.signal)]);
    } catch {
      // The store is away: the lease ends by its own time.
    } finally {
      answered.abort(OVER);
    }
  }

  #age(): number {
    return this.#options.clock.monotonic() - this.#confirmedAtMs;
  }

  async #renew(): Promise<void> {
    const sentAtMs = this.#options.clock.monotonic();
    try {
      if (await this.#options.renew()) this.#confirmedAtMs = Math.max(this.#confirmedAtMs, sentAtMs);
      else this.#lost = true;
    } catch {
      // No answer is not "lost": the time that was confirmed before still counts, and the next tick tries again.
    } finally {
      this.#renewal = null;
    }
  }
}
