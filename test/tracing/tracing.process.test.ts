/** One trace from a request to the end of its migrations, across three processes; nothing of it where nobody asks. */
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { smallFleet } from '../cli/small-fleet.ts';
import { Command, userEnv } from '../cli/spawn.ts';
import { testRedisSocket } from '../support/redis.ts';
import { RedisServer } from '../support/redis-server.ts';
import { type CollectedSpan, type Collector, startCollector } from './collector.ts';

let home = '';
let redis: RedisServer;
let collector: Collector;
const started: Command[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-tracing-'));
  await writeFile(join(home, 'fleet.yaml'), smallFleet().replace('speed: 20', 'speed: 3'));
  redis = await RedisServer.start();
  collector = await startCollector();
});
afterEach(async () => {
  await Promise.all(started.splice(0).map((command) => command.kill()));
  await collector.close();
  await redis.close();
  await rm(home, { recursive: true, force: true });
});

function start(service: string, args: string[], endpoint = collector.url): Command {
  const env = { REDIS_URL: redis.url, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_SERVICE_NAME: service };
  const command = new Command(args, { env: userEnv(home, env), cwd: home });
  started.push(command);
  return command;
}

async function ended(command: Command): Promise<void> {
  command.child.kill('SIGTERM');
  expect(await command.ended).toMatchObject({ code: 0 });
}

describe.skipIf(!testRedisSocket())('traces', () => {
  it('one goes from the request through the operation to the steps of each migration', async () => {
    const workers = [
      start('planner', ['worker', '--operations']),
      start('driver', ['worker', '--hosts', 'node-a,node-b,node-c']),
    ];
    for (const worker of workers) await worker.says(/^serving /m);
    expect(await start('user', ['evacuate', 'node-a', '--wait']).ended).toMatchObject({ code: 0 });
    for (const worker of workers) await ended(worker);

    expect([...collector.types]).toEqual(['POST /v1/traces application/json']);
    const roots = collector.spans.filter(({ parentSpanId, service }) => !parentSpanId && service === 'user');
    expect(roots.map(({ name }) => name)).toEqual(['add operations.operation']);
    const [root] = roots;
    const trace = collector.spans.filter(({ traceId }) => traceId === root?.traceId);
    const byId = new Map(trace.map((span) => [span.spanId, span]));
    const wayTo = (span: CollectedSpan): string[] => {
      const parent = byId.get(span.parentSpanId ?? '');
      return [...(parent === undefined ? [] : wayTo(parent)), `${span.service}: ${span.name}`];
    };
    const job = [
      'user: add operations.operation',
      'planner: process operations',
      'planner: add migrations-node-a.move',
      'driver: process migrations-node-a',
    ];
    let switchovers = 0;
    for (const vm of ['db-1', 'web-1', 'web-2']) {
      const steps = trace.filter(({ attributes }) => attributes['hostevac.vm'] === vm);
      const order = steps.toSorted((a, b) => (BigInt(a.startTimeUnixNano) < BigInt(b.startTimeUnixNano) ? -1 : 1));
      for (const step of ['reconciling', 'admitting', 'preparing', 'precopy', 'verifying']) {
        const found = steps.filter(({ name }) => name === step);
        expect([vm, step, found.map(wayTo)]).toEqual([vm, step, [[...job, `driver: ${step}`]]]);
      }
      // So short that it may be over before anybody has looked.
      for (const span of steps.filter(({ name }) => name === 'switchover')) {
        expect(wayTo(span)).toEqual([...job, 'driver: switchover']);
        switchovers += 1;
      }
      expect(order.map(({ name }) => name).at(-1)).toBe('verifying');
      expect(steps[0]?.attributes).toMatchObject({
        'hostevac.attempt': expect.anything(),
        'hostevac.operation': expect.stringMatching(/^ev-/),
      });
      const precopy = steps.find(({ name }) => name === 'precopy');
      expect(Number(BigInt(precopy?.endTimeUnixNano ?? 0) - BigInt(precopy?.startTimeUnixNano ?? 0))).toBeGreaterThan(
        10_000_000,
      );
    }
    expect(switchovers).toBeGreaterThan(0);
    // Of turns in which nothing was begun, and of what BullMQ does for itself, there is nothing.
    expect(trace.filter(({ name }) => name === 'process operations').length).toBeLessThan(4);
    const names = new Set(collector.spans.map(({ name }) => name.split(' ')[0]));
    expect([...names].filter((name) => /getNextJob|Stalled|close|pause/.test(name ?? ''))).toEqual([]);
  });

  it('a collector that is away holds nothing up', async () => {
    await collector.close();
    const worker = start('all', ['worker', '--operations', '--hosts', 'node-a,node-b,node-c']);
    await worker.says(/^serving /m);
    expect(await start('user', ['evacuate', 'node-a', '--wait']).ended).toMatchObject({ code: 0 });
    await ended(worker);
  });

  // Its interfaces alone are there: prom-client asks them for a span to link a figure to.
  it('where nobody asks for them nothing of OpenTelemetry that does anything is loaded', () => {
    const dist = fileURLToPath(new URL('../../dist/src/', import.meta.url));
    const program = `
      import { createRequire } from 'node:module';
      const { openTracing } = await import(${JSON.stringify(`${dist}runtime/tracing.js`)});
      await import(${JSON.stringify(`${dist}cli/program.js`)});
      const tracing = await openTracing(JSON.parse(process.argv[1]));
      const cache = Object.keys(createRequire(import.meta.url).cache);
      const loaded = cache.filter((path) => /opentelemetry.(?!api.)|bullmq-otel/.test(path)).length;
      await tracing?.close();
      console.log(JSON.stringify({ on: tracing !== null, loaded, all: cache.length }));`;
    const run = (env: object): unknown =>
      JSON.parse(
        execFileSync(process.execPath, ['--input-type=module', '-e', program, JSON.stringify(env)], {
          encoding: 'utf8',
        }),
      );
    expect(run({})).toEqual({ on: false, loaded: 0, all: expect.any(Number) });
    expect(run({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9', OTEL_SDK_DISABLED: 'true' })).toMatchObject({
      on: false,
    });
    expect(run({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:9' })).toMatchObject({
      on: true,
      loaded: expect.any(Number),
    });
  });
});
