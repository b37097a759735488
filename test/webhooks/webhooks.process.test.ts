/** Webhooks of real processes: a fleet file that names them, workers that are killed, a receiver that is there or not. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { smallFleet } from '../cli/small-fleet.ts';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';
import { RedisServer } from '../support/redis-server.ts';
import { Receiver } from './receiver.ts';

const SECRET = 'hunter2hunter2hunter2';
const HOSTS = 'node-a,node-b,node-c';
let home = '';
let redis: RedisServer;
let receiver: Receiver;
const started: Command[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-webhooks-'));
  redis = await RedisServer.start();
  receiver = await Receiver.start(SECRET);
  await writeFile(join(home, 'owners.secret'), `${SECRET}\n`);
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((command) => command.kill()));
  await receiver.close();
  await redis.close();
  await rm(home, { recursive: true, force: true });
});

async function fleetFile(webhook: string): Promise<void> {
  await writeFile(
    join(home, 'fleet.yaml'),
    `${smallFleet()}webhooks:\n  - { name: owners, url: '${receiver.url}', ${webhook} }\n`,
  );
}

function start(...args: string[]): Command {
  const command = new Command(args, { env: userEnv(home, { REDIS_URL: redis.url }), cwd: home });
  started.push(command);
  return command;
}

async function worker(...args: string[]): Promise<Command> {
  const command = start('worker', ...args);
  await command.says(/^serving /m);
  return command;
}

const evacuated = (...args: string[]): Promise<Ended> => start('evacuate', 'node-a', '--wait', ...args).ended;

describe.skipIf(!testRedisSocket())('webhooks of a fleet', () => {
  it('a move waits for its notice; a worker that is killed meanwhile is succeeded, and what it may have sent comes with the same id', async () => {
    // 60 s of fleet time: 3 s.
    await fleetFile('secretFile: owners.secret, events: [operation.*, move.notice, move.done], noticeBefore: 60s');
    await worker('--hosts', HOSTS);
    const first = await worker('--operations');
    await until(async () => (await redis.client().keys('*webhook:owners')).length > 0, 60_000, 'a cursor');
    receiver.answer = ({ kind }) => (kind === 'move.notice' ? 'hang' : 204);
    const ending = evacuated();
    await until(() => receiver.received.some(({ kind }) => kind === 'move.notice'), 60_000, 'a notice');
    const sent = receiver.received.find(({ kind }) => kind === 'move.notice');
    await first.kill();
    receiver.answer = () => 204;
    await worker('--operations');
    expect(await ending).toMatchObject({ code: 0 });
    await until(() => receiver.taken.some(({ kind }) => kind === 'operation.done'), 60_000, 'the end of the operation');
    const taken = receiver.taken;
    expect(taken.every(({ signed }) => signed)).toBe(true);
    expect(taken.find(({ move }) => move === sent?.move)).toMatchObject({ kind: 'move.notice', id: sent?.id });
    expect(taken.map(({ kind }) => kind).sort()).toEqual(
      [
        ...['move.done', 'move.done', 'move.done', 'move.notice', 'move.notice', 'move.notice'],
        ...['operation.done', 'operation.planning', 'operation.running', 'operation.waiting'],
      ].sort(),
    );
    for (const done of taken.filter(({ kind }) => kind === 'move.done')) {
      const notice = taken.find(({ kind, move }) => kind === 'move.notice' && move === done.move);
      const at = (body: string | undefined, key: string): number => Number(Reflect.get(JSON.parse(body ?? '{}'), key));
      expect(at(done.body, 'atMs')).toBeGreaterThan(at(notice?.body, 'startsNotBeforeMs'));
    }
  });

  it('a receiver that is dead stops nothing; what it missed it is told when it comes back', async () => {
    await fleetFile('secretFile: owners.secret, events: [operation.done]');
    const { port } = receiver;
    await receiver.close();
    await worker('--hosts', HOSTS);
    const operations = await worker('--operations');
    expect(await evacuated()).toMatchObject({ code: 0 });
    await until(() => operations.stderr.includes('webhook owners: not taken'), 60_000, 'a word about it');
    expect(operations.stderr).not.toContain(SECRET);
    receiver = await Receiver.start(SECRET, port);
    await until(() => receiver.taken.length === 1, 60_000, 'the event');
    expect(receiver.taken).toMatchObject([{ kind: 'operation.done', signed: true }]);
  });

  it('secrets that are not there are told at once, and nothing starts', async () => {
    const more = `  - { name: two, url: '${receiver.url}', secretEnv: NO_SUCH_SECRET }\n`;
    await writeFile(
      join(home, 'fleet.yaml'),
      `${smallFleet()}webhooks:\n  - { name: one, url: '${receiver.url}', secretFile: no.secret }\n${more}`,
    );
    const ended = await start('worker', '--operations').ended;
    expect(ended.code).toBe(2);
    expect(ended.stderr).toMatch(/webhooks\[0\]\.secretFile.*cannot be read \(ENOENT\)/s);
    expect(ended.stderr).toMatch(/webhooks\[1\]\.secretEnv.*NO_SUCH_SECRET.*not set/s);
    // Those that tell nobody need none.
    await worker('--hosts', HOSTS);
  });
});
