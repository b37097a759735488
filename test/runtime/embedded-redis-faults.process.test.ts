/** The embedded Redis when something is in its way: slow starts, orphans, damaged data, deep paths, missing programs. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { startTicksOf } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';
import { aofFile, EmbeddedWorld, serversIn, startByHand, starting, User } from '../support/embedded-redis.ts';
import { testRedisSocket } from '../support/redis.ts';

describe.skipIf(testRedisSocket() === '')('embedded redis: faults', () => {
  let world: EmbeddedWorld;
  beforeEach(() => {
    world = new EmbeddedWorld();
  });
  afterEach(() => world.close());

  test('it evicts nothing, writes every change to disk before it answers, and listens on no port', async () => {
    const redis = world.client(await world.start('once').ready());
    const setting = async (name: string): Promise<unknown> =>
      z.tuple([z.string(), z.string()]).parse(await redis.config('GET', name))[1];
    expect(await setting('maxmemory-policy')).toBe('noeviction');
    expect(await setting('appendonly')).toBe('yes');
    expect(await setting('appendfsync')).toBe('always');
    expect(await setting('save')).toBe('');
    expect(await setting('port')).toBe('0');
  });

  test('an owner that is killed before the kernel was asked to end the server with it leaves no server behind', async () => {
    const owner = world.start('once', { env: world.slowly('setpriv') });
    await until(() => starting(world.stateDir) > 0, 10_000, 'the start');
    owner.kill();
    await until(() => owner.ended, 5_000, 'end of the owner');
    await until(() => starting(world.stateDir) === 0, 5_000, 'end of the chain');
    expect(world.servers()).toEqual([]);
  });

  test('a process whose own start is late does not take the server of another for its own', async () => {
    // Later than the other one takes on a machine that is really busy.
    const late = world.start('once', { env: world.slowly('flock', 4_000) });
    await until(() => starting(world.stateDir) > 0, 10_000, 'the late start');
    const first = world.start('once');
    expect(await late.ready()).toBe(await first.ready());
    expect([first.owned, late.owned]).toEqual([true, false]);
  });

  test('a server that outlived its owner is ended and replaced by one that has one', async () => {
    const before = world.start('once');
    const socket = await before.ready();
    const written = world.client(socket);
    await written.set('a', 'kept');
    written.disconnect();
    const record = JSON.parse(readFileSync(join(world.stateDir, 'redis.json'), 'utf8'));
    await before.stop();
    const orphan = startByHand(world.stateDir, socket);
    await until(() => existsSync(socket), 5_000, 'the orphan');
    const pid = orphan.pid ?? 0;
    writeFileSync(
      join(world.stateDir, 'redis.json'),
      JSON.stringify({ ...record, pid, startTicks: startTicksOf(pid) }),
    );
    const next = world.start('once');
    const redis = world.client(await next.ready());
    expect(next.owned).toBe(true);
    await until(() => orphan.exitCode !== null, 5_000, 'end of the orphan');
    expect(await redis.get('a')).toBe('kept');
  });

  test('a server that nobody has on record is used, and succeeded when it ends', async () => {
    const before = world.start('once');
    const socket = await before.ready();
    await before.stop();
    const byHand = startByHand(world.stateDir, socket);
    await until(() => existsSync(socket), 5_000, 'the server');
    const up = world.start('watch');
    const redis = world.client(await up.ready());
    expect(up.owned).toBe(false);
    expect(await redis.info('server')).toContain(`process_id:${byHand.pid}\r\n`);
    byHand.kill('SIGTERM');
    await until(() => up.owned, 5_000, 'taking over');
  });

  test('an owner that is killed at any moment of the start leaves no server behind', async () => {
    for (let delayMs = 0; delayMs < 60; delayMs += 4) {
      rmSync(join(world.stateDir, 'redis.conf'), { force: true });
      const owner = world.start('once');
      await until(() => existsSync(join(world.stateDir, 'redis.conf')), 10_000, 'the start');
      const fromMs = performance.now();
      while (performance.now() - fromMs < delayMs);
      owner.kill();
      await until(() => owner.ended, 5_000, 'end of the owner');
      // A chain that was too late must end by itself too: nobody holds the lock, and nobody takes it any more.
      await until(
        () => world.servers().length === 0 && starting(world.stateDir) === 0,
        2_000,
        `end of the server (after ${delayMs} ms)`,
      );
    }
  });

  test('the lock lasts as long as the server: nobody else can start on its data', async () => {
    await world.start('once').ready();
    const locked = () => {
      try {
        execFileSync('flock', ['--nonblock', join(world.stateDir, 'redis', 'lock'), 'true']);
        return false;
      } catch {
        return true;
      }
    };
    expect(locked()).toBe(true);
    world.users[0]?.kill();
    // A process that is ending has no name any more a moment before it closes its files.
    await until(() => world.servers().length === 0, 2_000, 'end of the server');
    await until(() => !locked(), 1_000, 'end of the lock');
  });

  test('a file cut short by a crash is read up to the cut', async () => {
    const owner = world.start('once');
    const redis = world.client(await owner.ready());
    await redis.set('whole', 'yes');
    redis.disconnect();
    await owner.stop();
    const aof = aofFile(world.stateDir);
    writeFileSync(aof, `${readFileSync(aof, 'utf8')}*3\r\n$3\r\nSET\r\n$4\r\nha`);
    const again = world.client(await world.start('once').ready());
    expect(await again.get('whole')).toBe('yes');
  });

  test('a damaged file is a clear error with the last words of the server, and is not touched', async () => {
    const owner = world.start('once');
    const redis = world.client(await owner.ready());
    for (let n = 0; n < 50; n += 1) await redis.set(`key ${n}`, 'value');
    redis.disconnect();
    await owner.stop();
    const aof = aofFile(world.stateDir);
    const text = readFileSync(aof, 'utf8');
    const damaged = `${text.slice(0, 300)}garbage\r\n${text.slice(300)}`;
    writeFileSync(aof, damaged);
    const next = world.start('once');
    await until(() => next.said(), 15_000);
    const refused = next.lines.find(({ code }) => code !== undefined);
    expect(refused?.code).toBe('redisAway');
    expect(refused?.message).toMatch(/redis-check-aof/);
    expect(refused?.message).toMatch(/Bad file format/);
    expect(refused?.message).toContain(join(world.stateDir, 'redis'));
    expect(readFileSync(aof, 'utf8')).toBe(damaged);
    await until(() => next.ended, 5_000);
  });

  test('two state directories are two Redis', async () => {
    const one = join(world.stateDir, 'one');
    const two = join(world.stateDir, 'two');
    for (const directory of [one, two]) mkdirSync(directory);
    const first = new User(one, 'once');
    const second = new User(two, 'once');
    world.users.push(first, second);
    const redis = world.client(await first.ready());
    const other = world.client(await second.ready());
    await redis.set('a', 'one');
    expect(await other.get('a')).toBe(null);
    expect([first.owned, second.owned]).toEqual([true, true]);
    await Promise.all([first.stop(), second.stop()]);
    expect([...serversIn(join(one, 'redis')), ...serversIn(join(two, 'redis'))]).toEqual([]);
  });

  test('a state directory too deep for a socket gets a short private one, the same for every process', async () => {
    const deep = join(world.stateDir, 'd'.repeat(100), 'with "quotes" and spaces');
    mkdirSync(deep, { recursive: true });
    // Two commands may even have different directories for temporary files.
    const [first, second] = ['t1', 't2'].map((name) => {
      const TMPDIR = join(world.stateDir, name);
      mkdirSync(TMPDIR);
      const user = new User(deep, 'once', { env: { TMPDIR } });
      world.users.push(user);
      return user;
    });
    if (first === undefined || second === undefined) throw new Error('two processes were started');
    const socket = await first.ready();
    expect(Buffer.byteLength(socket)).toBeLessThan(108);
    expect(statSync(join(socket, '..')).mode & 0o777).toBe(0o700);
    expect(await second.ready()).toBe(socket);
    expect([first, second].filter((user) => user.owned)).toHaveLength(1);
    const redis = world.client(socket);
    await redis.set('a', 'reached');
    await second.stop();
    await first.stop();
    expect(serversIn(join(deep, 'redis'))).toEqual([]);
  });

  test('without a Redis program or apt-get the message says in one line what to install', async () => {
    const bin = join(world.stateDir, 'bin-only');
    mkdirSync(bin);
    const user = world.start('once', { env: { PATH: bin } });
    await until(() => user.said(), 15_000);
    const refused = user.lines.find(({ code }) => code !== undefined);
    expect(refused?.code).toBe('redisMissing');
    expect(refused?.message).toMatch(/install Redis/);
    expect(refused?.message?.split('\n')).toHaveLength(1);
    await until(() => user.ended, 5_000);
  });
});
