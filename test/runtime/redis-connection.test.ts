import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { redisOptions, redisTarget } from '../../src/runtime/redis-connection.ts';

function refused(text: string): HostevacError {
  try {
    redisTarget(text, 'REDIS_URL');
  } catch (error) {
    if (error instanceof HostevacError) return error;
    throw error;
  }
  throw new Error(`${text} was taken`);
}

describe('Redis addresses', () => {
  test('URLs, socket paths and options are understood', () => {
    expect(redisTarget('redis://10.0.0.1').options).toEqual({ host: '10.0.0.1', port: 6379 });
    expect(redisTarget('redis://r.example:7000/3').options).toEqual({ host: 'r.example', port: 7000, db: 3 });
    expect(redisTarget('rediss://r:7000').options).toEqual({ host: 'r', port: 7000, tls: {} });
    expect(redisTarget('redis://[::1]:7000').options).toEqual({ host: '::1', port: 7000 });
    expect(redisTarget('unix:///run/r.sock').options).toEqual({ path: '/run/r.sock' });
    expect(redisTarget('/run/r.sock').options).toEqual({ path: '/run/r.sock' });
    expect(redisTarget({ host: 'h', port: 1 }).address).toBe('redis://h:1');
  });

  test('user and password are used and never shown', () => {
    const target = redisTarget('redis://us%40er:p%2Fa%23ss@r:7000/2');
    expect(target.options).toMatchObject({ username: 'us@er', password: 'p/a#ss' });
    expect(target.address).toBe('redis://r:7000/2');
  });

  test.each([
    'nonsense',
    'http://host',
    'redis://host/name',
    'redis://host:99999',
    'redis://user:sec%ret@host',
    'user:secret@host:6379',
    'redis://user:sec/ret@host',
    'redis://host?password=secret',
    'unix://',
    'postgres://user:secret@host/db',
  ])('%s is refused with what is expected, and without the password', (text) => {
    const error = refused(text);
    expect(error.code).toBe('badInput');
    expect(error.message).toMatch(/^REDIS_URL .*redis:\/\/host:port\/db/);
    expect(error.problems).toHaveLength(1);
    expect(inspect(error, { depth: 9 })).not.toMatch(/sec.?ret/);
  });

  test('each role has the behaviour that it needs', () => {
    const target = redisTarget('redis://h');
    expect(redisOptions(target, 'producer')).toMatchObject({ enableOfflineQueue: false, maxRetriesPerRequest: 1 });
    expect(redisOptions(target, 'producer').commandTimeout).toBeGreaterThan(0);
    for (const role of ['worker', 'subscriber'] as const) {
      const options = redisOptions(target, role);
      expect(options.maxRetriesPerRequest).toBe(null);
      expect(options.commandTimeout).toBeUndefined();
      const waits = Array.from({ length: 100 }, (_, n) => options.retryStrategy?.(n + 1));
      expect(Math.max(...waits.map(Number))).toBe(1_000);
      expect(Number(waits[0])).toBeLessThanOrEqual(100);
    }
  });
});
