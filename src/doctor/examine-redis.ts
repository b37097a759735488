/** The Redis that this process would use, and the workers that are alive in it. Starts none. */
import { Redis } from 'ioredis';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { runningEmbeddedRedis } from '../runtime/embedded-redis.ts';
import { fleetHash } from '../runtime/fleet-source.ts';
import { inPath } from '../runtime/in-path.ts';
import { packageVersion } from '../runtime/package-version.ts';
import { openRedis, type RedisTarget, redisOptions, redisTarget } from '../runtime/redis-connection.ts';
import { fleetPrefix } from '../runtime/stores.ts';
import { Presence } from '../store/presence.ts';
import { isRedisAway } from '../store/redis-script.ts';
import { RedisCellStore } from '../store/redis-store.ts';
import { type Finding, fault, notChecked } from './finding.ts';
import { judgeRedis } from './judge/redis.ts';
import { judgeWorkers } from './judge/workers.ts';
import { askRedis } from './probe/redis.ts';
import { watchWorkers } from './probe/workers.ts';
import type { Surroundings } from './surroundings.ts';

export async function examineRedis(
  { env, signal }: Surroundings,
  stateDir: string,
  fleet: Fleet | null,
): Promise<Finding[]> {
  try {
    const target = await targetOf(env, stateDir);
    if (target === null) return [notRunning(env)];
    // Waits for one that is just changing hands, and words why there is none.
    (await openRedis(target, 'producer')).disconnect();
    return await ask(target, fleet, signal);
  } catch (error) {
    if (error instanceof HostevacError && (error.code === 'redisAway' || error.code === 'badInput')) {
      const [found = error.message, ...remedy] = error.message.split('; ');
      return [fault('redis.reach', 'redis', found, remedy.join('; ') || 'start it, or correct REDIS_URL')];
    }
    if (!isRedisAway(error)) throw error;
    const why = error instanceof Error ? error.message : String(error);
    return [fault('redis.reach', 'redis', `it stopped answering while it was asked: ${why}`, 'see its log')];
  }
}

async function targetOf(env: NodeJS.ProcessEnv, stateDir: string): Promise<RedisTarget | null> {
  const url = env['REDIS_URL'];
  if (url !== undefined && url !== '') return redisTarget(url, 'REDIS_URL');
  const socket = await runningEmbeddedRedis(stateDir);
  return socket === undefined ? null : redisTarget(socket);
}

const SERVERS = ['redis-server', 'valkey-server', 'redis-check-rdb', 'valkey-check-rdb'];

/** It is started when it is needed, by what has to be there. */
function notRunning(env: NodeJS.ProcessEnv): Finding {
  const missing = [
    ...(SERVERS.some((name) => inPath(name, env) !== undefined) ? [] : ['redis-server']),
    ...['setpriv', 'flock'].filter((name) => inPath(name, env) === undefined),
  ];
  if (missing.length > 0) {
    return fault(
      'redis.reach',
      'redis',
      `REDIS_URL is not set, and to start one of its own hostevac lacks ${missing.join(', ')}`,
      'install redis-server 6.2 or later and util-linux, or set REDIS_URL',
    );
  }
  return notChecked(
    'redis.reach',
    'redis',
    'REDIS_URL is not set, and no hostevac up runs with this state directory; it would start a Redis of its own',
    'start hostevac up and ask again, or set REDIS_URL to the Redis of the fleet',
  );
}

/** Nothing is sent a second time: a command that was queued in MULTI must not come alone. */
function connection(target: RedisTarget): Redis {
  const redis = new Redis({
    ...redisOptions(target, 'producer'),
    enableOfflineQueue: true,
    reconnectOnError: null,
    retryStrategy: () => null,
    maxRetriesPerRequest: 0,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
  });
  // Each command's own failure says the same.
  redis.on('error', () => undefined);
  return redis;
}

async function ask(target: RedisTarget, fleet: Fleet | null, signal: AbortSignal): Promise<Finding[]> {
  const prefix = fleetPrefix(fleet?.name ?? 'default');
  const redis = connection(target);
  try {
    const facts = await askRedis(redis, target, prefix, async () => connection(target));
    const findings = judgeRedis(facts);
    const own = { version: packageVersion(), fleetHash: fleet === null ? null : fleetHash(fleet) };
    const unfit = findings.find(
      ({ id, verdict }) => verdict === 'fault' && (id === 'redis.permissions' || id === 'redis.role'),
    );
    if (unfit !== undefined) {
      const why = `heartbeats are not read while ${unfit.id} is at fault`;
      return [...findings, notChecked('workers.fleet', 'workers', why)];
    }
    const workers = await watchWorkers(new Presence(new RedisCellStore(redis, prefix)), signal);
    return [...findings, ...judgeWorkers(workers, own)];
  } finally {
    redis.disconnect();
  }
}
