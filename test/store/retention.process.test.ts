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
const LANES = 30;
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

const PREFIX = '{hostevac:chaos}:';
const OPERATION = '(?:ev|lb)-[a-z0-9]+-[a-z0-9]+';
const MOVE = `${OPERATION}-\\d+-\\d+`;
const HOST = 'node-\\d+';
const UUID = '[0-9a-f]{8}-[0-9a-f-]{27}';
const DAY_MS = 86_400_000;

interface Kind {
  /** Behind the prefix. */
  readonly name: string;
  readonly most: number;
  /** null: it stays until something else takes its place. */
  readonly expiresWithinMs: number | null;
}

/** Of whom everything is kept for a week: records, flags, events. */
const each = OPERATIONS;
/** What a queue keeps of ended jobs (`KEEP_ENDED` in src/queue/bullmq-delivery.ts), and what may have ended since it counted. */
const JOBS = 1_000 + HOSTS.length;

/** Every kind of key there may be. */
const KINDS: readonly Kind[] = [
  { name: 'cell:(?:index|budget|claims|workers|fleet|abandoned)', most: 6, expiresWithinMs: null },
  { name: `cell:inventory:${HOST}`, most: HOSTS.length, expiresWithinMs: null },
  { name: `cell:worker:${UUID}`, most: 1, expiresWithinMs: 60_000 },
  { name: `cell:operation:${OPERATION}`, most: each, expiresWithinMs: 7 * DAY_MS },
  { name: `cell:control:${OPERATION}`, most: each, expiresWithinMs: 7 * DAY_MS },
  { name: `events:${OPERATION}`, most: each, expiresWithinMs: 7 * DAY_MS },
  { name: 'events', most: 1, expiresWithinMs: 7 * DAY_MS },
  { name: `cell:move:${MOVE}`, most: 3 * each, expiresWithinMs: 7 * DAY_MS },
  { name: `cell:history:${UUID}`, most: 3, expiresWithinMs: 30 * DAY_MS },
  { name: 'lease-token', most: 1, expiresWithinMs: null },
  { name: 'versions', most: 1, expiresWithinMs: null },
  { name: `lease:(?:vm|operation):.*`, most: 0, expiresWithinMs: null },
  { name: `lease-past:(?:vm|operation):.*`, most: 0, expiresWithinMs: null },
  { name: '(?:operations):(?:completed|events|id|meta)', most: 4, expiresWithinMs: null },
  { name: `operations:stalled-check`, most: 1, expiresWithinMs: DAY_MS },
  { name: `operations:${OPERATION}`, most: JOBS, expiresWithinMs: null },
  { name: `operations:${OPERATION}:processed`, most: JOBS, expiresWithinMs: null },
  { name: `migrations-${HOST}:(?:completed|events|id|meta)`, most: 4 * HOSTS.length, expiresWithinMs: null },
  { name: `migrations-${HOST}:stalled-check`, most: HOSTS.length, expiresWithinMs: DAY_MS },
  { name: `migrations-${HOST}:${MOVE}`, most: JOBS, expiresWithinMs: null },
  { name: 'sim:(?:log|meta|origin)', most: 3, expiresWithinMs: null },
  { name: `sim:sent:${UUID}`, most: Number.POSITIVE_INFINITY, expiresWithinMs: DAY_MS },
];

function kindOf(key: string): Kind | undefined {
  if (!key.startsWith(PREFIX)) return undefined;
  return KINDS.find(({ name }) => new RegExp(`^${name}$`).test(key.slice(PREFIX.length)));
}

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

async function wrongWith(redis: Redis, keys: readonly string[]): Promise<string[]> {
  const wrong: string[] = [];
  const counts = new Map<Kind, number>();
  for (const key of keys) {
    const kind = kindOf(key);
    if (kind === undefined) {
      wrong.push(`${key} has no name here`);
      continue;
    }
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
    const leftMs = await redis.pttl(key);
    if (kind.expiresWithinMs !== null && (leftMs === -1 || leftMs > kind.expiresWithinMs)) {
      wrong.push(`${key} goes in ${leftMs} ms, not within ${kind.expiresWithinMs}`);
    }
  }
  for (const [{ name, most }, count] of counts) if (count > most) wrong.push(`${count} of ${name}, not ${most}`);
  return wrong;
}

test(
  'is what is said of it, and nothing that has no name',
  async () => {
    await place.startUp();
    const connection = place.redis().socket;
    const producer = await createProducer({ connection, fleetName: 'chaos' });
    const redis = await openRedis(redisTarget(connection), 'producer');
    try {
      const begin = performance.now();
      let left = OPERATIONS;
      // Never all hosts at once: where all are cordoned a VM has nowhere to go.
      const others = [...HOSTS];
      const lane = async (): Promise<void> => {
        for (left -= 1; left >= 0; left -= 1) {
          const name = others.shift() ?? '';
          const handle = await producer.evacuateNode({ host: name });
          const { state, blocked } = await handle.result();
          expect(state, JSON.stringify(blocked)).toBe('done');
          await producer.uncordon(name);
          others.push(name);
        }
      };
      await Promise.all(Array.from({ length: LANES }, lane));
      const keys = await keysOf(redis);
      const memory = /used_memory:(\d+)/.exec(await redis.info('memory'))?.[1];
      const tookMs = Math.round(performance.now() - begin);
      console.log(
        `${OPERATIONS} operations in ${tookMs} ms: ${keys.length} keys, ${Number(memory) / 2 ** 20} MiB of Redis`,
      );
      // The last operations have ended; that their jobs have, too, comes a moment later.
      const wrong = async (): Promise<string[]> => wrongWith(redis, await keysOf(redis));
      await expect.poll(wrong, { timeout: 15_000, interval: 250 }).toEqual([]);
      expect(keys.length).toBeGreaterThan(OPERATIONS);
    } finally {
      await producer.close();
      redis.disconnect();
    }
  },
  LIMIT_MS,
);
