/** A Lua script that is sent once and then called by its hash; and what a failed call to Redis means to a user. */
import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { HostevacError } from '../domain/errors.ts';

export class RedisScript {
  readonly #text: string;
  readonly #sha: string;

  constructor(text: string) {
    this.#text = text;
    this.#sha = createHash('sha1').update(text).digest('hex');
  }

  /** The script's reply. Throws `redisAway` when Redis cannot be reached; its own errors pass unchanged. */
  async run(redis: Redis, keys: readonly string[], args: readonly (string | number)[]): Promise<unknown> {
    try {
      return await redis.evalsha(this.#sha, keys.length, ...keys, ...args);
    } catch (error) {
      // A Redis that was started again has forgotten its scripts.
      if (!(error instanceof Error && error.message.startsWith('NOSCRIPT'))) throw redisError(redis, error);
    }
    return reachable(redis, redis.eval(this.#text, keys.length, ...keys, ...args));
  }
}

/** The promise's value; a connection that failed becomes `redisAway`. */
export async function reachable<T>(redis: Redis, reply: Promise<T>): Promise<T> {
  try {
    return await reply;
  } catch (error) {
    throw redisError(redis, error);
  }
}

/** Where a connection leads, for messages: never with user or password. */
export function redisAddress(options: Redis['options']): string {
  if (typeof options.path === 'string') return options.path;
  const db = options.db === undefined || options.db === 0 ? '' : `/${options.db}`;
  return `${options.tls === undefined ? 'redis' : 'rediss'}://${options.host ?? 'localhost'}:${options.port ?? 6379}${db}`;
}

const AWAY_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'ENOENT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EPIPE',
  'EACCES',
]);
/** What ioredis says when a connection ended, never came, or answered too late. */
const AWAY_MESSAGES =
  /^(Connection is closed|Command timed out|Stream isn't writeable|Socket closed|Reached the max retries per request|connect ETIMEDOUT|LOADING|CLUSTERDOWN|MASTERDOWN)/;

/** True when the error says that Redis was not reached or did not answer, so that trying again later is right. */
export function isRedisAway(error: unknown): boolean {
  if (error instanceof HostevacError) return error.code === 'redisAway';
  if (!(error instanceof Error)) return false;
  return AWAY_MESSAGES.test(error.message) || ('code' in error && AWAY_CODES.has(String(error.code)));
}

/** `redisAway` for a connection that failed, anything else as it is. */
function redisError(redis: Redis, error: unknown): unknown {
  if (error instanceof HostevacError || !isRedisAway(error)) return error;
  return redisAway(redisAddress(redis.options), error instanceof Error ? error.message : String(error));
}

/** `why`: the client's own words. The original error is left out: ioredis hangs the command on it, with AUTH's arguments. */
export function redisAway(address: string, why: string): HostevacError {
  return new HostevacError(
    'redisAway',
    `Redis at ${address} cannot be reached (${why.trim()}); start it, or set REDIS_URL to one that runs`,
  );
}
