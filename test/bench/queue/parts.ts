/** Processes that are looked at, and a Redis of their own whose commands are counted as they arrive. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { redisServerProgram } from '../../../src/runtime/redis-install.ts';
import { endRedis, ping } from '../../../src/runtime/redis-process.ts';
import { cpuMsOf } from '../../lab/quiet.ts';
import { until } from '../../support/condition.ts';

export interface Load {
  /** Of a core: the process that is looked at, and Redis. */
  readonly cores: number;
  readonly redisCores: number;
  /** Per second, as sent: what a script does counts as one. */
  readonly commands: number;
  /** Of those, for the simulated fleet: a real hypervisor is not asked over Redis. */
  readonly simulation: number;
}

export class Bench {
  readonly home = mkdtempSync('/tmp/hevq-');
  readonly socket = join(this.home, 'redis.sock');
  #server: ChildProcess | undefined;
  readonly #children: ChildProcess[] = [];

  async start(): Promise<void> {
    const program = await redisServerProgram({ env: process.env, stateDir: this.home, log: () => undefined });
    const settings = [
      '--port',
      '0',
      '--unixsocket',
      this.socket,
      '--dir',
      this.home,
      '--save',
      '',
      '--appendonly',
      'yes',
    ];
    this.#server = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...settings], { stdio: 'ignore', detached: true });
    await until(async () => (await ping(this.socket, 1_000)).state === 'ready', 20_000, 'Redis answers');
  }

  /** Another process, ended with this. */
  spawn(program: string, args: readonly string[]): ChildProcess {
    const { PATH, HOME } = process.env;
    const env = { PATH, HOME, TMPDIR: this.home, HOSTEVAC_STATE_DIR: this.home, REDIS_URL: this.socket };
    const child = spawn(program, args, { cwd: this.home, env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.#children.push(child);
    return child;
  }

  client(): Redis {
    return new Redis({ path: this.socket, maxRetriesPerRequest: null });
  }

  /** What a process uses, and what everybody sends to Redis, for so long. */
  async look(pid: number, ms: number): Promise<Load> {
    const watcher = this.client();
    const monitor = await watcher.monitor();
    let commands = 0;
    let simulation = 0;
    monitor.on('monitor', (_time: string, args: string[], source: string) => {
      if (source === 'lua') return;
      commands += 1;
      if (args.some((arg) => arg.includes(':sim:'))) simulation += 1;
    });
    const redisPid = this.#server?.pid ?? 0;
    const [fromCpu, fromRedis] = [cpuMsOf(pid), cpuMsOf(redisPid)];
    const [fromMs, from] = [performance.now(), { commands, simulation }];
    await new Promise((resolve) => setTimeout(resolve, ms));
    const seconds = (performance.now() - fromMs) / 1_000;
    const load = {
      cores: (cpuMsOf(pid) - fromCpu) / 1_000 / seconds,
      redisCores: (cpuMsOf(redisPid) - fromRedis) / 1_000 / seconds,
      commands: (commands - from.commands) / seconds,
      simulation: (simulation - from.simulation) / seconds,
    };
    monitor.disconnect();
    watcher.disconnect();
    return load;
  }

  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    if (this.#server !== undefined) await endRedis(this.#server);
    rmSync(this.home, { recursive: true, force: true });
  }
}
