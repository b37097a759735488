/**
 * Leases in Redis. `<prefix>:lease:<name>` is a hash of token, owner and the nonce of the request that took it, and
 * expires with the ttl; `<prefix>:lease-token` counts tokens for the whole prefix and is never reset;
 * `<prefix>:lease-past:<name>` is a hash, by token, of those who took it and have not given it back: when they last
 * confirmed it (Redis's seconds) and who they are. What a
 * holder may conclude from time is in held-lease.ts.
 */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { settledWithin } from '../clock/abortable-sleep.ts';
import type { Clock } from '../clock/clock.ts';
import { RealClock } from '../clock/real-clock.ts';
import { HeldLease, LEASE_TTL_MS } from './held-lease.ts';
import type { Lease, LeaseOwner, Leases } from './lease.ts';
import { RedisScript, reachable, redisAddress, redisAway } from './redis-script.ts';

/** A process that lost its lease so long ago (s) is not expected to wake up any more. */
const PAST_S = 3_600;

/** Answers {1, token} or {0, token of the holder, its owner, ms left}. The nonce makes a script that was sent twice harmless. */
const ACQUIRE = new RedisScript(`
-- KEYS: lease, token counter, past. ARGV: nonce, owner, ttl ms, token of a dead holder or '', s that past owners count
local held = redis.call('HMGET', KEYS[1], 'token', 'owner', 'nonce')
if held[1] and held[3] == ARGV[1] then return {1, held[1]} end
if held[1] and held[1] ~= ARGV[4] then return {0, held[1], held[2], redis.call('PTTL', KEYS[1])} end
if held[1] then redis.call('HDEL', KEYS[3], held[1]) end
local token = redis.call('INCR', KEYS[2])
redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[2], 'nonce', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local now = redis.call('TIME')[1]
local past = redis.call('HGETALL', KEYS[3])
for i = 1, #past, 2 do
  local at, owner = string.match(past[i + 1], '^(%d+) (.*)$')
  if not at or owner == ARGV[2] or now - at > tonumber(ARGV[5]) then redis.call('HDEL', KEYS[3], past[i]) end
end
redis.call('HSET', KEYS[3], token, now .. ' ' .. ARGV[2])
redis.call('EXPIRE', KEYS[3], ARGV[5])
return {1, token}
`);
const RENEW = new RedisScript(`
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], redis.call('TIME')[1] .. ' ' .. ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[4])
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`);
const RELEASE = new RedisScript(`
redis.call('HDEL', KEYS[2], ARGV[1])
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`);

const counted = z.union([z.string(), z.number()]).transform(Number);
const takenSchema = z.tuple([z.literal(1), counted]);
const refusedSchema = z.tuple([z.literal(0), counted, z.string(), z.number()]);
const ownerSchema = z.object({ id: z.string(), machine: z.string(), pid: z.number(), startTicks: z.number() });

export interface RedisLeasesOptions {
  readonly redis: Redis;
  readonly prefix: string;
  readonly owner: LeaseOwner;
  /** True only for an owner that is known to be gone for good (runtime/process-identity.ts). */
  readonly isDead?: (owner: LeaseOwner) => boolean;
  readonly ttlMs?: number;
  readonly clock?: Clock;
}

export class RedisLeases implements Leases {
  readonly #redis: Redis;
  readonly #prefix: string;
  readonly #owner: LeaseOwner;
  readonly #isDead: (owner: LeaseOwner) => boolean;
  readonly #ttlMs: number;
  readonly #clock: Clock;

  constructor(options: RedisLeasesOptions) {
    this.#redis = options.redis;
    this.#prefix = options.prefix;
    this.#owner = options.owner;
    this.#isDead = options.isDead ?? (() => false);
    this.#ttlMs = options.ttlMs ?? LEASE_TTL_MS;
    this.#clock = options.clock ?? new RealClock();
  }

  /** Throws `redisAway` when Redis does not answer within half a ttl; an answer that comes later is given back. */
  async acquire(name: string): Promise<Lease | { readonly heldBy: LeaseOwner; readonly forMs: number }> {
    let deadToken = '';
    for (;;) {
      const sentAtMs = this.#clock.monotonic();
      const reply = await this.#request(name, deadToken);
      const taken = takenSchema.safeParse(reply);
      if (taken.success) return this.#lease(name, taken.data[1], sentAtMs);
      const [, token, ownerText, leftMs] = refusedSchema.parse(reply);
      const owner = ownerSchema.parse(JSON.parse(ownerText));
      if (String(token) === deadToken || !this.#isDead(owner)) return { heldBy: owner, forMs: Math.max(0, leftMs) };
      deadToken = String(token);
    }
  }

  async #request(name: string, deadToken: string): Promise<unknown> {
    const nonce = randomBytes(9).toString('base64url');
    const request = ACQUIRE.run(
      this.#redis,
      [this.#key(name), `${this.#prefix}:lease-token`, this.#pastKey(name)],
      [nonce, JSON.stringify(this.#owner), this.#ttlMs, deadToken, PAST_S],
    );
    const answer = await settledWithin(request, this.#ttlMs / 2);
    if (answer !== undefined) return answer.value;
    request
      .then((late) => {
        const taken = takenSchema.safeParse(late);
        return taken.success ? this.#release(name, taken.data[1]) : undefined;
      })
      .catch(() => undefined);
    throw redisAway(redisAddress(this.#redis.options), `no answer within ${this.#ttlMs / 2} ms`);
  }

  #lease(name: string, token: number, sentAtMs: number): Lease {
    return new HeldLease({
      name,
      token,
      ttlMs: this.#ttlMs,
      sentAtMs,
      clock: this.#clock,
      renew: async () => {
        const keys = [this.#key(name), this.#pastKey(name)];
        return (await RENEW.run(this.#redis, keys, [token, this.#ttlMs, JSON.stringify(this.#owner), PAST_S])) === 1;
      },
      release: () => this.#release(name, token),
      predecessors: async () => (await this.#past(name, token)).map(({ owner }) => owner),
      forgetPredecessors: async () => {
        const past = await this.#past(name, token);
        if (past.length > 0) {
          await reachable(this.#redis, this.#redis.hdel(this.#pastKey(name), ...past.map((one) => String(one.token))));
        }
      },
    });
  }

  async #release(name: string, token: number): Promise<void> {
    await RELEASE.run(this.#redis, [this.#key(name), this.#pastKey(name)], [token]);
  }

  /** Without this process's own earlier leases: it sees itself that they are lost. */
  async #past(name: string, before: number): Promise<{ token: number; owner: LeaseOwner }[]> {
    const past = await reachable(this.#redis, this.#redis.hgetall(this.#pastKey(name)));
    return Object.entries(past)
      .map(([token, entry]) => ({
        token: Number(token),
        owner: ownerSchema.parse(JSON.parse(entry.slice(entry.indexOf(' ') + 1))),
      }))
      .filter(({ token, owner }) => token < before && owner.id !== this.#owner.id && !this.#isDead(owner));
  }

  #pastKey(name: string): string {
    return `${this.#prefix}:lease-past:${name}`;
  }

  #key(name: string): string {
    return `${this.#prefix}:lease:${name}`;
  }
}
