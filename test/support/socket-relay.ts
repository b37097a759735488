/** A unix socket in front of the run's Redis that can misbehave: cut connections, swallow replies, stand still. */
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { openRedis, type RedisRole, redisTarget } from '../../src/runtime/redis-connection.ts';

export class SocketRelay {
  readonly socketPath: string;
  readonly #directory: string;
  readonly #server: Server;
  readonly #pairs = new Set<{ readonly client: Socket; readonly upstream: Socket }>();
  #dropping = false;
  #stalled = false;

  static async start(target: string): Promise<SocketRelay> {
    const directory = mkdtempSync(join(tmpdir(), 'hostevac-relay-'));
    const relay = new SocketRelay(directory, target);
    await new Promise<void>((resolve) => {
      relay.#server.listen(relay.socketPath, resolve);
    });
    return relay;
  }

  /** Use `SocketRelay.start`. */
  constructor(directory: string, target: string) {
    this.#directory = directory;
    this.socketPath = join(directory, 'relay.sock');
    this.#server = createServer((client) => {
      const upstream = connect(target);
      const pair = { client, upstream };
      this.#pairs.add(pair);
      const end = (): void => {
        this.#pairs.delete(pair);
        client.destroy();
        upstream.destroy();
      };
      for (const socket of [client, upstream]) socket.on('error', end).on('close', end);
      client.on('data', (data) => upstream.write(data));
      upstream.on('data', (data) => {
        if (!this.#dropping) client.write(data);
      });
      if (this.#stalled) client.pause();
    });
  }

  connect(role: RedisRole): Promise<Redis> {
    return openRedis(redisTarget(this.socketPath), role);
  }

  /** Requests reach Redis, replies reach nobody. */
  dropReplies(dropping: boolean): void {
    this.#dropping = dropping;
  }

  /** Nothing passes; what was sent meanwhile passes later. */
  stall(stalled: boolean): void {
    this.#stalled = stalled;
    for (const { client } of this.#pairs) {
      if (stalled) client.pause();
      else client.resume();
    }
  }

  /** Ends the connections there are; new ones are taken. */
  cut(): void {
    for (const { client, upstream } of this.#pairs) {
      client.destroy();
      upstream.destroy();
    }
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
