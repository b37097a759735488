/**
 * What the API asks: a producer for all that it does, and the stores for what it only reads (every attempt of an operation,
 * tokens, the audit log). One command connection beside the producer's.
 */
import type { Redis } from 'ioredis';
import { AdoptedClock } from '../clock/adopted-clock.ts';
import type { Fleet } from '../domain/fleet.ts';
import { createProducer } from '../queue/create-producer.ts';
import type { Producer, ProducerOptions } from '../queue/producer.ts';
import type { LoadedPolicies } from '../runtime/policy-modules.ts';
import { openRedis, redisTarget } from '../runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../runtime/stores.ts';
import { AuditLog } from '../store/audit-log.ts';
import { Tokens } from '../store/tokens.ts';

export interface Backend {
  readonly fleet: Fleet;
  readonly producer: Producer;
  readonly stores: Stores;
  readonly tokens: Tokens;
  readonly audit: AuditLog;
  readonly redis: Redis;
  close(): Promise<void>;
}

/** Throws `redisAway` when Redis does not answer. */
export async function openBackend(options: {
  readonly connection: ProducerOptions['connection'];
  readonly fleet: Fleet;
  readonly policies: LoadedPolicies;
  readonly telemetry?: ProducerOptions['telemetry'];
}): Promise<Backend> {
  const { connection, fleet, policies, telemetry } = options;
  const target = redisTarget(connection);
  const producer = await createProducer({ connection, fleet, policies, telemetry });
  try {
    const redis = await openRedis(target, 'producer');
    const prefix = fleetPrefix(fleet.name);
    const openSubscriber = (): Promise<Redis> => openRedis(target, 'subscriber');
    const stores = new Stores({ redis, prefix, clock: new AdoptedClock(), openSubscriber });
    return {
      fleet,
      producer,
      stores,
      tokens: new Tokens(stores.cells),
      audit: new AuditLog(redis, prefix),
      redis,
      close: async () => {
        await Promise.allSettled([stores.close(), producer.close()]);
        redis.disconnect();
      },
    };
  } catch (error) {
    await producer.close();
    throw error;
  }
}
