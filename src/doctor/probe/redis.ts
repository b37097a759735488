/** Asks a Redis what it is and what this user may do there. Reads only: commands are queued in MULTI and discarded, never carried out. */
import { networkInterfaces } from 'node:os';
import type { Redis } from 'ioredis';
import type { RedisTarget } from '../../runtime/redis-connection.ts';
import { isRedisAway } from '../../store/redis-script.ts';
import type { RedisFacts } from '../judge/redis.ts';
import { QUEUED_COMMANDS } from '../redis-commands.ts';

/** The one with the shortest way there and back tells most. */
const TIME_ASKED = 7;
const NO_RIGHT = /^NOPERM/;

/** `open`: a second connection, for what a subscription may. `prefix`: of the fleet's keys. */
export async function askRedis(
  redis: Redis,
  target: RedisTarget,
  prefix: string,
  open: () => Promise<Redis>,
): Promise<RedisFacts> {
  const { options } = target;
  const info = await unlessForbidden(redis.info());
  return {
    address: target.address,
    info: info === undefined ? null : fieldsOf(info),
    appendfsync: await configured(redis, 'appendfsync'),
    maxmemoryPolicy: await configured(redis, 'maxmemory-policy'),
    local: options.path !== undefined || isHere(options.host ?? 'localhost', redis),
    encrypted: options.tls !== undefined,
    password: typeof options.password === 'string' && options.password !== '',
    ...(await forbiddenHere(redis, prefix, open)),
    clock: await clockAhead(redis),
  };
}

function fieldsOf(info: string): Record<string, string> {
  const pairs = info.split(/\r?\n/).flatMap((line) => {
    const at = line.indexOf(':');
    return at < 1 ? [] : [[line.slice(0, at), line.slice(at + 1)] as const];
  });
  return Object.fromEntries(pairs);
}

async function configured(redis: Redis, name: string): Promise<string | null> {
  const reply: unknown = await unlessForbidden(redis.config('GET', name));
  return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : null;
}

/** Addresses of this machine's own interfaces are as good as the loopback: nothing leaves it. */
function isHere(host: string, redis: Redis): boolean {
  if (/^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host)) return true;
  const remote = 'remoteAddress' in redis.stream ? String(redis.stream.remoteAddress) : '';
  const own = Object.values(networkInterfaces()).flatMap((each) => each?.map(({ address }) => address) ?? []);
  return own.includes(host) || own.includes(remote);
}

type Forbidden = Pick<RedisFacts, 'forbidden' | 'forbiddenUnknown'>;

async function forbiddenHere(redis: Redis, prefix: string, open: () => Promise<Redis>): Promise<Forbidden> {
  const key = `${prefix}:doctor`;
  if (await refuses(redis.call('MULTI'))) return { forbidden: null, forbiddenUnknown: 'this user may not use MULTI' };
  const forbidden: string[] = [];
  try {
    for (const [name, form] of Object.entries(QUEUED_COMMANDS)) {
      const reply = await refuses(redis.call(name, ...form(key)));
      if (reply) forbidden.push(reply === 'command' ? name.toUpperCase() : `${name.toUpperCase()} on keys ${prefix}:*`);
    }
    const channel = `${prefix}:wake:doctor`;
    if (await refuses(redis.call('PUBLISH', channel, ''))) forbidden.push(`PUBLISH to channels ${prefix}:wake:*`);
  } finally {
    await refuses(redis.call('DISCARD'));
  }
  const subscriber = await open();
  try {
    if (await refuses(subscriber.subscribe(`${prefix}:wake:doctor`))) {
      forbidden.push(`SUBSCRIBE to channels ${prefix}:wake:*`);
    }
  } finally {
    subscriber.disconnect();
  }
  return { forbidden, forbiddenUnknown: '' };
}

/** Is it refused for want of a right, and of which kind? */
async function refuses(reply: Promise<unknown>): Promise<'command' | 'key' | false> {
  try {
    await reply;
    return false;
  } catch (error) {
    if (!(error instanceof Error) || isRedisAway(error)) throw error;
    if (NO_RIGHT.test(error.message)) return /key|channel/i.test(error.message) ? 'key' : 'command';
    if (/^ERR unknown (sub)?command/i.test(error.message)) return 'command';
    // READONLY, MISCONF, OOM, MOVED: no matter of rights; there are checks of their own.
    if (error.name === 'ReplyError') return false;
    throw error;
  }
}

async function unlessForbidden<T>(reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reply;
  } catch (error) {
    // Managed servers have no CONFIG at all.
    if (error instanceof Error && /^(NOPERM|ERR unknown)/.test(error.message)) return undefined;
    throw error;
  }
}

async function clockAhead(redis: Redis): Promise<RedisFacts['clock']> {
  let best: RedisFacts['clock'] = null;
  for (let asked = 0; asked < TIME_ASKED; asked += 1) {
    const before = Date.now();
    const began = performance.now();
    const reply = await unlessForbidden(redis.time());
    if (reply === undefined) return null;
    const uncertainMs = (performance.now() - began) / 2;
    const theirs = Number(reply[0]) * 1_000 + Number(reply[1]) / 1_000;
    // Date.now() counts whole ms.
    const measured = { aheadMs: before + uncertainMs - theirs, uncertainMs: uncertainMs + 1 };
    if (best === null || measured.uncertainMs < best.uncertainMs) best = measured;
  }
  return best;
}
