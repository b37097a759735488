/** What every queue delivery must do; runs on the in-memory model and on BullMQ. */
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Consumer, Delivery, DeliveryConsumers, MoveJob, MoveTurn } from '../../src/queue/delivery.ts';

export interface DeliveryHarness {
  readonly delivery: Delivery;
  readonly consumers: DeliveryConsumers;
  /** Lets time pass until it is so. Throws after a while. */
  until(predicate: () => boolean | Promise<boolean>): Promise<void>;
  close(): Promise<void>;
}

const ENDED: MoveTurn = { kind: 'ended', failed: null };

export function deliveryBehaviour(open: () => Promise<DeliveryHarness>): void {
  let harness: DeliveryHarness;
  const opened: Consumer[] = [];
  const job = (moveId: string, source = 'a'): MoveJob => ({ moveId, operationId: 'op-1', source });

  beforeEach(async () => {
    harness = await open();
    await harness.delivery.addOperation('op-1');
  });
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((consumer) => consumer.close(1_000)));
    await harness.close();
  });

  const consumeMoves = async (
    handler: Parameters<DeliveryConsumers['consumeMoves']>[1],
    host = 'a',
  ): Promise<Consumer> => {
    const consumer = await harness.consumers.consumeMoves(host, handler);
    opened.push(consumer);
    return consumer;
  };
  const consumeOperations = async (handler: Parameters<DeliveryConsumers['consumeOperations']>[0]): Promise<void> => {
    opened.push(await harness.consumers.consumeOperations(handler));
  };

  it('keeps what was put in while nobody consumes, and delivers it once somebody does', async () => {
    await harness.delivery.addMove(job('m-1'));
    const got: string[] = [];
    await consumeMoves(async ({ moveId }) => {
      got.push(moveId);
      return ENDED;
    });
    await harness.until(() => got.length === 1);
    expect(got).toEqual(['m-1']);
  });

  it('delivers a move only to consumers of its source host', async () => {
    const at: string[] = [];
    await consumeMoves(async () => {
      at.push('b');
      return ENDED;
    }, 'b');
    await consumeMoves(async () => {
      at.push('a');
      return ENDED;
    });
    await harness.delivery.addMove(job('m-1', 'a'));
    await harness.until(() => at.length > 0);
    expect(at).toEqual(['a']);
  });

  it('takes the same move twice as one', async () => {
    await harness.delivery.addMove(job('m-1'));
    await harness.delivery.addMove(job('m-1'));
    await harness.delivery.addMove(job('m-2'));
    const got: string[] = [];
    await consumeMoves(async ({ moveId }) => {
      got.push(moveId);
      return ENDED;
    });
    await harness.until(async () => got.length >= 2 && !(await harness.delivery.hasMove(job('m-2'))));
    expect(got.sort()).toEqual(['m-1', 'm-2']);
  });

  it('delivers a move again that asks for it, and forgets one that has ended', async () => {
    let turns = 0;
    await consumeMoves(async () => {
      turns += 1;
      return turns === 1 ? { kind: 'again', afterRealMs: 50, reason: 'held elsewhere' } : ENDED;
    });
    await harness.delivery.addMove(job('m-1'));
    expect(await harness.delivery.hasMove(job('m-1'))).toBe(true);
    await harness.until(async () => !(await harness.delivery.hasMove(job('m-1'))));
    expect(turns).toBe(2);
  });

  it('can be given a move again whose earlier job has ended, failed or not', async () => {
    let turns = 0;
    await consumeMoves(async () => {
      turns += 1;
      return turns === 1 ? { kind: 'ended', failed: 'no such host' } : ENDED;
    });
    for (const expected of [1, 2, 3]) {
      await harness.delivery.addMove(job('m-1'));
      await harness.until(async () => turns === expected && !(await harness.delivery.hasMove(job('m-1'))));
    }
  });

  it('delivers again what a handler threw over', async () => {
    let turns = 0;
    await consumeMoves(async () => {
      turns += 1;
      if (turns === 1) throw new Error('a fault');
      return ENDED;
    });
    await harness.delivery.addMove(job('m-1'));
    await harness.until(() => turns === 2);
  });

  it('takes back a move that nobody has begun, not one that somebody has', async () => {
    await harness.delivery.addMove(job('m-1'));
    expect(await harness.delivery.removeMove(job('m-1'))).toBe(true);
    expect(await harness.delivery.hasMove(job('m-1'))).toBe(false);
    let finish: (() => void) | undefined;
    const held = new Promise<void>((resolve) => {
      finish = resolve;
    });
    let begun = false;
    await consumeMoves(async () => {
      begun = true;
      await held;
      return ENDED;
    });
    await harness.delivery.addMove(job('m-2'));
    await harness.until(() => begun);
    expect(await harness.delivery.removeMove(job('m-2'))).toBe(false);
    finish?.();
    await harness.until(async () => !(await harness.delivery.hasMove(job('m-2'))));
    expect(await harness.delivery.removeMove(job('m-2'))).toBe(false);
  });

  it('hands back what a closing consumer had, to the next one', async () => {
    let begun = false;
    const first = await consumeMoves(async (_, signal) => {
      begun = true;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      return { kind: 'again', afterRealMs: 1, reason: 'shutting down' };
    });
    await harness.delivery.addMove(job('m-1'));
    await harness.until(() => begun);
    await first.close(5_000);
    let adopted = false;
    await consumeMoves(async () => {
      adopted = true;
      return ENDED;
    });
    await harness.until(() => adopted);
  });

  it('wakes a parked operation long before its time', async () => {
    let turns = 0;
    await consumeOperations(async () => {
      turns += 1;
      return turns < 2 ? { ended: false, againInRealMs: 3_600_000 } : { ended: true };
    });
    await harness.until(() => turns === 1);
    // Parked a moment after its turn: a wake before that is what the operation's own net is for.
    await harness.until(async () => {
      await harness.delivery.wakeOperation('op-1');
      return turns === 2;
    });
    await harness.delivery.wakeOperation('op-1');
    await harness.delivery.wakeOperation('nobody');
  });

  it('brings a parked operation back by itself', async () => {
    let turns = 0;
    await consumeOperations(async () => {
      turns += 1;
      return turns < 3 ? { ended: false, againInRealMs: 20 } : { ended: true };
    });
    await harness.until(() => turns === 3);
  });
}
