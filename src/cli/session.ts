/** A command's way to the queue: which Redis (asked for, found, or started for this command), and a producer on it. */
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { createProducer } from '../queue/create-producer.ts';
import type { HostStatus, OperationHandle, Producer } from '../queue/producer.ts';
import { connectionSource, type RedisSource } from '../runtime/redis-connection.ts';
import { stateDir } from '../runtime/state-dir.ts';
import { openTracing } from '../runtime/tracing.ts';
import { type AuditWriter, auditWriter } from './audit-writer.ts';
import { auditedProducer } from './audited-producer.ts';
import type { Cli } from './cli.ts';

export interface Session {
  /** What it changes is written to the audit log. */
  readonly producer: Producer;
  readonly audit: AuditWriter;
  readonly redis: RedisSource;
  close(): Promise<void>;
}

/** REDIS_URL, or the Redis of the state directory, started if it does not run. Long-lived processes supervise it. */
export async function openRedisSource(
  { env, output }: Pick<Cli, 'env' | 'output'>,
  options: { readonly supervise: boolean },
): Promise<RedisSource> {
  const directory = env['REDIS_URL'] === undefined || env['REDIS_URL'] === '' ? stateDir(env) : undefined;
  const source = await connectionSource(env, {
    ...(directory === undefined ? {} : { stateDir: directory }),
    log: (line) => output.remark(line),
  });
  if (options.supervise) source.embedded?.watch();
  return source;
}

interface SessionOptions {
  /** For a use that may outlive the process that owns Redis. */
  readonly supervise?: boolean;
  /** For a use that names policies: the fleet's modules are loaded. */
  readonly policies?: boolean;
}

/** Throws `redisAway` within a few seconds when the Redis asked for does not answer. */
async function openSession(cli: Cli, fleet: Fleet | null, options: SessionOptions): Promise<Session> {
  // First: a module that cannot be loaded must not have started a Redis.
  const policies = options.policies === true ? await cli.loadPolicies(fleet) : null;
  const redis = await openRedisSource(cli, { supervise: options.supervise === true });
  try {
    const connection = redis.target.options;
    const tracing = await openTracing(cli.env);
    const producer = await createProducer({
      connection,
      telemetry: tracing?.telemetry,
      ...(fleet === null ? {} : { fleet }),
      ...(policies === null ? {} : { policies }),
    });
    const audit = auditWriter(redis.target, fleet, (line) => cli.output.remark(line));
    return {
      producer: auditedProducer(producer, (word) => audit.write(word)),
      audit,
      redis,
      async close() {
        audit.close();
        await producer.close();
        await tracing?.close();
        await redis.close();
      },
    };
  } catch (error) {
    await redis.close();
    throw error;
  }
}

/** Opens, uses, closes; also when the use fails. */
export async function withSession<T>(
  cli: Cli,
  fleet: Fleet | null,
  use: (session: Session) => Promise<T>,
  options: SessionOptions = {},
): Promise<T> {
  const session = await openSession(cli, fleet, options);
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}

/** Throws `unknownOperation`; where no fleet file says whose operations are meant, the message says where was looked. */
export async function findOperation(producer: Producer, id: string, fleet: Fleet | null): Promise<OperationHandle> {
  try {
    return await producer.operation(id);
  } catch (error) {
    if (fleet !== null || !(error instanceof HostevacError) || error.code !== 'unknownOperation') throw error;
    const hint =
      'no fleet file is here, so the fleet "default" was looked through; name yours with --fleet FILE or HOSTEVAC_FLEET';
    throw new HostevacError('unknownOperation', `${error.message} (${hint})`, { cause: error });
  }
}

/** The hosts, or none where no fleet file tells which there are. */
export async function hostsIfKnown(producer: Pick<Producer, 'hosts'>): Promise<HostStatus[]> {
  try {
    return await producer.hosts();
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'fleetFileMissing') return [];
    throw error;
  }
}
