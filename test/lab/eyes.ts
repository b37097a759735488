/** What the program has written down about a lab's operations, read over a connection of the test's own. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import { RealClock } from '../../src/clock/real-clock.ts';
import type { MoveRecord, OperationRecord } from '../../src/domain/operation.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetPrefix, Stores } from '../../src/runtime/stores.ts';
import { until } from '../support/condition.ts';

const recordSchema = z.object({ pid: z.number(), socket: z.string() });

export class Eyes {
  readonly #redis: Redis;
  readonly #stores: Stores;

  private constructor(redis: Redis, stores: Stores) {
    this.#redis = redis;
    this.#stores = stores;
  }

  /** Of the embedded Redis that runs on this state directory. */
  static async open(stateDir: string, fleetName: string): Promise<Eyes> {
    const target = redisTarget(embeddedSocket(stateDir));
    const redis = await openRedis(target, 'producer');
    const openSubscriber = (): Promise<Redis> => openRedis(target, 'subscriber');
    const stores = new Stores({ redis, prefix: fleetPrefix(fleetName), clock: new RealClock(), openSubscriber });
    return new Eyes(redis, stores);
  }

  async operation(id: string): Promise<OperationRecord> {
    const record = await this.#stores.records.operation(id);
    if (record === null) throw new Error(`no operation ${id}`);
    return record;
  }

  /** Every move that was made for this VM, oldest first. */
  async moves(id: string, vm: string): Promise<MoveRecord[]> {
    const task = (await this.operation(id)).tasks.find((one) => one.vm === vm);
    const moves = await this.#stores.records.moves(task?.moveIds ?? []);
    return moves.filter((move) => move !== null);
  }

  /** The VM's first move, as soon as it is in this step of the migration's table; throws when it ends before. */
  async untilStep(id: string, vm: string, step: string, limitMs: number): Promise<MoveRecord> {
    let seen: MoveRecord | undefined;
    await until(
      async () => {
        seen = (await this.moves(id, vm)).at(-1);
        if (seen !== undefined && seen.step !== step && seen.endedAtMs !== null) {
          throw new Error(`${vm} is ${seen.step}, not ${step}: ${JSON.stringify(seen.reason)}`);
        }
        return seen?.step === step;
      },
      limitMs,
      `${vm} is ${step}`,
    );
    if (seen === undefined) throw new Error(`${vm} has no move`);
    return seen;
  }

  /** Which VMs some operation moves, and what room is kept where. */
  async claimed(): Promise<{ vms: string[]; reservations: string[] }> {
    const { vms, reservations } = await this.#stores.claims.read();
    return { vms: Object.keys(vms), reservations: Object.keys(reservations) };
  }

  async eventsOf(id: string): Promise<string[]> {
    return (await this.#stores.events.read(id, '0', 0)).map(({ kind, message }) => `${kind} ${message}`);
  }

  async close(): Promise<void> {
    await this.#stores.close();
    this.#redis.disconnect();
  }
}

function embeddedSocket(stateDir: string): string {
  for (const name of readdirSync(stateDir)) {
    if (!name.endsWith('.json')) continue;
    const record = recordSchema.safeParse(JSON.parse(readFileSync(join(stateDir, name), 'utf8')));
    if (record.success) return record.data.socket;
  }
  throw new Error(`no record of an embedded Redis in ${stateDir}`);
}
