/** Claims over cells in Redis. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe } from 'vitest';
import { RedisCellStore, RedisWakeups } from '../../src/store/redis-store.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';
import { claimsBehaviour } from './claims-behaviour.ts';

describe.skipIf(testRedisSocket() === '')('redis', () => {
  let server: TestRedis;
  beforeAll(async () => {
    server = await testRedis();
  });
  afterAll(() => server.close());

  claimsBehaviour('redis', async () => {
    const prefix = `${server.prefix}${randomBytes(4).toString('hex')}`;
    const one = await server.open('worker');
    const other = await server.open('worker');
    const wakeups = new RedisWakeups(other, () => server.open('subscriber'), prefix);
    return {
      cells: [new RedisCellStore(one, prefix), new RedisCellStore(other, prefix)],
      wakeups,
      close: async () => {
        await wakeups.close();
        one.disconnect();
        other.disconnect();
      },
    };
  });
});
