/** The budget over cells in Redis: the shared behaviour, and many processes at once. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { RedisCellStore, RedisWakeups } from '../../src/store/redis-store.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';
import { budgetBehaviour } from './budget-behaviour.ts';
import { demand, fleet, MIB } from './entries.ts';

describe.skipIf(testRedisSocket() === '')('redis', () => {
  let server: TestRedis;
  beforeAll(async () => {
    server = await testRedis();
  });
  afterAll(() => server.close());
  const freshPrefix = (): string => `${server.prefix}${randomBytes(4).toString('hex')}`;

  budgetBehaviour('redis', async () => {
    const prefix = freshPrefix();
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

  test('eight processes ask for thirty-two migrations of one host at once, and it is never overdrawn', async () => {
    const prefix = freshPrefix();
    const shared = fleet(['a', 'b', 'c', 'd', 'e'], 100);
    const budgets = await Promise.all(
      Array.from(
        { length: 8 },
        async () => new CellBudget(new RedisCellStore(await server.open('worker'), prefix), shared),
      ),
    );
    const demands = Array.from({ length: 32 }, (_, n) =>
      demand(`${n}`, { order: n, destination: 'bcde'[n % 4] ?? 'b', max: 30, useful: 20 }),
    );
    const ask = (n: number) => {
      const wanted = demands[n];
      const budget = budgets[n % 8];
      if (wanted === undefined || budget === undefined) throw new Error('no such migration');
      return { budget, wanted };
    };
    const left = new Set(demands.keys());
    for (let round = 0; left.size > 0 && round < 40; round += 1) {
      const grants = await Promise.all(
        [...left].map(async (n) => {
          const { budget, wanted } = ask(n);
          return { n, rate: (await budget.request(wanted)).bytesPerSec };
        }),
      );
      const going = grants.filter(({ rate }) => rate > 0);
      expect(going.reduce((sum, { rate }) => sum + rate, 0)).toBeLessThanOrEqual(100 * MIB);
      expect(going.length).toBeGreaterThan(0);
      await Promise.all(going.slice(0, 2).map(({ n }) => ask(n).budget.release(`${n}`)));
      for (const { n } of going.slice(0, 2)) left.delete(n);
    }
    expect(left.size).toBe(0);
  });
});
