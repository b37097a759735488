/** Everything that is kept in Redis, opened together over one command connection: what producers and workers share. */
import type { Telemetry } from 'bullmq';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { CellBudget } from '../bandwidth/cell-budget.ts';
import type { Clock } from '../clock/clock.ts';
import { RealClock } from '../clock/real-clock.ts';
import type { Fleet } from '../domain/fleet.ts';
import { BullMqDelivery } from '../queue/bullmq-delivery.ts';
import { Measurements } from '../queue/measurements.ts';
import { Abandoned } from '../store/abandoned.ts';
import { Cell } from '../store/cell.ts';
import { Claims } from '../store/claims.ts';
import { Presence } from '../store/presence.ts';
import { Records } from '../store/records.ts';
import { RedisLeases } from '../store/redis-leases.ts';
import { RedisCellStore, RedisEventLog, RedisWakeups } from '../store/redis-store.ts';
import { isDeadHere, thisProcess } from './process-identity.ts';

/** In a hash tag, so that one fleet's keys share a slot of a Redis Cluster and several fleets share a Redis. */
export function fleetPrefix(fleetName: string): string {
  return `{hostevac:${fleetName}}`;
}

/** What workers tell producers that have no fleet file: enough to check names and to know the fleet's time. */
const publishedFleetSchema = z.object({
  hash: z.string(),
  speed: z.number(),
  originMs: z.number(),
  hosts: z.array(z.string()),
});
export type PublishedFleet = z.infer<typeof publishedFleetSchema>;

export interface StoreOptions {
  readonly redis: Redis;
  readonly openSubscriber: () => Promise<Redis>;
  readonly prefix: string;
  readonly clock: Clock;
  readonly telemetry?: Telemetry | undefined;
}

export class Stores {
  readonly clock: Clock;
  readonly wakeups: RedisWakeups;
  readonly cells: RedisCellStore;
  readonly records: Records;
  readonly claims: Claims;
  readonly abandoned: Abandoned;
  readonly presence: Presence;
  readonly events: RedisEventLog;
  readonly leases: RedisLeases;
  readonly delivery: BullMqDelivery;
  readonly measurements: Measurements;
  readonly publishedFleet: Cell<PublishedFleet | null>;

  constructor({ redis, openSubscriber, prefix, clock, telemetry }: StoreOptions) {
    // Waits in the store are real time, whatever the fleet's clock does.
    const real = new RealClock();
    this.clock = clock;
    this.wakeups = new RedisWakeups(redis, openSubscriber, prefix, real);
    this.cells = new RedisCellStore(redis, prefix);
    this.records = new Records(this.cells);
    this.claims = new Claims(this.cells);
    this.abandoned = new Abandoned(this.cells);
    this.presence = new Presence(this.cells);
    this.events = new RedisEventLog(redis, this.wakeups, prefix, real);
    this.leases = new RedisLeases({ redis, prefix, owner: thisProcess(), isDead: isDeadHere, clock: real });
    this.delivery = new BullMqDelivery({ prefix, redis, telemetry });
    this.measurements = new Measurements(this.cells);
    this.publishedFleet = new Cell(this.cells, 'fleet', publishedFleetSchema.nullable(), null);
  }

  budget(fleet: Fleet): CellBudget {
    return new CellBudget(this.cells, fleet);
  }

  async close(): Promise<void> {
    await this.delivery.close();
    await this.wakeups.close();
  }
}
