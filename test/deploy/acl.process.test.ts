/** A fleet under the user of docs/deploy/redis/users.acl: everything that is done with a fleet is done, and Redis refuses nothing. */

import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { OTHER_COMMANDS, QUEUED_COMMANDS } from '../../src/doctor/redis-commands.ts';
import { smallFleet } from '../cli/small-fleet.ts';
import { DoctorPlace, verdictOf } from '../doctor/place.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { RedisServer } from '../support/redis-server.ts';

const ACL = fileURLToPath(new URL('../../docs/deploy/redis/users.acl', import.meta.url));
const hash = (password: string) => createHash('sha256').update(password).digest('hex');

describeWith(['redis'], 'the ACL of docs/deploy', () => {
  let place: DoctorPlace;
  let server: RedisServer;
  let env: NodeJS.ProcessEnv;
  beforeEach(async () => {
    place = new DoctorPlace();
    const file = join(place.directory, 'users.acl');
    const users = readFileSync(ACL, 'utf8')
      .replace('user hostevac off', `user hostevac on #${hash('secret')}`)
      .replace('user operator off', `user operator on #${hash('op')}`);
    writeFileSync(file, users);
    server = await RedisServer.start(['--aclfile', file]);
    env = { REDIS_URL: `unix://hostevac:secret@localhost${server.socketPath}` };
    place.fleet(smallFleet());
  });
  afterEach(async () => {
    await place.close();
    await server.close();
  });

  const run = async (...args: string[]) => place.command(args, env).ended;

  test('suffices for evacuations, rebalances, pause, cancel, what-if, a killed worker, and doctor', async () => {
    const operator = server.client({ username: 'operator', password: 'op' });
    const first = place.command(['worker', '--hosts', 'node-a,node-b,node-c', '--operations'], env);
    await first.says('serving');
    expect(await run('what-if', 'db-1')).toMatchObject({ code: 0 });
    expect(await run('balance', '--move', 'web-1=node-b', '--wait')).toMatchObject({ code: 0 });
    const evacuation = await run('evacuate', 'node-a', '-o', 'json', '--idempotency-key', 'once');
    const { id } = JSON.parse(evacuation.stdout);
    await run('pause', id, '--now');
    await first.kill();
    await place.command(['worker', '--hosts', 'node-a,node-b,node-c', '--operations'], env).says('serving');
    await run('resume', id);
    expect(await run('watch', id)).toMatchObject({ code: 0 });
    const second = JSON.parse((await run('evacuate', 'node-b', '-o', 'json')).stdout);
    expect((await run('cancel', second.id)).code).toBe(0);
    await until(
      async () => /"state":"(cancelled|partial|done)"/.test((await run('status', second.id, '-o', 'json')).stdout),
      30_000,
      'its end',
    );
    expect(await run('cordon', 'node-c')).toMatchObject({ code: 0 });
    expect(await run('uncordon', 'node-c')).toMatchObject({ code: 0 });
    expect(await run('status')).toMatchObject({ code: 0, stdout: expect.stringContaining('node-a') });

    const { stdout: token } = await run('token', 'create', '--name', 'test', '--role', 'admin');
    const serve = place.command(['serve', '--port', '0'], env);
    await serve.says(/^http/);
    const headers = { authorization: `Bearer ${token.trim()}` };
    for (const path of [
      'hosts',
      'vms',
      'operations',
      `operations/${id}`,
      `operations/${id}/events`,
      'audit',
      'events',
    ]) {
      const answer = await fetch(`${serve.stdout.trim()}/v1/${path}`, { headers });
      expect([path, answer.status]).toEqual([path, 200]);
      await answer.body?.cancel();
    }
    expect(await run('audit')).toMatchObject({ code: 0, stdout: expect.stringContaining('token.create') });

    expect(await refused(operator)).toEqual([]);
    const { code, report } = await place.doctor([], { env });
    expect(code).toBe(0);
    expect(verdictOf(report, 'redis.permissions')).toBe('ok');
    // The one question of doctor's that is not granted, for its answer may hold passwords.
    expect(await refused(operator)).toEqual(['config|get']);
    expect(verdictOf(report, 'redis.durability')).toBe('notChecked');

    const used = (await operator.info('commandstats')).match(/^cmdstat_[^:]+/gm)?.map((line) => line.slice(8)) ?? [];
    const granted = [...Object.keys(QUEUED_COMMANDS), ...OTHER_COMMANDS];
    const others = used.filter((name) => !granted.includes(name));
    // `auth` needs no right; the rest is this test's own, as the operator.
    expect(others.filter((name) => !['auth', 'acl|log', 'config|get', 'hello'].includes(name))).toEqual([]);
    const unused = granted.filter((name) => !used.includes(name));
    // What only happens when something goes wrong, or ages: more would be a right that nobody needs.
    expect(unused.length).toBeLessThan(granted.length / 4);
  });

  test('keeps out of what is not hostevac’s', async () => {
    const user = server.client({ username: 'hostevac', password: 'secret' });
    await expect(user.set('other', '1')).rejects.toThrow(/NOPERM/);
    await expect(user.flushall()).rejects.toThrow(/NOPERM/);
    await expect(user.config('GET', 'requirepass')).rejects.toThrow(/NOPERM/);
    await expect(user.keys('*')).rejects.toThrow(/NOPERM/);
    await expect(user.subscribe('other')).rejects.toThrow(/NOPERM/);
  });
});

/** What Redis refused, each once. */
async function refused(operator: ReturnType<RedisServer['client']>): Promise<string[]> {
  const log: unknown = await operator.call('ACL', 'LOG', '128');
  if (!Array.isArray(log)) throw new Error('ACL LOG says nothing');
  const objects = log.map((entry: unknown) => (Array.isArray(entry) ? String(entry[entry.indexOf('object') + 1]) : ''));
  return [...new Set(objects)];
}
