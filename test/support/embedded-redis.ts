/** Real processes of the built program around one embedded Redis, each test with a state directory of its own. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { z } from 'zod';
import { until } from './condition.ts';

const FIXTURE = fileURLToPath(new URL('../fixtures/embedded-redis.mjs', import.meta.url));

const lineSchema = z.object({
  ready: z.boolean().optional(),
  owned: z.boolean().optional(),
  socket: z.string().optional(),
  log: z.string().optional(),
  stopped: z.boolean().optional(),
  code: z.string().optional(),
  message: z.string().optional(),
});

/** A fixture process and what it said. */
export class User {
  readonly lines: z.infer<typeof lineSchema>[] = [];
  readonly child: ChildProcess;
  errors = '';

  constructor(stateDir: string, mode: 'watch' | 'once', options: { env?: NodeJS.ProcessEnv; detached?: boolean } = {}) {
    this.child = spawn(process.execPath, [FIXTURE, stateDir, mode], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...options.env },
      detached: options.detached ?? false,
    });
    const { stdout, stderr } = this.child;
    if (stdout !== null)
      createInterface({ input: stdout }).on('line', (line) => this.lines.push(lineSchema.parse(JSON.parse(line))));
    stderr?.on('data', (data: Buffer) => {
      this.errors += data.toString();
    });
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  get owned(): boolean {
    return this.lines.filter(({ owned }) => owned !== undefined).at(-1)?.owned ?? false;
  }

  /** The socket, once it is ready. */
  async ready(limitMs = 15_000): Promise<string> {
    await until(() => this.said() || this.ended, limitMs, `ready (${this.errors})`);
    const ready = this.lines.find((line) => line.ready);
    if (ready?.socket === undefined) throw new Error(`did not get ready: ${JSON.stringify(this.lines)} ${this.errors}`);
    return ready.socket;
  }

  said(): boolean {
    return this.lines.some(({ ready, code }) => ready !== undefined || code !== undefined);
  }

  async stop(): Promise<void> {
    this.child.stdin?.write('stop\n');
    await until(() => this.ended, 15_000, 'end of a process');
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

/** One state directory and everything that runs on it. */
export class EmbeddedWorld {
  readonly stateDir = mkdtempSync(join(tmpdir(), 'hostevac-state-'));
  readonly users: User[] = [];
  readonly #clients: Redis[] = [];

  start(mode: 'watch' | 'once', options: { env?: NodeJS.ProcessEnv; detached?: boolean } = {}): User {
    const user = new User(this.stateDir, mode, options);
    this.users.push(user);
    return user;
  }

  client(socket: string): Redis {
    const redis = new Redis({ path: socket, maxRetriesPerRequest: null, retryStrategy: () => 20 });
    redis.on('error', () => undefined);
    this.#clients.push(redis);
    return redis;
  }

  /** Pids of the servers on this state directory. */
  servers(): number[] {
    return serversIn(join(this.stateDir, 'redis'));
  }

  onlyServer(): number {
    const [pid, ...more] = this.servers();
    if (pid === undefined || more.length > 0) throw new Error(`servers: ${this.servers().join(' ')}`);
    return pid;
  }

  /** Environment in which this program starts late, as on a busy machine. */
  slowly(program: string, lateMs = 500): NodeJS.ProcessEnv {
    const bin = join(this.stateDir, `slow-${program}`);
    mkdirSync(bin);
    const real = execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
    writeFileSync(join(bin, program), `#!/bin/sh\nsleep ${lateMs / 1_000}\nexec ${real} "$@"\n`, { mode: 0o755 });
    return { PATH: `${bin}:${process.env['PATH']}` };
  }

  /** Ends all processes; throws when a server stays although nobody needs it. */
  async close(): Promise<void> {
    for (const client of this.#clients) client.disconnect();
    for (const user of this.users) if (!user.ended) user.kill();
    try {
      const ended = (): boolean => this.users.every((user) => user.ended) && this.servers().length === 0;
      await until(ended, 5_000, 'all of ours ended');
    } finally {
      // What a failed test leaves must not outlive it.
      for (const pid of this.servers()) process.kill(pid, 'SIGKILL');
      rmSync(this.stateDir, { recursive: true, force: true });
    }
  }
}

export function aofFile(stateDir: string): string {
  const directory = join(stateDir, 'redis', 'appendonlydir');
  const name = readdirSync(directory).find((each) => each.endsWith('.incr.aof'));
  if (name === undefined) throw new Error(`no append-only file in ${directory}`);
  return join(directory, name);
}

export function serversIn(dataDir: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/comm`, 'utf8');
        return command.startsWith('redis-') && readlinkSync(`/proc/${pid}/cwd`) === dataDir;
      } catch {
        return false;
      }
    });
}

/** A server on this data without an owner. */
export function startByHand(stateDir: string, socket: string): ChildProcess {
  // Where only Debian's redis-tools are installed the program has another name; the state directory's link finds it.
  const linked = join(stateDir, 'bin', 'redis-server');
  const server = [existsSync(linked) ? linked : 'redis-server', join(stateDir, 'redis.conf'), '--unixsocket', socket];
  return spawn('flock', ['--nonblock', '--no-fork', join(stateDir, 'redis', 'lock'), ...server], { stdio: 'ignore' });
}

/** Processes that are on their way to become this state directory's server. */
export function starting(stateDir: string): number {
  return readdirSync('/proc').filter((name) => {
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return command.includes(join(stateDir, 'redis.conf'));
    } catch {
      return false;
    }
  }).length;
}

export function groupOf(pid: number): number {
  return statField(pid, 5);
}

export function sessionOf(pid: number): number {
  return statField(pid, 6);
}

function statField(pid: number, field: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[field - 3]);
}
