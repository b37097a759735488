/**
 * Which Redis this process uses, how a connection to it is set up for its role, and whether that Redis is fit to keep
 * requests. The embedded one is `embedded-redis.ts`. No message here holds a user or a password.
 */
import { Redis, type RedisOptions } from 'ioredis';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import { isRedisAway, reachable, redisAddress, redisAway } from '../store/redis-script.ts';
import { type EmbeddedRedis, ensureEmbeddedRedis } from './embedded-redis.ts';
import { stateDir } from './state-dir.ts';

/** `producer`: fails soon when Redis is away. `worker`: waits until it is back. `subscriber`: the same, for pub/sub. */
export type RedisRole = 'producer' | 'worker' | 'subscriber';

/** Where a Redis is. */
export interface RedisTarget {
  /** For people; without user and password. */
  readonly address: string;
  /** Where and as whom; nothing about behaviour unless the caller of the library gave it. */
  readonly options: RedisOptions;
}

export interface RedisSource {
  readonly target: RedisTarget;
  /** null: REDIS_URL is set. */
  readonly embedded: EmbeddedRedis | null;
  /** Ends the embedded Redis if this process owns it; close the connections first. */
  close(): Promise<void>;
}

/** REDIS_URL if set, else the embedded Redis, started if need be. Throws `badInput`, `redisMissing` or `redisAway`. */
export async function connectionSource(
  env: NodeJS.ProcessEnv,
  options: { readonly stateDir?: string; readonly log: (line: string) => void },
): Promise<RedisSource> {
  const url = env['REDIS_URL'];
  if (url !== undefined && url !== '') {
    return { target: redisTarget(url, 'REDIS_URL'), embedded: null, close: async () => undefined };
  }
  const embedded = await ensureEmbeddedRedis({ stateDir: options.stateDir ?? stateDir(env), log: options.log, env });
  return { target: redisTarget(embedded.socketPath), embedded, close: () => embedded.stop() };
}

/**
 * A Redis URL (`redis://`, `rediss://`, `unix://`), a socket path, or ioredis options. Throws `badInput`; `name` says in the message
 * where the value came from.
 */
export function redisTarget(connection: string | RedisOptions, name = 'connection'): RedisTarget {
  const options = typeof connection === 'string' ? parseConnection(connection, name) : connection;
  return { address: redisAddress(options), options };
}

function parseConnection(text: string, name: string): RedisOptions {
  if (text.startsWith('/')) return { path: text };
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw notAnAddress(name, text);
  }
  const decoded = (part: string): string => {
    try {
      return decodeURIComponent(part);
    } catch {
      throw notAnAddress(name, text);
    }
  };
  const credentials = {
    ...(url.username === '' ? {} : { username: decoded(url.username) }),
    ...(url.password === '' ? {} : { password: decoded(url.password) }),
  };
  if (url.protocol === 'unix:') {
    if (url.pathname.length < 2) throw notAnAddress(name, text);
    return { path: decoded(url.pathname), ...credentials };
  }
  const db = url.pathname.replace(/^\//, '');
  if ((url.protocol !== 'redis:' && url.protocol !== 'rediss:') || !/^\d{0,4}$/.test(db) || url.search !== '') {
    throw notAnAddress(name, text);
  }
  return {
    // An IPv6 address stands in brackets in a URL only.
    host: url.hostname === '' ? 'localhost' : url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? 6379 : Number(url.port),
    ...(db === '' ? {} : { db: Number(db) }),
    ...credentials,
    ...(url.protocol === 'rediss:' ? { tls: {} } : {}),
  };
}

function notAnAddress(name: string, text: string): HostevacError {
  // Whatever is wrong with it, a password may be in it: before the last `@`, or in a query.
  const shown = text.replace(/^([a-z]+:\/\/)?.*@/s, '$1***@').replace(/\?.*$/s, '?***');
  const message = `expected redis://host:port/db, rediss://host:port/db or the path of a unix socket`;
  const remedy = 'correct it, or leave it away for the embedded Redis';
  return new HostevacError('badInput', `${name} "${shown}": ${message}; ${remedy}`, {
    problems: [{ path: name, value: shown, message, remedy }],
  });
}

/** One try to connect, and one answer to a producer. */
const PATIENCE_MS = 5_000;

