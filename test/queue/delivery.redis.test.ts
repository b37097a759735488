import { describe } from 'vitest';
import { BullMqConsumers, BullMqDelivery } from '../../src/queue/bullmq-delivery.ts';
import { until } from '../support/condition.ts';
import { testRedis, testRedisSocket } from '../support/redis.ts';
import { deliveryBehaviour } from './delivery-behaviour.ts';

describe.skipIf(testRedisSocket() === '')('delivery on BullMQ', () => {
  deliveryBehaviour(async () => {
    const { redis, prefix, open, close } = await testRedis();
    const delivery = new BullMqDelivery({ prefix, redis });
    const consumers = new BullMqConsumers({
      prefix,
      openRedis: () => open('worker'),
      onError: () => undefined,
    });
    return {
      delivery,
      consumers,
      until: (predicate) => until(predicate, 20_000),
      close: async () => {
        await delivery.close();
        await close();
      },
    };
  });
});
