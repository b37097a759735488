/**
 * The API as clients meet it, for tests: a real server on a real Redis, a simulated fleet with its workers in this process, and
 * a client that compares every answer with the OpenAPI document.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { type Logger, pino } from 'pino';
import { type Backend, openBackend } from '../../src/api/backend.ts';
import { type ApiLimits, type ApiOptions, type ApiServer, startApi } from '../../src/api/server.ts';
import { type Crew, startCrew } from '../../src/cli/commands/crew.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { loadPolicies } from '../../src/runtime/policy-modules.ts';
import { smallFleet } from '../cli/small-fleet.ts';
import { until } from '../support/condition.ts';
import { testRedis } from '../support/redis.ts';
import { Checker } from './checker.ts';

export interface TestApi {
  readonly url: string;
  readonly server: ApiServer;
  readonly backend: Backend;
  /** What was logged. */
  readonly logged: () => string;
  /** Asks, and throws when the answer is none that the document allows. */
  ask(method: string, path: string, options?: AskOptions): Promise<Answer>;
  readonly checker: Checker;
  close(): Promise<void>;
}

export interface AskOptions {
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly token?: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  // biome-ignore lint/suspicious/noExplicitAny: whatever the server says; the checker knows its shape.
  readonly json: any;
}

export interface TestApiOptions {
  readonly fleet?: string;
  readonly workers?: boolean;
  readonly limits?: Partial<ApiLimits>;
  readonly api?: Partial<ApiOptions>;
}

export async function testApi(options: TestApiOptions = {}): Promise<TestApi> {
  const name = `api-${randomBytes(5).toString('hex')}`;
  const fleet = parseFleet(options.fleet ?? smallFleet(name), { format: 'yaml', name: 'fleet.yaml' });
  const named = { ...fleet, name };
  const home = await mkdtemp(join(tmpdir(), 'hostevac-api-'));
  const { target, redis, close: closeRedis } = await testRedis();
  const lines: string[] = [];
  const log: Logger = pino(
    { level: 'trace' },
    new Writable({
      write(chunk, _encoding, done) {
        lines.push(String(chunk));
        done();
      },
    }),
  );
  const policies = await loadPolicies(named, home);
  const server = await startApi({
    fleet: named,
    policies,
    log,
    health: async () => ({ status: 'ok', redis: 'ok', workers: { operations: true, hosts: [] } }),
    port: 0,
    dashboard: join(home, 'none'),
    ...(options.limits === undefined ? {} : { limits: options.limits }),
    ...options.api,
  });
  let crew: Crew | null = null;
  if (options.workers !== false) {
    crew = await startCrew({
      fleet: named,
      policies,
      connection: target.options,
      log: pino({ level: 'silent' }),
      stateDir: home,
      hosts: named.hosts.map((host) => host.name),
      operations: true,
    });
  }
  const backend = await openBackend({ connection: target.options, fleet: named, policies });
  await server.attach(backend);
  if (options.workers !== false) {
    const seen = async (): Promise<boolean> =>
      (await backend.producer.hosts()).every((host) => host.served && host.inventoryAgeMs !== null);
    await until(seen, 20_000, 'every host seen');
  }
  const checker = new Checker(server.app.swagger());
  return {
    url: server.url,
    server,
    backend,
    checker,
    logged: () => lines.join(''),
    async ask(method, path, given = {}) {
      const answer = await request(`${server.url}${path}`, method, given);
      checker.check(method, path, answer);
      return answer;
    },
    async close() {
      await server.close();
      await backend.close();
      await crew?.close(2_000);
      const keys = await redis.keys(`*{hostevac:${name}}*`);
      if (keys.length > 0) await redis.unlink(...keys);
      await closeRedis();
      await rm(home, { recursive: true, force: true });
    },
  };
}

/** Without comparing the answer with anything. */
export async function request(url: string, method: string, { body, headers, token }: AskOptions): Promise<Answer> {
  const response = await fetch(url, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    signal: AbortSignal.timeout(30_000),
  });
  const streams = (response.headers.get('content-type') ?? '').startsWith('text/event-stream');
  if (streams) await response.body?.cancel();
  const text = streams ? '' : await response.text();
  const isJson = (response.headers.get('content-type') ?? '').includes('json');
  return { status: response.status, headers: response.headers, text, json: isJson ? JSON.parse(text) : null };
}
