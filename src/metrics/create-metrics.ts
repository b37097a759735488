/**
 * The metrics of one process: what it does itself (`observer`, given to its workers), and, where it is asked to show the
 * fleet, what all do. One registry, one page.
 */
import { setImmediate as letOthers } from 'node:timers/promises';
import type { RedisOptions } from 'ioredis';
import type { Logger } from 'pino';
import { collectDefaultMetrics, Gauge, Registry } from 'prom-client';
import { abortableSleep, settledWithin } from '../clock/abortable-sleep.ts';
import { AdoptedClock } from '../clock/adopted-clock.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { Observer } from '../runtime/observer.ts';
import { packageVersion } from '../runtime/package-version.ts';
import { openRedis, redisTarget } from '../runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../runtime/stores.ts';
import { FleetMetrics } from './fleet-metrics.ts';
import { workerMetrics } from './worker-metrics.ts';

export interface MetricsPage {
  readonly contentType: string;
  readonly body: string;
}

export interface Metrics {
  /** What the workers of this process tell; null where it has none. */
  readonly observer: Observer | null;
  /** Shows the fleet from now on, over a connection of its own. Throws `redisAway`. */
  showFleet(of: ShownFleet): Promise<void>;
  render(): Promise<MetricsPage>;
  close(): Promise<void>;
}

export interface ShownFleet {
  readonly fleet: Fleet;
  readonly connection: string | RedisOptions;
}

export interface MetricsOptions {
  /** This process has workers: they are told `observer`. */
  readonly works: boolean;
  readonly of?: ShownFleet;
  readonly log?: Pick<Logger, 'warn'>;
}

/** The fleet is looked at once for all who ask within this. */
const CACHED_MS = 1_000;
/** And this often although nobody asks: the index of ended operations is bounded. */
const LOOK_EVERY_MS = 10_000;
/** Prometheus gives up after 10 s by default. */
const LOOK_LIMIT_MS = 3_000;

/** Gauges that Prometheus' own naming rules refuse; the same facts are in `nodejs_active_resources`. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

/** Throws `redisAway` where the fleet is to be shown and Redis does not answer. */
export async function createMetrics({ works, of, log }: MetricsOptions): Promise<Metrics> {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  new Gauge({
    name: 'hostevac_build_info',
    help: 'Always 1; what runs is in the labels.',
    labelNames: ['version', 'node'],
    registers: [registry],
  }).set({ version: packageVersion(), node: process.versions.node }, 1);
  const observer = works ? workerMetrics(registry) : null;
  let looks = of === undefined ? null : await openLooks(registry, of, log);
  return {
    observer,
    async showFleet(shown) {
      looks ??= await openLooks(registry, shown, log);
    },
    async render() {
      await looks?.fresh();
      return { contentType: registry.contentType, body: await pageOf(registry) };
    },
    close: async () => looks?.close(),
  };
}

/** As `registry.metrics()` has it, one metric at a time: of a thousand hosts all of it would hold up whoever else is served. */
async function pageOf(registry: Registry): Promise<string> {
  const parts: string[] = [];
  for (const { name } of registry.getMetricsAsArray()) {
    parts.push(await registry.getSingleMetricAsString(name));
    await letOthers();
  }
  return `${parts.join('\n\n')}\n`;
}

async function openLooks(
  registry: Registry,
  { fleet, connection }: ShownFleet,
  log: MetricsOptions['log'],
): Promise<{ fresh(): Promise<void>; close(): Promise<void> }> {
  const target = redisTarget(connection);
  const redis = await openRedis(target, 'producer');
  const clock = new AdoptedClock();
  const prefix = fleetPrefix(fleet.name);
  const stores = new Stores({ redis, prefix, clock, openSubscriber: () => openRedis(target, 'subscriber') });
  const metrics = new FleetMetrics(registry, { fleet, stores });
  const stop = new AbortController();
  let isAdopted = false;
  let running: Promise<void> | null = null;
  let lookedAtMs = Number.NEGATIVE_INFINITY;
  let isBroken = false;
  const look = async (): Promise<void> => {
    if (!isAdopted) {
      const published = await stores.publishedFleet.read();
      if (published !== null) clock.adopt(published);
      isAdopted = published !== null;
    }
    await metrics.look();
    isBroken = false;
  };
  // It never rejects: a page without the fleet is better than none, and says so itself.
  const fresh = async (): Promise<void> => {
    if (performance.now() - lookedAtMs < CACHED_MS) return;
    running ??= look()
      .catch((error: unknown) => {
        if (!isBroken && !stop.signal.aborted) log?.warn({ err: error }, 'metrics of the fleet could not be read');
        isBroken = true;
        metrics.unknown();
      })
      .finally(() => {
        lookedAtMs = performance.now();
        running = null;
      });
    if ((await settledWithin(running, LOOK_LIMIT_MS)) === undefined) metrics.unknown();
  };
  await fresh();
  const looking = (async (): Promise<void> => {
    while (!stop.signal.aborted) {
      await abortableSleep(LOOK_EVERY_MS, stop.signal);
      if (!stop.signal.aborted) await fresh();
    }
  })();
  return {
    fresh,
    async close() {
      stop.abort();
      await looking;
      await stores.close();
      redis.disconnect();
    },
  };
}
