import { describe } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryDelivery } from '../../src/queue/memory-delivery.ts';
import { deliveryBehaviour } from './delivery-behaviour.ts';

describe('delivery in memory', () => {
  deliveryBehaviour(async () => {
    const clock = new VirtualClock();
    const delivery = new MemoryDelivery(clock);
    return {
      delivery,
      consumers: delivery,
      until: async (predicate) => {
        for (let ms = 0; ms < 60_000; ms += 10) {
          if (await predicate()) return;
          await clock.advance(10);
        }
        throw new Error('still not so after a minute of virtual time');
      },
      close: async () => undefined,
    };
  });
});
