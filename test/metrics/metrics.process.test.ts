/** The real pages of a real run: workers that show what they did, and a process that shows the fleet. promtool reads both. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { abortableSleep } from '../../src/clock/abortable-sleep.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { createMetrics, type Metrics } from '../../src/metrics/create-metrics.ts';
import { createProducer } from '../../src/queue/create-producer.ts';
import { smallFleet } from '../cli/small-fleet.ts';
import { Command, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { RedisServer } from '../support/redis-server.ts';
import { checkWithPromtool, seriesOf, sumOf } from './page.ts';

let home = '';
let redis: RedisServer;
const started: Command[] = [];
const opened: { close(): Promise<void> }[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'hostevac-metrics-'));
  await writeFile(join(home, 'fleet.yaml'), smallFleet());
  redis = await RedisServer.start();
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
  await Promise.all(started.splice(0).map((command) => command.kill()));
  await redis.close();
  await rm(home, { recursive: true, force: true });
});

const fleet = parseFleet(smallFleet(), { format: 'yaml', name: 'fleet.yaml' });

async function worker(...args: string[]): Promise<{ command: Command; page: () => Promise<string>; url: string }> {
  const command = new Command(['worker', ...args, '--metrics-port', '0'], {
    env: userEnv(home, { REDIS_URL: redis.url }),
    cwd: home,
  });
  started.push(command);
  await command.says(/^metrics http:\/\/127\.0\.0\.1:\d+\/metrics$/m);
  const url = /^metrics (\S+)$/m.exec(command.stdout)?.[1] ?? '';
  return { command, url, page: async () => (await fetch(url)).text() };
}

async function fleetMetrics(): Promise<Metrics> {
  const metrics = await createMetrics({ works: false, of: { fleet, connection: redis.url } });
  opened.push(metrics);
  return metrics;
}

describeWith(['redis', 'promtool'], 'the metrics of a run', () => {
  it('pass promtool, and count what was run: in the process that shows the fleet, and in its workers', async () => {
    const first = await fleetMetrics();
    const operations = await worker('--operations');
    const hosts = await worker('--hosts', 'node-a,node-b,node-c');
    const producer = await createProducer({ connection: redis.url, fleet });
    opened.push(producer);

    const drain = await (await producer.evacuateNode({ host: 'node-a' })).result({ timeoutMs: 50_000 });
    expect(drain).toMatchObject({ state: 'done', moves: [{ state: 'done' }, { state: 'done' }, { state: 'done' }] });
    // Counts from here on: the evacuation is none of its own.
    const second = await fleetMetrics();
    const move = await producer.loadBalance({ moves: [{ vm: 'mail-1', to: 'node-b' }] });
    expect((await move.result({ timeoutMs: 50_000 })).state).toBe('done');
    await producer.uncordon('node-a');
    const nowhere = await producer.loadBalance({ moves: [{ vm: 'mail-1', to: 'node-b' }], deadline: '1s' });
    await nowhere.result({ timeoutMs: 50_000 });

    // A page is at most a second old.
    const showing = async (metrics: Metrics, operations: number) => {
      for (;;) {
        const page = await metrics.render();
        if (sumOf(page.body, 'hostevac_operations_ended_total') >= operations) return page;
        await abortableSleep(50);
      }
    };
    const { contentType, body } = await showing(first, 3);
    expect(contentType).toMatch(/^text\/plain; version=0\.0\.4/);
    checkWithPromtool(body);
    const ended = (page: string, kind: string, outcome: string) =>
      seriesOf(page, 'hostevac_operations_ended_total', { kind, outcome });
    expect(ended(body, 'evacuateNode', 'done')).toBe(1);
    expect(sumOf(body, 'hostevac_operations_ended_total')).toBe(3);
    const moves = { move: 'migration', outcome: 'done', reason: '' };
    expect(seriesOf(body, 'hostevac_moves_ended_total', { kind: 'evacuateNode', ...moves })).toBe(3);
    expect(seriesOf(body, 'hostevac_moves_ended_total', { kind: 'loadBalance', ...moves })).toBe(1);
    expect(seriesOf(body, 'hostevac_migration_duration_seconds_count', { outcome: 'done' })).toBe(4);
    expect(seriesOf(body, 'hostevac_migration_downtime_seconds_count')).toBe(4);
    const total = seriesOf(body, 'hostevac_migration_duration_seconds_sum', { outcome: 'done' }) ?? 0;
    const known = drain.moves.reduce((sum, { totalMs }) => sum + totalMs / 1_000, 0);
    expect(total).toBeGreaterThan(known);
    expect(seriesOf(body, 'hostevac_prediction_error_ratio_count', { figure: 'total' })).toBe(4);
    const { body: later } = await showing(second, 2);
    expect(ended(later, 'evacuateNode', 'done')).toBe(0);
    expect(sumOf(later, 'hostevac_operations_ended_total')).toBe(2);
    expect(seriesOf(later, 'hostevac_moves_ended_total', { kind: 'loadBalance', ...moves })).toBe(1);

    for (const state of ['queued', 'planning', 'awaitingApproval', 'running', 'paused']) {
      expect([state, seriesOf(body, 'hostevac_operations', { state })]).toEqual([state, 0]);
    }
    expect(
      seriesOf(body, 'hostevac_bandwidth_capacity_bytes_per_second', { host: 'node-a', direction: 'egress' }),
    ).toBe(2 ** 30);
    expect(seriesOf(body, 'hostevac_host_served', { host: 'node-c' })).toBe(1);
    expect(seriesOf(body, 'hostevac_workers', { role: 'operations' })).toBe(1);
    expect(seriesOf(body, 'hostevac_host_heartbeat_age_seconds', { host: 'node-a' })).toBeLessThan(6);
    expect(seriesOf(body, 'hostevac_fleet_look_success')).toBe(1);
    for (const vm of ['db-1', 'web-1', 'mail-1']) expect(body).not.toContain(vm);

    const ofHosts = await hosts.page();
    const ofOperations = await operations.page();
    checkWithPromtool(ofHosts);
    checkWithPromtool(ofOperations);
    const done = { from: 'verifying', cause: 'verified', to: 'done' };
    expect(seriesOf(ofHosts, 'hostevac_worker_transitions_total', done)).toBe(4);
    expect(seriesOf(ofHosts, 'hostevac_decision_duration_seconds_count', { action: 'run' })).toBeGreaterThan(0);
    expect(seriesOf(ofHosts, 'hostevac_leases_lost_total', { of: 'vm' })).toBe(0);
    expect(seriesOf(ofOperations, 'hostevac_operation_turn_duration_seconds_count')).toBeGreaterThan(2);
    expect(await (await fetch(hosts.url.replace('/metrics', '/healthz'))).json()).toEqual({ status: 'ok' });
    expect((await fetch(hosts.url.replace('/metrics', '/'))).status).toBe(404);

    // Every line of its log that is about a migration says whose.
    const lines = hosts.command.stderr.split('\n').filter((line) => line.includes('"vm"') || line.includes('->'));
    expect(lines.length).toBeGreaterThan(8);
    for (const line of lines) {
      const entry: unknown = JSON.parse(line);
      expect(entry).toMatchObject({
        operation: expect.stringMatching(/^(ev|lb)-/),
        move: expect.stringMatching(/-\d+-\d+$/),
        vm: expect.any(String),
        attempt: 1,
      });
    }
  });

  it('say so when Redis is away, and show what is gauged no more', async () => {
    const metrics = await fleetMetrics();
    expect(seriesOf((await metrics.render()).body, 'hostevac_host_served', { host: 'node-a' })).toBe(0);
    await redis.close();
    let body = '';
    await until(
      async () => {
        body = (await metrics.render()).body;
        return seriesOf(body, 'hostevac_fleet_look_success') === 0;
      },
      20_000,
      'a look that failed',
    );
    expect(seriesOf(body, 'hostevac_host_served', { host: 'node-a' })).toBeUndefined();
    checkWithPromtool(body);
  });

  it('of `up` are one page: the fleet, and what its own workers do', async () => {
    const command = new Command(['up', '--port', '0'], { env: userEnv(home, { REDIS_URL: redis.url }), cwd: home });
    started.push(command);
    await command.says(/^http:\/\/127\.0\.0\.1:\d+\n/);
    const evacuation = new Command(['evacuate', 'node-a', '--wait'], {
      env: userEnv(home, { REDIS_URL: redis.url }),
      cwd: home,
    });
    started.push(evacuation);
    expect(await evacuation.ended).toMatchObject({ code: 0 });
    let page = '';
    const ended = { kind: 'evacuateNode', outcome: 'done' };
    await until(
      async () => {
        page = await (await fetch(`${command.stdout.trim()}/metrics`)).text();
        return seriesOf(page, 'hostevac_operations_ended_total', ended) === 1;
      },
      10_000,
      'the operation to be counted',
    );
    checkWithPromtool(page);
    const done = { from: 'verifying', cause: 'verified', to: 'done' };
    expect(seriesOf(page, 'hostevac_worker_transitions_total', done)).toBe(3);
    expect(seriesOf(page, 'hostevac_migration_duration_seconds_count', { outcome: 'done' })).toBe(3);
  });
});
