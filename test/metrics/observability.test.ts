/** The files of docs/observability: promtool takes them, and every metric they and the document name exists. */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Registry } from 'prom-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { FleetMetrics } from '../../src/metrics/fleet-metrics.ts';
import { workerMetrics } from '../../src/metrics/worker-metrics.ts';
import { describeWith } from '../support/needs.ts';
import { host, World } from '../support/world.ts';

const folder = fileURLToPath(new URL('../../docs/observability/', import.meta.url));
const text = (name: string): string => readFileSync(join(folder, name), 'utf8');

/** Its own; those of every Node process are not described by us. */
async function ours(): Promise<{ name: string; help: string }[]> {
  const registry = new Registry();
  workerMetrics(registry);
  const { fleet, records, presence, claims, budget, clock } = new World({ hosts: [host('a')] });
  const delivery = { depths: async () => ({ operations: NONE, migrations: NONE }) };
  const stores = { records, presence, claims, clock, budget: () => budget, delivery };
  await new FleetMetrics(registry, { fleet, stores }).look();
  return (await registry.getMetricsAsJSON()).map(({ name, help }) => ({ name, help }));
}
const NONE = { waiting: 0, active: 0, delayed: 0 };

/** Names of metrics in a text, without what a histogram or Prometheus adds. */
function named(from: string): string[] {
  const found = from.match(/\bhostevac_[a-z_]+/g) ?? [];
  return [...new Set(found.map((name) => name.replace(/_(bucket|sum|count)$/, '')))].sort();
}

describe('the metrics that are written about', () => {
  it.each(['alerts.yml', 'alerts.test.yml', 'grafana-dashboard.json', '../observability.md'])(
    '%s names none that there is not',
    async (file) => {
      const names = [...(await ours()).map(({ name }) => name), 'hostevac_build_info'];
      expect(named(text(file)).filter((name) => !names.includes(name))).toEqual([]);
    },
  );

  it('the document and the dashboard have each of them', async () => {
    const names = (await ours()).map(({ name }) => name).sort();
    expect(names.length).toBeGreaterThan(25);
    for (const file of ['../observability.md', 'grafana-dashboard.json']) {
      expect([file, names.filter((name) => !named(text(file)).includes(name))]).toEqual([file, []]);
    }
  });

  it('every panel of the dashboard has its place and a query', () => {
    const gridPos = z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() });
    const target = z.object({ expr: z.string().min(5), refId: z.string() });
    const panel = z.object({
      id: z.number(),
      title: z.string(),
      type: z.string(),
      gridPos,
      targets: z.array(target).optional(),
    });
    const { panels } = z.object({ panels: z.array(panel) }).parse(JSON.parse(text('grafana-dashboard.json')));
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    for (const { title, type, targets, gridPos: at } of panels) {
      expect([title, at.x + at.w <= 24, type === 'row' || (targets?.length ?? 0) > 0]).toEqual([title, true, true]);
    }
  });
});

describeWith(['promtool'], 'promtool', () => {
  let copy = '';
  beforeAll(() => {
    copy = mkdtempSync(join(tmpdir(), 'hostevac-prometheus-'));
    cpSync(folder, copy, { recursive: true });
    // The configuration wants the token's file to be there.
    writeFileSync(join(copy, 'token'), 'x');
  });
  afterAll(() => rmSync(copy, { recursive: true, force: true }));
  const promtool = (...args: string[]): string =>
    execFileSync('promtool', args, { cwd: copy, encoding: 'utf8', stdio: 'pipe' });

  it('takes the configuration and its rules', () => {
    expect(promtool('check', 'config', 'prometheus.yml')).toMatch(/SUCCESS: \d+ rules found/);
  });

  it('has the rules fire when they should, and not when they should not', () => {
    promtool('test', 'rules', 'alerts.test.yml');
    const broken = text('alerts.yml').replace('hostevac_fleet_look_success == 0', 'hostevac_fleet_look_success == 2');
    writeFileSync(join(copy, 'alerts.yml'), broken);
    expect(() => promtool('test', 'rules', 'alerts.test.yml')).toThrow();
  });

  it('takes every query of the dashboard', () => {
    const exprs = [...text('grafana-dashboard.json').matchAll(/"expr": ("(?:[^"\\]|\\.)*")/g)].map(([, json = '""']) =>
      z
        .string()
        .parse(JSON.parse(json))
        .replaceAll('$__rate_interval', '5m')
        .replaceAll(/\$(instance|host)/g, 'x'),
    );
    expect(exprs.length).toBeGreaterThan(30);
    // As rules: the only place where promtool reads a query without a server.
    const rules = exprs.map((expr, index) => `      - { record: 'r${index}', expr: ${JSON.stringify(expr)} }`);
    writeFileSync(join(copy, 'queries.yml'), `groups:\n  - name: q\n    rules:\n${rules.join('\n')}\n`);
    expect(promtool('check', 'rules', 'queries.yml')).toMatch(/SUCCESS/);
  });
});
