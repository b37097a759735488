/** The Redis stores: the shared behaviour, and what only a real connection can break. */
import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Clock } from '../../src/clock/clock.ts';
import { RealClock } from '../../src/clock/real-clock.ts';
import type { OperationEvent } from '../../src/domain/operation.ts';
import { isLease } from '../../src/store/lease.ts';
import { RedisLeases } from '../../src/store/redis-leases.ts';
import { RedisCellStore, RedisEventLog, RedisWakeups } from '../../src/store/redis-store.ts';
import { until } from '../support/condition.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';
import { SocketRelay } from '../support/socket-relay.ts';
import { leaseBehaviour } from './lease-behaviour.ts';
import { storeBehaviour } from './store-behaviour.ts';

describe.skipIf(testRedisSocket() === '')('redis', () => {
  let server: TestRedis;
  beforeAll(async () => {
    server = await testRedis();
  });
  afterAll(() => server.close());
  const freshPrefix = (): string => `${server.prefix}${randomBytes(4).toString('hex')}`;

  storeBehaviour('redis', async () => {
    const prefix = freshPrefix();
    const side = async (): Promise<{ redis: Redis; wakeups: RedisWakeups }> => {
      const redis = await server.open('worker');
      return { redis, wakeups: new RedisWakeups(redis, () => server.open('subscriber'), prefix) };
    };
    const one = await side();
    const other = await side();
    const clock = new RealClock();
    return {
      cells: [new RedisCellStore(one.redis, prefix), new RedisCellStore(other.redis, prefix)],
      wakeups: [one.wakeups, other.wakeups],
      events: [
        new RedisEventLog(one.redis, one.wakeups, prefix),
        new RedisEventLog(other.redis, other.wakeups, prefix),
      ],
      until,
      monotonic: () => clock.monotonic(),
      close: async () => {
        for (const { redis, wakeups } of [one, other]) {
          await wakeups.close();
          redis.disconnect();
        }
      },
    };
  });

  leaseBehaviour('redis', async () => {
    const prefix = freshPrefix();
    const relay = await SocketRelay.start(server.socketPath);
    const redis = await relay.connect('worker');
    const clock = new JumpingClock();
    return {
      process: (owner, options) => new RedisLeases({ redis, prefix, owner, clock, ...options }),
      until,
      skip: async (ms) => clock.jump(ms),
      away: async (away) => relay.stall(away),
      close: async () => {
        redis.disconnect();
        await relay.close();
      },
    };
  });

  describe('cells over a broken connection', () => {
    let relay: SocketRelay;
    let redis: Redis;
    let prefix: string;
    beforeEach(async () => {
      prefix = freshPrefix();
      relay = await SocketRelay.start(server.socketPath);
      redis = await relay.connect('worker');
    });
    afterEach(async () => {
      redis.disconnect();
      await relay.close();
    });

    test('a write whose reply got lost with the connection is sent again and counts once', async () => {
      const store = new RedisCellStore(redis, prefix);
      const direct = new RedisCellStore(server.redis, prefix);
      await store.compareAndSet('a', 0, 'before');
      const { version } = await store.read('a');
      relay.dropReplies(true);
      const writing = store.compareAndSet('a', version, 'mine');
      await until(async () => (await direct.read('a')).text === 'mine', 5_000);
      // Another process goes on from there before we are connected again.
      const { version: next } = await direct.read('a');
      await direct.compareAndSet('a', next, 'theirs');
      relay.dropReplies(false);
      relay.cut();
      // Not what they wrote: that must not be taken for ours.
      expect(await writing).toEqual({ version: null });
      expect((await direct.read('a')).text).toBe('theirs');
    });

    test('a deletion whose reply got lost with the connection still says that it was ours', async () => {
      const store = new RedisCellStore(redis, prefix);
      const direct = new RedisCellStore(server.redis, prefix);
      await store.compareAndSet('a', 0, 'before');
      const { version } = await store.read('a');
      relay.dropReplies(true);
      const deleting = store.compareAndSet('a', version, null);
      await until(async () => (await direct.read('a')).version === 0, 5_000);
      relay.dropReplies(false);
      relay.cut();
      expect(await deleting).toEqual({ version: null });
    });

    test('a lease whose reply got lost with the connection is the one that is held, not one that blocks us', async () => {
      const leases = new RedisLeases({
        redis,
        prefix,
        owner: { id: 'a', machine: 'm', pid: 1, startTicks: 1 },
        ttlMs: 20_000,
      });
      relay.dropReplies(true);
      const acquiring = leases.acquire('vm');
      await until(async () => (await server.redis.exists(`${prefix}:lease:vm`)) === 1, 5_000);
      relay.dropReplies(false);
      relay.cut();
      const lease = await acquiring;
      expect(isLease(lease) && lease.held()).toBe(true);
    });

    test('the time that a request was under way counts against the lease', async () => {
      const clock = new JumpingClock();
      const owner = { id: 'a', machine: 'm', pid: 1, startTicks: 1 };
      const leases = new RedisLeases({ redis, prefix, owner, clock, ttlMs: 30_000 });
      const slowed = async <T>(request: () => Promise<T>): Promise<T> => {
        relay.stall(true);
        const answer = request();
        clock.jump(15_000);
        relay.stall(false);
        return answer;
      };
      const slow = await slowed(() => leases.acquire('slow to take'));
      if (!isLease(slow)) throw new Error('not ours');
      clock.jump(11_000);
      expect(slow.held()).toBe(true);
      clock.jump(1_000);
      expect(slow.held()).toBe(false);

      const lease = await leases.acquire('slow to keep');
      if (!isLease(lease)) throw new Error('not ours');
      clock.jump(11_000);
      expect(await slowed(() => lease.keep())).toBe(true);
      clock.jump(11_000);
      expect(lease.held()).toBe(true);
      clock.jump(1_000);
      expect(lease.held()).toBe(false);
    });

    test('a producer is told where Redis was and what to do, soon', async () => {
      const producer = await relay.connect('producer');
      const store = new RedisCellStore(producer, prefix);
      await relay.close();
      await until(() => producer.status !== 'ready', 5_000);
      await expect(store.read('a')).rejects.toMatchObject({
        code: 'redisAway',
        message: expect.stringContaining(relay.socketPath),
      });
      producer.disconnect();
    });
  });

  test('scripts are loaded again after Redis forgot them', async () => {
    const store = new RedisCellStore(server.redis, freshPrefix());
    await store.compareAndSet('a', 0, 'first');
    await server.redis.script('FLUSH');
    expect(await store.compareAndSet('a', (await store.read('a')).version, 'second')).not.toBeNull();
  });

  test('every key of the stores begins with the prefix, and all but counters and living cells end by themselves', async () => {
    const prefix = freshPrefix();
    const before = new Set(await server.redis.keys('*'));
    const wakeups = new RedisWakeups(server.redis, () => server.open('subscriber'), prefix);
    const store = new RedisCellStore(server.redis, prefix);
    const owner = { id: 'a', machine: 'm', pid: 1, startTicks: 1 };
    await store.compareAndSet('living', 0, 'x', { topic: 't' });
    await store.compareAndSet('dead', 0, 'x');
    await store.compareAndSet('dead', (await store.read('dead')).version, null);
    await new RedisLeases({ redis: server.redis, prefix, owner }).acquire('vm');
    await new RedisEventLog(server.redis, wakeups, prefix).append(event(1));
    await wakeups.close();
    const lasting: string[] = [];
    for (const key of (await server.redis.keys('*')).filter((each) => !before.has(each))) {
      expect(key.startsWith(`${prefix}:`)).toBe(true);
      if ((await server.redis.pttl(key)) < 0) lasting.push(key.slice(prefix.length));
    }
    expect(lasting.sort()).toEqual([':cell:living', ':lease-token', ':versions']);
  });

  test('watchers come and go without leaving a connection or a subscription', async () => {
    const prefix = freshPrefix();
    const redis = await server.open('worker');
    const wakeups = new RedisWakeups(redis, () => server.open('subscriber'), prefix);
    const events = new RedisEventLog(redis, wakeups, prefix);
    const first = await wakeups.listen('t');
    const clients = async (): Promise<number> =>
      String(await server.redis.client('LIST'))
        .trim()
        .split('\n').length;
    const before = await clients();
    const stop = new AbortController();
    setMaxListeners(0, stop.signal);
    const reads = Array.from({ length: 30 }, (_, n) => events.read(`op-${n}`, '0', 60_000, stop.signal));
    await until(async () => (await channels(prefix)).length === 31, 5_000);
    expect(await clients()).toBe(before);
    stop.abort();
    await Promise.all(reads);
    await first.close();
    await until(async () => (await channels(prefix)).length === 0, 5_000);
    await wakeups.close();
    await until(async () => (await clients()) === before - 1, 5_000);
  });

  test('a subscriber whose connection broke wakes its listeners, for nobody knows what they missed', async () => {
    const prefix = freshPrefix();
    const relay = await SocketRelay.start(server.socketPath);
    const wakeups = new RedisWakeups(server.redis, () => relay.connect('subscriber'), prefix);
    const listener = await wakeups.listen('t');
    const woken = listener.next(60_000);
    relay.cut();
    await woken;
    const again = listener.next(60_000);
    await until(async () => (await channels(prefix)).length === 1, 5_000);
    await wakeups.wake('t');
    await again;
    await wakeups.close();
    await relay.close();
  });

  test('a read is aborted at once even while Redis does not answer', async () => {
    const prefix = freshPrefix();
    const relay = await SocketRelay.start(server.socketPath);
    const redis = await relay.connect('worker');
    const wakeups = new RedisWakeups(redis, () => relay.connect('subscriber'), prefix);
    const events = new RedisEventLog(redis, wakeups, prefix);
    relay.stall(true);
    const stop = new AbortController();
    const reading = events.read('op', '0', 60_000, stop.signal);
    stop.abort();
    expect(await reading).toEqual([]);
    await wakeups.close();
    redis.disconnect();
    await relay.close();
  });

  test('a long stream is read in parts, from the first event to the last', async () => {
    const prefix = freshPrefix();
    const wakeups = new RedisWakeups(server.redis, () => server.open('subscriber'), prefix);
    const events = new RedisEventLog(server.redis, wakeups, prefix);
    await Promise.all(Array.from({ length: 2_500 }, (_, n) => events.append(event(n))));
    const seen: number[] = [];
    for (let after = '0'; ; ) {
      const part = await events.read('op', after, 0);
      if (part.length === 0) break;
      seen.push(...part.map(({ atMs }) => atMs));
      after = part.at(-1)?.streamId ?? '';
    }
    expect(seen).toEqual(Array.from({ length: 2_500 }, (_, n) => n));
    await wakeups.close();
  });

  test('an event is one round trip, and both its streams end some time and are bounded', async () => {
    const prefix = freshPrefix();
    const wakeups = new RedisWakeups(server.redis, () => server.open('subscriber'), prefix);
    const events = new RedisEventLog(server.redis, wakeups, prefix);
    await events.append(event(1));
    for (const key of [`${prefix}:events:op`, `${prefix}:events`]) {
      expect(await server.redis.xlen(key)).toBe(1);
      expect(await server.redis.pttl(key)).toBeGreaterThan(86_400_000);
    }
    // As much as is kept, and far more than that.
    const filling = server.redis.pipeline();
    for (let n = 0; n < 21_000; n += 1) filling.xadd(`${prefix}:events`, '*', 'e', JSON.stringify(event(n)));
    await filling.exec();
    await events.append(event(2));
    expect(await server.redis.xlen(`${prefix}:events`)).toBeLessThan(20_300);
    await wakeups.close();
  });

  async function channels(prefix: string): Promise<unknown[]> {
    const found = await server.redis.pubsub('CHANNELS', `${prefix}:*`);
    return found;
  }
});

function event(atMs: number): OperationEvent {
  return { atMs, operationId: 'op', kind: 'k', vm: null, moveId: null, message: 'm' };
}

/** Real time that can jump ahead, as it seems to a process that was stopped. */
class JumpingClock extends RealClock implements Clock {
  #aheadMs = 0;

  jump(ms: number): void {
    this.#aheadMs += ms;
  }

  override monotonic(): number {
    return super.monotonic() + this.#aheadMs;
  }
}
