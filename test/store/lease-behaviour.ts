/** What leases promise, whatever keeps them. Runs on memory (virtual time) and on Redis (real time, with a clock that can jump). */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isLease, type Lease, type LeaseOwner, type Leases } from '../../src/store/lease.ts';

export interface LeaseHarness {
  /** A process that competes for leases. `ttlMs` is real time. */
  process(
    owner: LeaseOwner,
    options: { readonly ttlMs: number; readonly isDead?: (owner: LeaseOwner) => boolean },
  ): Leases;
  /** Lets time pass (virtual or real) until the condition holds; throws when it does not within `limitMs`. */
  until(condition: () => boolean | Promise<boolean>, limitMs: number): Promise<void>;
  /** The holders' clock goes on by this much, as for a process that was stopped; the store's goes on too where it can. */
  skip(ms: number): Promise<void>;
  /** From now on nobody reaches the store, or (false) everybody does again. */
  away(away: boolean): Promise<void>;
  close(): Promise<void>;
}

function owner(id: string, pid = 1): LeaseOwner {
  return { id, machine: 'machine', pid, startTicks: 1 };
}

async function taken(leases: Leases, name = 'vm'): Promise<Lease> {
  const lease = await leases.acquire(name);
  if (!isLease(lease)) throw new Error(`held by ${lease.heldBy.id} for ${lease.forMs} ms`);
  return lease;
}

const LONG_MS = 30_000;

