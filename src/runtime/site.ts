/**
 * Everything one process needs to serve a fleet: connections, the fleet's clock, stores, the adapters of its drivers.
 * The workers in `workers/` are thin users of it.
 */
import type { Telemetry } from 'bullmq';
import type { Redis, RedisOptions } from 'ioredis';
import type { Logger } from 'pino';
import type { CellBudget } from '../bandwidth/cell-budget.ts';
import type { Clock } from '../clock/clock.ts';
import { RealClock } from '../clock/real-clock.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { HypervisorOf } from '../hypervisors/hypervisor.ts';
import { simulationOrigin } from '../hypervisors/simulated/redis-log.ts';
import { BullMqConsumers, QUEUE_TIMES } from '../queue/bullmq-delivery.ts';
import type { Throttle } from '../throttling/throttle.ts';
import { openDrivers } from './drivers.ts';
import { fleetHash } from './fleet-source.ts';
import { Heartbeat } from './heartbeat.ts';
import { type Observer, observedBy } from './observer.ts';
import type { LoadedPolicies } from './policy-modules.ts';
import { thisProcess } from './process-identity.ts';
import { checkRedis, openRedis, redisTarget } from './redis-connection.ts';
import { fleetPrefix, Stores } from './stores.ts';

export interface SiteOptions {
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  /** A Redis URL, a unix socket path, or ioredis options. */
  readonly connection: string | RedisOptions;
  readonly log: Logger;
  /** The user's state directory (state-dir.ts). */
  readonly stateDir: string;
  /** They are told of what the workers of this process do. */
  readonly observers?: readonly Observer[];
  /** Takes a trace along in the jobs. */
  readonly telemetry?: Telemetry | undefined;
  /** How long a worker may be silent before its jobs are given to another (real ms). */
  readonly lockMs?: number;
}

export interface Site {
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  readonly clock: Clock;
  readonly log: Logger;
  readonly stores: Stores;
  readonly budget: CellBudget;
  readonly hypervisorOf: HypervisorOf;
  readonly throttleOf: (host: string) => Throttle;
  readonly consumers: BullMqConsumers;
  readonly heartbeat: Heartbeat;
  readonly observer: Required<Observer>;
  close(): Promise<void>;
}

/** Throws `redisAway`, `redisUnfit` or `fleetMismatch`; nothing stays open then. */
export async function openSite(options: SiteOptions): Promise<Site> {
  const { fleet, log } = options;
  const target = redisTarget(options.connection);
  const redis = await openRedis(target, 'worker');
  try {
    for (const note of (await checkRedis(redis)).notes) log.warn(note);
    return await build(
      options,
      redis,
      () => openRedis(target, 'subscriber'),
      () => openRedis(target, 'worker'),
    );
  } catch (error) {
    redis.disconnect();
    log.debug({ fleet: fleet.name }, 'site not opened');
    throw error;
  }
}

async function build(
  { fleet, policies, log, stateDir, observers = [], telemetry, lockMs = QUEUE_TIMES.lockMs }: SiteOptions,
  redis: Redis,
  openSubscriber: () => Promise<Redis>,
  openWorker: () => Promise<Redis>,
): Promise<Site> {
  const prefix = fleetPrefix(fleet.name);
  const observer = observedBy(observers);
  const { speed } = fleet.simulation;
  const originMs = fleet.hosts.some((host) => host.driver === 'simulated') ? await simulationOrigin(redis, prefix) : 0;
  const clock = new RealClock({ speed, originMs });
  const stores = new Stores({ redis, prefix, clock, openSubscriber, telemetry });
  const hash = fleetHash(fleet);
  const drivers = await openDrivers({ fleet, clock, redis, prefix, stateDir, log });
  const hosts = fleet.hosts.map((host) => host.name);
  const heartbeat = new Heartbeat(stores, log, { id: thisProcess().id, fleet: { hash, speed, originMs, hosts } });
  return {
    fleet,
    policies,
    clock,
    log,
    stores,
    budget: stores.budget(fleet),
    hypervisorOf: drivers.hypervisorOf,
    throttleOf: drivers.throttleOf,
    consumers: new BullMqConsumers({
      prefix,
      openRedis: openWorker,
      telemetry,
      times: { lockMs, stalledCheckMs: lockMs / 2 },
      onError: (error, job) => {
        observer.fault('queue');
        log.error({ err: error, ...job }, 'queue');
      },
    }),
    heartbeat,
    observer,
    close: async () => {
      await heartbeat.close();
      await drivers.close();
      await stores.close();
      redis.disconnect();
    },
  };
}
