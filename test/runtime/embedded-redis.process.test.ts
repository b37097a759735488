import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startTicksOf } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';
import { EmbeddedWorld, groupOf, sessionOf } from '../support/embedded-redis.ts';
import { testRedisSocket } from '../support/redis.ts';

describe.skipIf(testRedisSocket() === '')('embedded redis: life', () => {
  let world: EmbeddedWorld;
  beforeEach(() => {
    world = new EmbeddedWorld();
  });
  afterEach(() => world.close());

  test('the first process starts it, private and on record; the second uses it; it ends with the first', async () => {
    const first = world.start('once');
    const socket = await first.ready();
    expect(first.owned).toBe(true);
    const pid = world.onlyServer();
    expect(statSync(socket).mode & 0o777).toBe(0o700);
    expect(statSync(join(world.stateDir, 'redis')).mode & 0o777).toBe(0o700);
    expect(JSON.parse(readFileSync(join(world.stateDir, 'redis.json'), 'utf8'))).toMatchObject({
      socket,
      pid,
      startTicks: startTicksOf(pid),
      startedBy: { pid: first.pid, startTicks: startTicksOf(first.pid) },
    });
    const second = world.start('once');
    expect(await second.ready()).toBe(socket);
    expect(second.owned).toBe(false);
    await second.stop();
    expect(world.onlyServer()).toBe(pid);
    await first.stop();
    expect(world.servers()).toEqual([]);
    expect(existsSync(socket)).toBe(false);
    expect(existsSync(join(world.stateDir, 'redis.json'))).toBe(false);
  });

  test('kill -9 of its owner ends it within 2 s, and a new one on the same data has lost nothing', async () => {
    for (let round = 0; round < 5; round += 1) {
      const owner = world.start('once');
      const redis = world.client(await owner.ready());
      for (let n = 0; n < round; n += 1) expect(await redis.get(`round ${n}`)).toBe(`written ${n}`);
      // The last write is acknowledged right before the kill.
      await redis.set(`round ${round}`, `written ${round}`);
      redis.disconnect();
      owner.kill();
      const killedAt = performance.now();
      await until(() => world.servers().length === 0, 2_000, 'end of the server');
      expect(performance.now() - killedAt).toBeLessThan(2_000);
    }
  });

  test('kill -9 of the whole process group of its owner ends it too, although it is in a session of its own', async () => {
    const owner = world.start('once', { detached: true });
    await owner.ready();
    const pid = world.onlyServer();
    expect(sessionOf(pid)).toBe(pid);
    process.kill(-owner.pid, 'SIGKILL');
    await until(() => world.servers().length === 0, 2_000, 'end of the server');
  });

  test('Ctrl-C, which goes to the whole foreground group, ends the process but reaches Redis only through it', async () => {
    const owner = world.start('once', { detached: true });
    await owner.ready();
    const pid = world.onlyServer();
    expect(groupOf(pid)).not.toBe(groupOf(owner.pid));
    process.kill(-owner.pid, 'SIGINT');
    await until(() => owner.ended && world.servers().length === 0, 2_000, 'end of both');
  });

  test('a process that is started right after its owner was killed does not take the dying server for its own', async () => {
    for (let round = 0; round < 5; round += 1) {
      const owner = world.start('once');
      await owner.ready();
      const next = world.start('once');
      owner.kill();
      const redis = world.client(await next.ready());
      await redis.set('a', String(round));
      await until(() => next.owned, 5_000, 'ownership');
      expect(await redis.get('a')).toBe(String(round));
      redis.disconnect();
      await next.stop();
    }
  });

  test('of many that start at once one owns the server, and all reach the same', async () => {
    for (let round = 0; round < 3; round += 1) {
      const all = Array.from({ length: 5 }, () => world.start('once'));
      const sockets = await Promise.all(all.map((user) => user.ready(30_000)));
      expect(new Set(sockets).size).toBe(1);
      expect(all.filter((user) => user.owned)).toHaveLength(1);
      const pid = world.onlyServer();
      for (const socket of sockets) {
        const redis = world.client(socket);
        expect(await redis.info('server')).toContain(`process_id:${pid}\r\n`);
        redis.disconnect();
      }
      await Promise.all(all.map((user) => user.stop()));
    }
  });

  test('when a command that started it ends, a process that still needs it starts it again with all data', async () => {
    const command = world.start('once');
    const socket = await command.ready();
    const up = world.start('watch');
    await up.ready();
    const redis = world.client(socket);
    await redis.set('request', 'kept');
    const before = world.onlyServer();
    await command.stop();
    await until(() => up.owned, 5_000, 'taking over');
    expect(world.onlyServer()).not.toBe(before);
    expect(await redis.get('request')).toBe('kept');
    expect(up.lines.some(({ log }) => log?.includes('started it again'))).toBe(true);
    const later = world.start('once');
    await later.ready();
    expect(later.owned).toBe(false);
    await later.stop();
    await up.stop();
    expect(world.servers()).toEqual([]);
  });

  test('of several that need it when its owner is killed, exactly one takes over, again and again', async () => {
    let owner = world.start('watch');
    const socket = await owner.ready();
    const others = Array.from({ length: 4 }, () => world.start('watch'));
    await Promise.all(others.map((user) => user.ready()));
    const redis = world.client(socket);
    let count = 0;
    while (others.length > 1) {
      count += 1;
      expect(await redis.incr('count')).toBe(count);
      owner.kill();
      await until(() => others.some((user) => user.owned), 5_000, 'taking over');
      const owners = others.filter((user) => user.owned);
      expect(owners).toHaveLength(1);
      owner = owners[0] ?? owner;
      others.splice(others.indexOf(owner), 1);
    }
  });

  test('a server that is killed itself is started again by its owner', async () => {
    const up = world.start('watch');
    const redis = world.client(await up.ready());
    await redis.set('a', 'kept');
    const pid = world.onlyServer();
    process.kill(pid, 'SIGKILL');
    await until(() => world.servers().some((each) => each !== pid), 5_000, 'a new server');
    expect(await redis.get('a')).toBe('kept');
    await until(() => up.owned, 5_000, 'ownership');
  });
});