/** ioredis options for a role; what the library's caller set in the target wins over nothing here that a role needs. */
export function redisOptions(target: RedisTarget, role: RedisRole): RedisOptions {
  const shared: RedisOptions = {
    ...target.options,
    connectTimeout: PATIENCE_MS,
    retryStrategy: (times) => Math.min(25 * 2 ** Math.min(times, 6), 1_000),
    // After a failover the old primary answers READONLY: connect again, and send the command again.
    reconnectOnError: (error) => (error.message.startsWith('READONLY') ? 2 : false),
  };
  if (role === 'producer') {
    return { ...shared, enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: PATIENCE_MS };
  }
  return { ...shared, maxRetriesPerRequest: null };
}

/** A command line waits this long for a Redis that is just changing hands; a service, whose start is rare, for `PATIENCE_MS`. */
const PRODUCER_OPEN_MS = 2_500;
const REFUSED = /^(WRONGPASS|NOAUTH|NOPERM|ERR (AUTH|invalid password|Client sent AUTH))/;

/**
 * A connection that is ready. Throws `redisAway` when there is none within 2.5 s (producer) or 5 s; afterwards it
 * reconnects by itself. The caller ends it with `disconnect()` or `quit()`.
 */
export async function openRedis(target: RedisTarget, role: RedisRole): Promise<Redis> {
  const patienceMs = role === 'producer' ? PRODUCER_OPEN_MS : PATIENCE_MS;
  const redis = new Redis({ ...redisOptions(target, role), lazyConnect: true });
  const settled = new AbortController();
  let why = `no answer within ${patienceMs} ms`;
  // Also keeps ioredis from printing errors itself. The message only: AUTH's arguments hang on the error.
  redis.on('error', (error: Error) => {
    why = error.message === '' && 'code' in error ? String(error.code) : error.message;
    // Asking again with the same password would not help.
    if (REFUSED.test(why)) settled.abort();
  });
  redis.once('ready', () => settled.abort());
  // It rejects at the first failure; until time is out the retries may still make it.
  redis.connect().catch(() => undefined);
  await abortableSleep(patienceMs, settled.signal);
  if (redis.status === 'ready') return redis;
  redis.disconnect();
  if (REFUSED.test(why)) {
    throw new HostevacError(
      'redisAway',
      `Redis at ${target.address} refuses this user (${why}); set user and password in REDIS_URL: redis://user:password@host:port`,
    );
  }
  throw redisAway(target.address, why);
}

export interface RedisFitness {
  readonly version: string;
  /** What could not be checked or is not as it should be, one line each, for the log. */
  readonly notes: readonly string[];
}

/** Oldest version with everything used here: exclusive ranges of streams came with 6.2. */
const OLDEST = [6, 2] as const;

/** Throws `redisUnfit` when it is older than 6.2 or may evict keys, `redisAway` when it does not answer. */
export async function checkRedis(redis: Redis): Promise<RedisFitness> {
  const address = redisAddress(redis.options);
  const notes: string[] = [];
  const info = await allowed(redis, redis.info());
  const version = infoField(info, 'redis_version');
  if (version === undefined) notes.push(`Redis at ${address} does not tell its version; 6.2 or later is needed`);
  else if (isOlder(version)) {
    throw new HostevacError(
      'redisUnfit',
      `Redis at ${address} is version ${version}; 6.2 or later is needed: upgrade it`,
    );
  }
  // INFO tells the policy too, so that a server that forbids CONFIG (managed ones do) can still be checked.
  const policy = infoField(info, 'maxmemory_policy') ?? (await configuredPolicy(redis));
  if (policy === undefined) {
    notes.push(`Redis at ${address} does not tell its maxmemory-policy; make sure that it is noeviction`);
  } else if (policy !== 'noeviction') {
    throw new HostevacError(
      'redisUnfit',
      `Redis at ${address} has maxmemory-policy ${policy} and may throw requests away; set it: CONFIG SET maxmemory-policy noeviction`,
    );
  }
  if (infoField(info, 'aof_enabled') === '0') {
    notes.push(
      `Redis at ${address} writes no append-only file: requests made shortly before a crash of it can get lost`,
    );
  }
  return { version: version ?? 'unknown', notes };
}

async function configuredPolicy(redis: Redis): Promise<string | undefined> {
  const reply = await allowed(redis, redis.config('GET', 'maxmemory-policy'));
  return Array.isArray(reply) && typeof reply[1] === 'string' ? reply[1] : undefined;
}

/** The reply, or undefined when the server forbids the command. Throws `redisAway`. */
async function allowed<T>(redis: Redis, reply: Promise<T>): Promise<T | undefined> {
  try {
    return await reachable(redis, reply);
  } catch (error) {
    if (isRedisAway(error)) throw error;
    return undefined;
  }
}

function infoField(info: string | undefined, name: string): string | undefined {
  return new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info ?? '')?.[1];
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1]);
}
