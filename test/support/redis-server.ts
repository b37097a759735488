/** A Redis of a test's own, set up as the test wants it: a real server in a directory of its own, ended with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { endRedis, ping } from '../../src/runtime/redis-process.ts';
import { until } from './condition.ts';

export class RedisServer {
  readonly directory = mkdtempSync(join(tmpdir(), 'hostevac-redis-'));
  readonly socketPath = join(this.directory, 'redis.sock');
  readonly dataDir = join(this.directory, 'data');
  readonly #clients: Redis[] = [];
  #child: ChildProcess | null = null;

  /** `settings`: redis.conf as arguments. `within`: a program that runs it, such as `nsenter`. */
  static async start(settings: readonly string[] = [], within: readonly string[] = []): Promise<RedisServer> {
    const server = new RedisServer();
    await server.#start(settings, within);
    return server;
  }

  get url(): string {
    return `unix://${this.socketPath}`;
  }

  /** A connection; ended with the server. */
  client(options: { readonly username?: string; readonly password?: string } = {}): Redis {
    const redis = new Redis({ path: this.socketPath, ...options });
    this.#clients.push(redis);
    return redis;
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    if (this.#child !== null) await endRedis(this.#child);
    rmSync(this.directory, { recursive: true, force: true });
  }

  async #start(settings: readonly string[], within: readonly string[]): Promise<void> {
    mkdirSync(this.dataDir);
    const own = [
      '--port',
      '0',
      '--save',
      '',
      '--appendonly',
      'yes',
      '--appendfsync',
      'always',
      '--maxmemory-policy',
      'noeviction',
    ];
    const place = ['--unixsocket', this.socketPath, '--dir', this.dataDir, '--logfile', join(this.directory, 'log')];
    const command = ['setpriv', '--pdeathsig', 'TERM', ...within, 'redis-server', ...place, ...own, ...settings];
    const [program = '', ...args] = command;
    const child = spawn(program, args, { stdio: 'ignore', detached: true });
    this.#child = child;
    await until(
      async () => {
        if (child.exitCode !== null) throw new Error(`redis-server ended with ${child.exitCode}`);
        // `silent`: it wants a password first.
        return ['ready', 'silent'].includes((await ping(this.socketPath, 300)).state);
      },
      20_000,
      'a Redis of the test',
    );
  }
}
