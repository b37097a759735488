/** A command's way to the queue: which Redis (asked for, found, or started for this command), and a producer on it. */
import type { Fleet } from '../domain/fleet.ts';
import { createProducer } from '../queue/create-producer.ts';
import type { Producer } from '../queue/producer.ts';
import { connectionSource } from '../runtime/redis-connection.ts';
import { stateDir } from '../runtime/state-dir.ts';
import type { Cli } from './cli.ts';

export interface Session {
  readonly producer: Producer;
  close(): Promise<void>;
}

/** Throws `redisAway` within a few seconds when the Redis asked for does not answer. */
export async function openSession(cli: Pick<Cli, 'env'>, fleet: Fleet | null): Promise<Session> {
  const source = await connectionSource(cli.env, { stateDir: stateDir(cli.env) });
  try {
    const producer = await createProducer({ connection: source.options, ...(fleet === null ? {} : { fleet }) });
    return {
      producer,
      async close() {
        await producer.close();
        await source.close();
      },
    };
  } catch (error) {
    await source.close();
    throw error;
  }
}

/** Opens, uses, closes; also when the use fails. */
export async function withSession<T>(
  cli: Pick<Cli, 'env'>,
  fleet: Fleet | null,
  use: (session: Session) => Promise<T>,
): Promise<T> {
  const session = await openSession(cli, fleet);
  try {
    return await use(session);
  } finally {
    await session.close();
  }
}
