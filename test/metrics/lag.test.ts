/** How far behind a webhook is, as the page of the fleet shows it. */
import { Registry } from 'prom-client';
import { expect, it } from 'vitest';
import { FleetMetrics } from '../../src/metrics/fleet-metrics.ts';
import { WebhookCursors } from '../../src/store/webhook-cursors.ts';
import { host, World } from '../support/world.ts';

const NONE = { waiting: 0, active: 0, delayed: 0 };

it('counts from the first event that its receiver has not been told of, and asks only queues that moves may be in', async () => {
  const secretEnv = 'SECRET';
  const url = 'http://127.0.0.1:9/';
  const webhooks = ['told', 'behind', 'new'].map((name) => ({ name, url, secretEnv }));
  const { fleet, records, presence, claims, budget, clock, cells, events } = new World({
    hosts: [host('a'), host('b')],
    webhooks,
  });
  const asked: string[][] = [];
  const depths = async (hosts: readonly string[]) => {
    asked.push([...hosts]);
    return { operations: NONE, migrations: NONE };
  };
  const webhookCursors = new WebhookCursors(cells);
  const registry = new Registry();
  const stores = {
    records,
    presence,
    claims,
    clock,
    events,
    webhookCursors,
    budget: () => budget,
    delivery: { depths },
  };
  const event = { atMs: 1, operationId: 'op', kind: 'move.done', vm: null, moveId: null, message: 'told' };
  await events.append(event);
  await webhookCursors.begin('behind', await events.lastOfFleet());
  await events.append(event);
  await webhookCursors.begin('told', await events.lastOfFleet());
  await new FleetMetrics(registry, { fleet, stores }).look();
  const [lag] = (await registry.getMetricsAsJSON()).filter(({ name }) => name === 'hostevac_webhook_lag_seconds');
  const values = Object.fromEntries((lag?.values ?? []).map(({ labels, value }) => [labels['endpoint'], value]));
  expect(Object.keys(values).sort()).toEqual(['behind', 'told']);
  expect(values.told).toBe(0);
  // The second event in memory is of 1970.
  expect(values.behind).toBeGreaterThan(1_000_000);
  expect(asked).toEqual([[]]);
});