export function leaseBehaviour(name: string, open: () => Promise<LeaseHarness>): void {
  describe(`${name}: leases`, () => {
    let at: LeaseHarness;
    beforeEach(async () => {
      at = await open();
    });
    afterEach(() => at.close());

    test('one holder at a time; the other learns who it is and for how long', async () => {
      const a = at.process(owner('a'), { ttlMs: LONG_MS });
      const b = at.process(owner('b', 2), { ttlMs: LONG_MS });
      const lease = await taken(a);
      expect(lease.held()).toBe(true);
      lease.assertHeld();
      const refused = await b.acquire('vm');
      if (isLease(refused)) throw new Error('both hold it');
      expect(refused.heldBy).toEqual(owner('a'));
      expect(refused.forMs).toBeGreaterThan(LONG_MS - 5_000);
      expect(refused.forMs).toBeLessThanOrEqual(LONG_MS);
      expect(isLease(await b.acquire('another vm'))).toBe(true);
    });

    test('a process does not get its own lease a second time', async () => {
      const a = at.process(owner('a'), { ttlMs: LONG_MS });
      await taken(a);
      expect(isLease(await a.acquire('vm'))).toBe(false);
    });

    test('many who ask at once: one gets it', async () => {
      const processes = Array.from({ length: 8 }, (_, n) => at.process(owner(`p${n}`, n), { ttlMs: LONG_MS }));
      const answers = await Promise.all(processes.map((leases) => leases.acquire('vm')));
      expect(answers.filter(isLease)).toHaveLength(1);
    });

    test('the fencing token grows with every holder, also after a release, also over names', async () => {
      const a = at.process(owner('a'), { ttlMs: LONG_MS });
      const b = at.process(owner('b', 2), { ttlMs: LONG_MS });
      const tokens: number[] = [];
      for (const leases of [a, b, a, b]) {
        const lease = await taken(leases);
        tokens.push(lease.token, (await taken(leases, `other ${tokens.length}`)).token);
        await lease.release();
      }
      expect(tokens).toEqual([...tokens].sort((x, y) => x - y));
      expect(new Set(tokens).size).toBe(tokens.length);
    });

    test('a released lease is not held any more, and the next one has it at once', async () => {
      const a = at.process(owner('a'), { ttlMs: LONG_MS });
      const lease = await taken(a);
      await lease.release();
      expect(lease.held()).toBe(false);
      expect(() => lease.assertHeld()).toThrow(/no longer holds/);
      expect(await lease.keep()).toBe(false);
      await taken(at.process(owner('b', 2), { ttlMs: LONG_MS }));
      await lease.release();
    });

    test('releasing an old lease does not take it from its new holder', async () => {
      const a = at.process(owner('a'), { ttlMs: 300 });
      const b = at.process(owner('b', 2), { ttlMs: LONG_MS });
      const old = await taken(a);
      let successor: Lease | undefined;
      await at.until(async () => {
        const answer = await b.acquire('vm');
        if (isLease(answer)) successor = answer;
        return successor !== undefined;
      }, 10_000);
      await old.release();
      expect(isLease(await a.acquire('vm'))).toBe(false);
      expect(await successor?.keep()).toBe(true);
    });

    test('a holder that slept past its ttl sees at once that it lost the lease, and never gets it back', async () => {
      const lease = await taken(at.process(owner('a'), { ttlMs: LONG_MS }));
      await at.skip(LONG_MS * 0.89);
      expect(lease.held()).toBe(true);
      await at.skip(LONG_MS * 0.02);
      expect(lease.held()).toBe(false);
      expect(() => lease.assertHeld()).toThrow(expect.objectContaining({ code: 'leaseLost' }));
      expect(await lease.keep()).toBe(false);
      expect(lease.held()).toBe(false);
    });

    test('a lease that is kept outlives its ttl many times; unkept it goes to the next', async () => {
      const a = at.process(owner('a'), { ttlMs: 600 });
      const b = at.process(owner('b', 2), { ttlMs: 600 });
      const lease = await taken(a);
      let ticks = 0;
      await at.until(async () => {
        if (!(await lease.keep())) throw new Error(`lost in tick ${ticks}`);
        expect(isLease(await b.acquire('vm'))).toBe(false);
        ticks += 1;
        return ticks === 60;
      }, 60_000);
      let successor: Lease | undefined;
      await at.until(async () => {
        const answer = await b.acquire('vm');
        if (isLease(answer)) successor = answer;
        return successor !== undefined;
      }, 10_000);
      expect(lease.held()).toBe(false);
      expect(successor?.token).toBeGreaterThan(lease.token);
    });

    test('a dead process is succeeded at once, a living or unknown one is waited for', async () => {
      const a = at.process(owner('a', 11), { ttlMs: LONG_MS });
      const old = await taken(a);
      await taken(a, 'other');
      const unsure = at.process(owner('b', 2), { ttlMs: LONG_MS });
      expect(isLease(await unsure.acquire('vm'))).toBe(false);
      const knowing = at.process(owner('c', 3), { ttlMs: LONG_MS, isDead: ({ pid }) => pid === 11 });
      const lease = await taken(knowing);
      expect(lease.token).toBeGreaterThan(old.token);
      const refused = await at
        .process(owner('d', 4), { ttlMs: LONG_MS, isDead: ({ pid }) => pid === 11 })
        .acquire('vm');
      expect(isLease(refused) ? null : refused.heldBy.id).toBe('c');
    });

    test('two who find the same dead holder: one succeeds it', async () => {
      await taken(at.process(owner('a', 11), { ttlMs: LONG_MS }));
      const heirs = Array.from({ length: 6 }, (_, n) =>
        at.process(owner(`h${n}`, 20 + n), { ttlMs: LONG_MS, isDead: ({ pid }) => pid === 11 }),
      );
      const answers = await Promise.all(heirs.map((leases) => leases.acquire('vm')));
      expect(answers.filter(isLease)).toHaveLength(1);
    });

    test('a holder whose lease went to a successor finds out at its next renewal', async () => {
      const a = at.process(owner('a', 11), { ttlMs: LONG_MS });
      const lease = await taken(a);
      await taken(at.process(owner('b', 2), { ttlMs: LONG_MS, isDead: ({ pid }) => pid === 11 }));
      await at.skip(LONG_MS / 2);
      expect(await lease.keep()).toBe(false);
      expect(lease.held()).toBe(false);
    });

    test('whoever let its lease run out without a word is a predecessor until it is dead, forgotten, or says so', async () => {
      const a = at.process(owner('a', 11), { ttlMs: 300 });
      const b = at.process(owner('b', 12), { ttlMs: 300 });
      const successor = async (as: Leases): Promise<Lease> => {
        let lease: Lease | undefined;
        await at.until(async () => {
          const answer = await as.acquire('vm');
          if (isLease(answer)) lease = answer;
          return lease !== undefined;
        }, 10_000);
        if (lease === undefined) throw new Error('nobody');
        return lease;
      };
      const first = await taken(a);
      expect(await first.predecessors()).toEqual([]);
      const second = await successor(b);
      expect(await second.predecessors()).toEqual([owner('a', 11)]);
      const c = at.process(owner('c', 13), { ttlMs: LONG_MS, isDead: ({ pid }) => pid === 12 });
      const third = await successor(c);
      expect(await third.predecessors()).toEqual([owner('a', 11)]);
      await first.release();
      expect(await third.predecessors()).toEqual([]);
      expect(third.held()).toBe(true);
      await third.release();

      await successor(a);
      const fifth = await successor(at.process(owner('d', 14), { ttlMs: LONG_MS }));
      // `b` was known to be dead when it was succeeded, so nobody need think of it again.
      expect(await fifth.predecessors()).toEqual([owner('a', 11)]);
      await fifth.forgetPredecessors();
      expect(await fifth.predecessors()).toEqual([]);
    });

    test('a store that cannot be reached is no loss until the time is out', async () => {
      const lease = await taken(at.process(owner('a'), { ttlMs: LONG_MS }));
      await at.away(true);
      await at.skip(LONG_MS / 2);
      expect(await lease.keep()).toBe(true);
      await at.skip(LONG_MS / 2);
      expect(await lease.keep()).toBe(false);
    });

    test('a lease is renewed as soon as the store is back', async () => {
      const lease = await taken(at.process(owner('a'), { ttlMs: LONG_MS }));
      await at.away(true);
      await at.skip(LONG_MS / 2);
      expect(await lease.keep()).toBe(true);
      await at.away(false);
      await at.until(() => lease.keep().then(() => true), 5_000);
      await at.skip(LONG_MS / 2);
      expect(lease.held()).toBe(true);
    });

    test('asking for a lease while the store is away fails in a bounded time', async () => {
      const leases = at.process(owner('a'), { ttlMs: 1_000 });
      await at.away(true);
      await expect(leases.acquire('vm')).rejects.toMatchObject({ code: 'redisAway' });
    });
  });
}
