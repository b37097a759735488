/**
 * What Redis keeps of operations that have ended. HOSTEVAC_RETENTION_OPERATIONS says of how many (default 1,200: more than
 * the lists and queues keep).
 */

import type { Redis } from 'ioredis';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createProducer } from '../../src/queue/create-producer.ts';
import { openRedis, redisTarget } from '../../src/runtime/redis-connection.ts';
import { fleetText, Place } from '../chaos/place.ts';

const OPERATIONS = Number(process.env['HOSTEVAC_RETENTION_OPERATIONS'] ?? 1_200);
const LIMIT_MS = 60_000 + OPERATIONS * 200;
const HOSTS = Array.from({ length: 40 }, (_, index) => `node-${index + 1}`);
/** Moves to and fro; all other hosts are empty. */
const FLEET = fleetText({
  speed: 100,
  bandwidth: '1GiB/s',
  memory: '64GiB',
  hosts: Object.fromEntries(
    HOSTS.map((name, index) => [name, index < 3 ? [{ name: `vm-${index}`, memory: '1GiB' }] : []]),
  ),
});

const PREFIX = '{hostevac:chaos}';
const HOST = 'node-\\d+';
const ID = '[\\w-]+';

interface Kind {
  readonly name: RegExp;
  /** null: it stays. */
  readonly expiresWithinMs: number | null;
  readonly most: number;
}

const DAY_MS = 86_400_000;
const anyNumber = Number.POSITIVE_INFINITY;

/** Every kind of key there may be, by its name behind the prefix. The longest stay what src/store/records.ts keeps ended records. */
const KINDS: readonly Kind[] = [
  { name: /^cell:(index|budget|claims|workers|fleet|abandoned|measuring)$/, expiresWithinMs: null, most: 7 },
];

let place: Place;
beforeEach(() => {
  place = new Place(FLEET);
});
afterEach(() => place.close());

async function keysOf(redis: Redis): Promise<string[]> {
  const keys: string[] = [];
  for await (const some of redis.scanStream({ count: 1_000 })) keys.push(...(some as string[]));
  return keys;
}

test(
  'is what is said of it, and nothing that has no name',
  async () => {
    await place.startUp();
    const connection = place.redis().socket;
    const producer = await createProducer({ connection, fleetName: 'chaos' });
    const begin = performance.now();
    let left = OPERATIONS;
    const lane = async (name: string): Promise<void> => {
      for (left -= 1; left >= 0; left -= 1) {
        const handle = await producer.evacuateNode({ host: name });
        await handle.result();
        await producer.uncordon(name);
      }
    };
    await Promise.all(HOSTS.map(lane));
    console.log(`${OPERATIONS} operations in ${Math.round(performance.now() - begin)} ms`);
    const redis = await openRedis(redisTarget(connection), 'producer');
    const counts = new Map<string, number>();
    for (const key of await keysOf(redis)) {
      const name = key.replace(/[0-9a-f]{8}[\w-]*/g, 'ID').replace(/node-\d+/g, 'HOST');
      const ttl = (await redis.pttl(key)) > 0 ? 'ttl' : 'none';
      counts.set(`${name} ${ttl}`, (counts.get(`${name} ${ttl}`) ?? 0) + 1);
    }
    console.log(
      [...counts]
        .sort()
        .map(([a, b]) => `${b} ${a}`)
        .join('\n'),
    );
    await producer.close();
    redis.disconnect();
  },
  LIMIT_MS,
);
