/**
 * Leases in one process's memory, for tests and virtual-time runs. Several "processes" compete by sharing one
 * `MemoryLeaseTable`, each with its own owner.
 */
import type { Clock } from '../clock/clock.ts';
import { HostevacError } from '../domain/errors.ts';
import { HeldLease, LEASE_TTL_MS } from './held-lease.ts';
import type { Lease, LeaseOwner, Leases } from './lease.ts';

interface Holder {
  readonly token: number;
  readonly owner: LeaseOwner;
  readonly untilMs: number;
}

/** What Redis would hold. */
export class MemoryLeaseTable {
  readonly holders = new Map<string, Holder>();
  /** Who took each lease and has not given it back. */
  readonly past = new Map<string, readonly { readonly token: number; readonly owner: LeaseOwner }[]>();
  lastToken = 0;
  /** True: nobody reaches the table, as when Redis is away. */
  away = false;

  assertReachable(): void {
    if (this.away) throw new HostevacError('redisAway', 'the lease table does not answer; wait until it is back');
  }
}

export interface MemoryLeasesOptions {
  readonly table?: MemoryLeaseTable;
  /** How what is asked of the table gets there, and its answer back. At once without. */
  readonly link?: <T>(effect: () => T) => Promise<T>;
  readonly ttlMs?: number;
  /** True only for an owner that is known to be gone for good. */
  readonly isDead?: (owner: LeaseOwner) => boolean;
}

export class MemoryLeases implements Leases {
  readonly #clock: Clock;
  readonly #owner: LeaseOwner;
  readonly #table: MemoryLeaseTable;
  readonly #ttlMs: number;
  readonly #isDead: (owner: LeaseOwner) => boolean;
  readonly #link: <T>(effect: () => T) => Promise<T>;

  constructor(clock: Clock, owner: LeaseOwner, options: MemoryLeasesOptions = {}) {
    this.#clock = clock;
    this.#owner = owner;
    this.#table = options.table ?? new MemoryLeaseTable();
    this.#ttlMs = options.ttlMs ?? LEASE_TTL_MS;
    this.#isDead = options.isDead ?? (() => false);
    this.#link = options.link ?? (async (effect) => effect());
  }

  async acquire(name: string): Promise<Lease | { readonly heldBy: LeaseOwner; readonly forMs: number }> {
    const sentAtMs = this.#clock.monotonic();
    const token = await this.#link(() => this.#take(name));
    if (typeof token !== 'number') return token;
    const predecessors = () =>
      this.#past(name).filter(
        (one) => one.token < token && one.owner.id !== this.#owner.id && !this.#isDead(one.owner),
      );
    return new HeldLease({
      name,
      token,
      ttlMs: this.#ttlMs,
      sentAtMs,
      clock: this.#clock,
      renew: () => this.#link(() => this.#renew(name, token)),
      release: () =>
        this.#link(() => {
          this.#table.assertReachable();
          this.#forget(name, [token]);
          if (this.#stillHolds(name, token)) this.#table.holders.delete(name);
        }),
      predecessors: () => this.#link(() => predecessors().map(({ owner }) => owner)),
      forgetPredecessors: () =>
        this.#link(() =>
          this.#forget(
            name,
            predecessors().map((one) => one.token),
          ),
        ),
    });
  }

  /** The token; or who holds it. */
  #take(name: string): number | { readonly heldBy: LeaseOwner; readonly forMs: number } {
    this.#table.assertReachable();
    const nowMs = this.#clock.monotonic();
    const holder = this.#table.holders.get(name);
    if (holder !== undefined && holder.untilMs > nowMs && !this.#isDead(holder.owner)) {
      return { heldBy: holder.owner, forMs: holder.untilMs - nowMs };
    }
    // Who succeeds a dead holder knows that it is dead.
    if (holder !== undefined && this.#isDead(holder.owner)) this.#forget(name, [holder.token]);
    this.#table.lastToken += 1;
    const token = this.#table.lastToken;
    this.#table.holders.set(name, { token, owner: this.#owner, untilMs: nowMs + this.#ttlMs });
    this.#table.past.set(name, [...this.#past(name), { token, owner: this.#owner }]);
    return token;
  }

  #past(name: string): readonly { readonly token: number; readonly owner: LeaseOwner }[] {
    return this.#table.past.get(name) ?? [];
  }

  #forget(name: string, tokens: readonly number[]): void {
    this.#table.past.set(
      name,
      this.#past(name).filter((one) => !tokens.includes(one.token)),
    );
  }

  #renew(name: string, token: number): boolean {
    if (!this.#stillHolds(name, token)) return false;
    const untilMs = this.#clock.monotonic() + this.#ttlMs;
    this.#table.holders.set(name, { token, owner: this.#owner, untilMs });
    return true;
  }

  #stillHolds(name: string, token: number): boolean {
    this.#table.assertReachable();
    const holder = this.#table.holders.get(name);
    return holder?.token === token && holder.untilMs > this.#clock.monotonic();
  }
}
