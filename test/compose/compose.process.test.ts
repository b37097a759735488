/**
 * The commands of docker-compose.yml as plain processes: the same words, only names of services, ports, paths and the program of
 * Redis are this machine's. What containers themselves add (users, read-only files, networks) is not tried here.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { z } from 'zod';
import { Command } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { composeFile, pathOf, textOf } from './compose-file.ts';

const PASSWORD = 'c0ffee';
let home = '';
const commands: Command[] = [];
const children: ChildProcess[] = [];

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'hostevac-compose-'));
});
afterEach(async () => {
  await Promise.all(commands.splice(0).map((command) => command.kill()));
  for (const child of children.splice(0).toReversed()) {
    if (child.exitCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
  rmSync(home, { recursive: true, force: true });
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}

describeWith(['redis', 'promtool'], 'the commands of docker-compose.yml', () => {
  it('carry a move out that is asked for over the API, and Prometheus sees it', async () => {
    const file = composeFile({ HOSTEVAC_REDIS_PASSWORD: PASSWORD });
    const ports = {
      redis: await freePort(),
      api: await freePort(),
      operations: await freePort(),
      hosts: await freePort(),
    };
    const ofService = (name: string) => {
      const service = file.services[name];
      if (service === undefined) throw new Error(`no service ${name}`);
      return service;
    };
    const program = (name: string, command: readonly string[]): ChildProcess => {
      const child = spawn('setpriv', ['--pdeathsig', 'TERM', name, ...command], { cwd: home, stdio: 'ignore' });
      children.push(child);
      return child;
    };

    const [, ...redisArgs] = ofService('redis').command;
    mkdirSync(join(home, 'data'));
    program(
      'redis-server',
      redisArgs.map((word) => (word === '6379' ? String(ports.redis) : word === '/data' ? join(home, 'data') : word)),
    );
    const redis = new Redis({
      port: ports.redis,
      password: PASSWORD,
      retryStrategy: () => 50,
      maxRetriesPerRequest: null,
    });
    redis.on('error', () => undefined);
    await until(async () => (await redis.ping()) === 'PONG', 20_000, 'Redis');
    redis.disconnect();

    const fleet = pathOf(file.configs['fleet']?.file ?? '');
    const start = (name: string, words?: readonly string[]): Command => {
      const { environment = {}, command } = ofService(name);
      const here = (text: string): string =>
        text
          .replace('@redis:6379', `@127.0.0.1:${ports.redis}`)
          .replace('/etc/hostevac/fleet.yaml', fleet)
          .replace('/tmp/hostevac', join(home, name));
      const own = command.map((word, index) => {
        if (word === '0.0.0.0') return '127.0.0.1';
        const isPort = ['--port', '--metrics-port'].includes(command[index - 1] ?? '');
        return isPort ? String(Reflect.get(ports, name)) : word;
      });
      const env = Object.fromEntries(Object.entries(environment).map(([key, value]) => [key, here(value)]));
      const started = new Command(words ?? own, {
        env: { PATH: process.env['PATH'], NODE_ENV: 'production', ...env },
        cwd: home,
      });
      commands.push(started);
      return started;
    };
    // As the head of the file says.
    const admin = (await start('api', ['token', 'create', '--name', 'me', '--role', 'admin']).ended).stdout.trim();
    const token = await start('api', ['token', 'create', '--name', 'prometheus']).ended;
    expect([token.code, admin]).toEqual([0, expect.stringMatching(/^\S{20,}$/)]);
    const api = start('api');
    await api.says(/^http:\/\//);
    await start('operations').says(/^serving operations$/m);
    await start('hosts').says(/^serving alpha, beta, gamma$/m);

    for (const name of ['api', 'operations', 'hosts']) {
      const [, , , health = ''] = ofService(name).healthcheck.test;
      const port = name === 'api' ? ports.api : Reflect.get(ports, name);
      const child = program(process.execPath, ['-e', health.replace(/127\.0\.0\.1:\d+/, `127.0.0.1:${port}`)]);
      expect([name, await once(child, 'exit')]).toEqual([name, [0, null]]);
    }

    const url = `http://127.0.0.1:${ports.api}`;
    const headers = { authorization: `Bearer ${admin}`, 'content-type': 'application/json' };
    expect((await fetch(`${url}/v1/operations`)).status).toBe(401);
    const asked = await fetch(`${url}/v1/rebalances`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ moves: [{ vm: 'mail-1', to: 'beta' }] }),
    });
    expect(asked.status).toBe(201);
    const { id } = z.object({ id: z.string() }).parse(await asked.json());
    const state = async (): Promise<string> =>
      z.object({ state: z.string() }).parse(await (await fetch(`${url}/v1/operations/${id}`, { headers })).json())
        .state;
    await until(async () => (await state()) === 'done', 50_000, 'the operation to be done');

    // Prometheus with the very configuration, only the addresses are this machine's.
    writeFileSync(join(home, 'prometheus.token'), token.stdout.trim());
    writeFileSync(join(home, 'alerts.yml'), textOf(file.configs['alerts']?.file ?? ''));
    const configuration = textOf(file.configs['prometheus']?.file ?? '')
      .replace('/run/secrets/prometheus.token', join(home, 'prometheus.token'))
      .replace('/etc/prometheus/alerts.yml', join(home, 'alerts.yml'))
      .replaceAll('15s', '1s')
      .replace(/'(api|operations|hosts):\d+'/g, (_, name: string) => `'127.0.0.1:${Reflect.get(ports, name)}'`);
    writeFileSync(join(home, 'prometheus.yml'), configuration);
    const webPort = await freePort();
    program(
      'prometheus',
      ofService('prometheus').command.map((word) =>
        word
          .replace('/etc/prometheus/', `${home}/`)
          .replace('=/prometheus', `=${home}/prometheus`)
          .replace('0.0.0.0:9090', `127.0.0.1:${webPort}`),
      ),
    );
    const query = async (text: string): Promise<number[]> => {
      const answer = await fetch(`http://127.0.0.1:${webPort}/api/v1/query?query=${encodeURIComponent(text)}`).catch(
        () => null,
      );
      if (answer?.ok !== true) return [];
      const result = z.object({
        data: z.object({ result: z.array(z.object({ value: z.tuple([z.number(), z.string()]) })) }),
      });
      return result.parse(await answer.json()).data.result.map(({ value }) => Number(value[1]));
    };
    await until(async () => (await query('up == 1')).length === 3, 30_000, 'three targets that are up');
    await until(
      async () => (await query('sum(hostevac_moves_ended_total{kind="loadBalance",outcome="done"})'))[0] === 1,
      20_000,
      'the move',
    );
    expect(await query('count(ALERTS{alertstate="firing"})')).toEqual([]);
    const rules = await (await fetch(`http://127.0.0.1:${webPort}/api/v1/rules`)).text();
    expect(rules).toContain('HostevacVmInDanger');
    expect(readFileSync(join(home, 'data', 'appendonlydir', 'appendonly.aof.manifest'), 'utf8')).toContain('file');
  });
});
