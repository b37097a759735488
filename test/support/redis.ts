/** The run's Redis as a test file uses it: own connections, own prefix, everything removed afterwards. */
import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import { inject } from 'vitest';
import { openRedis, type RedisRole, type RedisTarget, redisTarget } from '../../src/runtime/redis-connection.ts';

/** Socket path of the run's Redis; empty when there is none. For `describe.skipIf(!testRedisSocket())`. */
export function testRedisSocket(): string {
  return inject('testRedis') ?? '';
}

export interface TestRedis {
  readonly redis: Redis;
  readonly target: RedisTarget;
  readonly socketPath: string;
  /** `{...}`, as a fleet's prefix; unique. */
  readonly prefix: string;
  /** Another connection; ended by `close()` if it still is open. */
  open(role: RedisRole): Promise<Redis>;
  /** Deletes the prefix's keys and ends all connections. */
  close(): Promise<void>;
}

export async function testRedis(): Promise<TestRedis> {
  const socketPath = testRedisSocket();
  const target = redisTarget(socketPath);
  const prefix = `{hostevac-test:${randomBytes(6).toString('hex')}}`;
  const redis = await openRedis(target, 'worker');
  const others: Redis[] = [];
  return {
    redis,
    target,
    socketPath,
    prefix,
    async open(role) {
      const other = await openRedis(target, role);
      others.push(other);
      return other;
    },
    async close() {
      for (const other of others) other.disconnect();
      // Keys of BullMQ may put something before the hash tag.
      const keys = await redis.keys(`*${prefix}*`);
      if (keys.length > 0) await redis.unlink(...keys);
      redis.disconnect();
    },
  };
}
