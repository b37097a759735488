import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkRedis, connectionSource, openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';

async function rejection(promise: Promise<unknown>): Promise<Error & { code?: unknown }> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it did not fail');
}

describe.skipIf(testRedisSocket() === '')('connections', () => {
  let server: TestRedis;
  let directory: string;
  beforeAll(async () => {
    server = await testRedis();
    directory = mkdtempSync(join(tmpdir(), 'hostevac-connection-'));
    await server.redis.acl('SETUSER', 'hostevac-plain', 'on', '>right-secret', '~*', '&*', '+@all');
    await server.redis.acl('SETUSER', 'hostevac-bare', 'on', '>right-secret', '~*', '&*', '+@all', '-config', '-info');
    await server.redis.acl('SETUSER', 'hostevac-noconfig', 'on', '>right-secret', '~*', '&*', '+@all', '-config');
  });
  afterAll(async () => {
    await server.redis.acl('DELUSER', 'hostevac-plain', 'hostevac-bare', 'hostevac-noconfig');
    await server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const as = (user: string, password = 'right-secret') =>
    redisTarget({ path: server.socketPath, username: user, password });

  test.each(['producer', 'worker', 'subscriber'] as const)(
    'as %s: a Redis that is not there is an error in a bounded time',
    async (role) => {
      const path = join(directory, 'none.sock');
      const start = performance.now();
      const error = await rejection(openRedis(redisTarget(path), role));
      expect(error.code).toBe('redisAway');
      expect(error.message).toContain(path);
      expect(error.message).toMatch(/ENOENT/);
      expect(performance.now() - start).toBeLessThan(10_000);
    },
  );

  test('something that takes the connection and never answers is an error in a bounded time', async () => {
    const path = join(directory, 'mute.sock');
    const taken: Socket[] = [];
    const mute = createServer((socket) => taken.push(socket));
    await new Promise<void>((resolve) => {
      mute.listen(path, resolve);
    });
    expect((await rejection(openRedis(redisTarget(path), 'producer'))).code).toBe('redisAway');
    for (const socket of taken) socket.destroy();
    await new Promise((resolve) => {
      mute.close(resolve);
    });
  });

  test('a wrong password is said to be one, and not said', async () => {
    const start = performance.now();
    const error = await rejection(openRedis(as('hostevac-plain', 'wrong-secret'), 'producer'));
    expect(performance.now() - start).toBeLessThan(1_500);
    expect(error.code).toBe('redisAway');
    expect(error.message).toMatch(/refuses this user.*REDIS_URL/);
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('wrong-secret');
  });

  test('the right password opens it', async () => {
    const redis = await openRedis(as('hostevac-plain'), 'producer');
    expect(await redis.ping()).toBe('PONG');
    redis.disconnect();
  });

  test('REDIS_URL is used when it is set, and nothing is started', async () => {
    const source = await connectionSource(
      { REDIS_URL: server.socketPath },
      { stateDir: directory, log: () => undefined },
    );
    expect(source.embedded).toBe(null);
    const redis = await openRedis(source.target, 'worker');
    expect(await redis.ping()).toBe('PONG');
    redis.disconnect();
    await source.close();
  });

  test('a fit Redis passes; one without append-only file is noted', async () => {
    const fitness = await checkRedis(server.redis);
    expect(fitness.version).toMatch(/^\d+\.\d+/);
    expect(fitness.notes).toEqual([expect.stringMatching(/append-only/)]);
  });

  test('one that may evict keys is unfit, also when CONFIG is forbidden', async () => {
    const redis = await openRedis(as('hostevac-noconfig'), 'producer');
    await checkRedis(redis);
    await server.redis.config('SET', 'maxmemory-policy', 'allkeys-lru');
    try {
      for (const each of [server.redis, redis]) {
        const error = await rejection(checkRedis(each));
        expect(error.code).toBe('redisUnfit');
        expect(error.message).toMatch(/allkeys-lru.*CONFIG SET maxmemory-policy noeviction/);
      }
    } finally {
      await server.redis.config('SET', 'maxmemory-policy', 'noeviction');
      redis.disconnect();
    }
  });

  test('one that forbids every question is used, and that is said', async () => {
    const redis = await openRedis(as('hostevac-bare'), 'producer');
    const { notes } = await checkRedis(redis);
    expect(notes).toEqual([expect.stringMatching(/version/), expect.stringMatching(/maxmemory-policy/)]);
    redis.disconnect();
  });
});
