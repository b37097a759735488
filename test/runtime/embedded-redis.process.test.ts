/** The embedded Redis between real processes of the built program: who starts it, who ends it, and what must not get lost. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { startTicksOf } from '../../src/runtime/process-identity.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';

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
class User {
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

describe.skipIf(testRedisSocket() === '')('embedded redis', () => {
  let stateDir: string;
  let users: User[];
  let clients: Redis[];

  beforeEach(() => {
    stateDir = mkdtempSync(join(tmpdir(), 'hostevac-state-'));
    users = [];
    clients = [];
  });
  afterEach(async () => {
    for (const client of clients) client.disconnect();
    for (const user of users) if (!user.ended) user.kill();
    try {
      await until(() => users.every((user) => user.ended) && servers().length === 0, 5_000, 'all of ours ended');
    } finally {
      // What a failed test leaves must not outlive it.
      for (const pid of servers()) process.kill(pid, 'SIGKILL');
    }
    rmSync(stateDir, { recursive: true, force: true });
  });

  const start = (mode: 'watch' | 'once', options: { env?: NodeJS.ProcessEnv; detached?: boolean } = {}): User => {
    const user = new User(stateDir, mode, options);
    users.push(user);
    return user;
  };
  const client = (socket: string): Redis => {
    const redis = new Redis({ path: socket, maxRetriesPerRequest: null, retryStrategy: () => 20 });
    redis.on('error', () => undefined);
    clients.push(redis);
    return redis;
  };
  /** Pids of redis-server processes whose working directory is this state directory's data. */
  const servers = (): number[] => serversIn(join(stateDir, 'redis'));
  const onlyServer = (): number => {
    const [pid, ...more] = servers();
    if (pid === undefined || more.length > 0) throw new Error(`servers: ${servers().join(' ')}`);
    return pid;
  };

  test('the first process starts it, private and on record; the second uses it; it ends with the first', async () => {
    const first = start('once');
    const socket = await first.ready();
    expect(first.owned).toBe(true);
    const pid = onlyServer();
    expect(statSync(socket).mode & 0o777).toBe(0o700);
    expect(statSync(join(stateDir, 'redis')).mode & 0o777).toBe(0o700);
    expect(JSON.parse(readFileSync(join(stateDir, 'redis.json'), 'utf8'))).toMatchObject({
      socket,
      pid,
      startTicks: startTicksOf(pid),
      startedBy: { pid: first.pid, startTicks: startTicksOf(first.pid) },
    });
    const second = start('once');
    expect(await second.ready()).toBe(socket);
    expect(second.owned).toBe(false);
    await second.stop();
    expect(onlyServer()).toBe(pid);
    await first.stop();
    expect(servers()).toEqual([]);
    expect(existsSync(socket)).toBe(false);
    expect(existsSync(join(stateDir, 'redis.json'))).toBe(false);
  });

  test('it evicts nothing, writes every change to disk before it answers, and listens on no port', async () => {
    const redis = client(await start('once').ready());
    const setting = async (name: string): Promise<unknown> =>
      z.tuple([z.string(), z.string()]).parse(await redis.config('GET', name))[1];
    expect(await setting('maxmemory-policy')).toBe('noeviction');
    expect(await setting('appendonly')).toBe('yes');
    expect(await setting('appendfsync')).toBe('always');
    expect(await setting('save')).toBe('');
    expect(await setting('port')).toBe('0');
  });

  test('kill -9 of its owner ends it within 2 s, and a new one on the same data has lost nothing', async () => {
    for (let round = 0; round < 5; round += 1) {
      const owner = start('once');
      const redis = client(await owner.ready());
      for (let n = 0; n < round; n += 1) expect(await redis.get(`round ${n}`)).toBe(`written ${n}`);
      // The last write is acknowledged right before the kill.
      await redis.set(`round ${round}`, `written ${round}`);
      redis.disconnect();
      owner.kill();
      const killedAt = performance.now();
      await until(() => servers().length === 0, 2_000, 'end of the server');
      expect(performance.now() - killedAt).toBeLessThan(2_000);
    }
  });

  test('kill -9 of the whole process group of its owner ends it too, although it is in a session of its own', async () => {
    const owner = start('once', { detached: true });
    await owner.ready();
    const pid = onlyServer();
    expect(sessionOf(pid)).toBe(pid);
    process.kill(-owner.pid, 'SIGKILL');
    await until(() => servers().length === 0, 2_000, 'end of the server');
  });

  test('Ctrl-C, which goes to the whole foreground group, ends the process but reaches Redis only through it', async () => {
    const owner = start('once', { detached: true });
    await owner.ready();
    const pid = onlyServer();
    expect(groupOf(pid)).not.toBe(groupOf(owner.pid));
    process.kill(-owner.pid, 'SIGINT');
    await until(() => owner.ended && servers().length === 0, 2_000, 'end of both');
  });

  /** Environment in which this program starts half a second late, as on a busy machine. */
  const slowly = (program: string): NodeJS.ProcessEnv => {
    const bin = join(stateDir, `slow-${program}`);
    mkdirSync(bin);
    const real = execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
    writeFileSync(join(bin, program), `#!/bin/sh\nsleep 0.5\nexec ${real} "$@"\n`, { mode: 0o755 });
    return { PATH: `${bin}:${process.env['PATH']}` };
  };

  test('an owner that is killed before the kernel was asked to end the server with it leaves no server behind', async () => {
    const owner = start('once', { env: slowly('setpriv') });
    await until(() => starting(stateDir) > 0, 10_000, 'the start');
    owner.kill();
    await until(() => owner.ended, 5_000, 'end of the owner');
    await until(() => starting(stateDir) === 0, 5_000, 'end of the chain');
    expect(servers()).toEqual([]);
  });

  test('a process whose own start is late does not take the server of another for its own', async () => {
    const late = start('once', { env: slowly('flock') });
    await until(() => starting(stateDir) > 0, 10_000, 'the late start');
    const first = start('once');
    expect(await late.ready()).toBe(await first.ready());
    expect([first.owned, late.owned]).toEqual([true, false]);
  });

  test('a server that outlived its owner is ended and replaced by one that has one', async () => {
    const before = start('once');
    const socket = await before.ready();
    const written = client(socket);
    await written.set('a', 'kept');
    written.disconnect();
    const record = JSON.parse(readFileSync(join(stateDir, 'redis.json'), 'utf8'));
    await before.stop();
    const orphan = startByHand(stateDir, socket);
    await until(() => existsSync(socket), 5_000, 'the orphan');
    const pid = orphan.pid ?? 0;
    writeFileSync(join(stateDir, 'redis.json'), JSON.stringify({ ...record, pid, startTicks: startTicksOf(pid) }));
    const next = start('once');
    const redis = client(await next.ready());
    expect(next.owned).toBe(true);
    await until(() => orphan.exitCode !== null, 5_000, 'end of the orphan');
    expect(await redis.get('a')).toBe('kept');
  });

  test('a server that nobody has on record is used, and succeeded when it ends', async () => {
    const before = start('once');
    const socket = await before.ready();
    await before.stop();
    const byHand = startByHand(stateDir, socket);
    await until(() => existsSync(socket), 5_000, 'the server');
    const up = start('watch');
    const redis = client(await up.ready());
    expect(up.owned).toBe(false);
    expect(await redis.info('server')).toContain(`process_id:${byHand.pid}\r\n`);
    byHand.kill('SIGTERM');
    await until(() => up.owned, 5_000, 'taking over');
  });

  test('an owner that is killed at any moment of the start leaves no server behind', async () => {
    for (let delayMs = 0; delayMs < 60; delayMs += 4) {
      rmSync(join(stateDir, 'redis.conf'), { force: true });
      const owner = start('once');
      await until(() => existsSync(join(stateDir, 'redis.conf')), 10_000, 'the start');
      const fromMs = performance.now();
      while (performance.now() - fromMs < delayMs);
      owner.kill();
      await until(() => owner.ended, 5_000, 'end of the owner');
      // A chain that was too late must end by itself too: nobody holds the lock, and nobody takes it any more.
      await until(
        () => servers().length === 0 && starting(stateDir) === 0,
        2_000,
        `end of the server (after ${delayMs} ms)`,
      );
    }
  });

  test('a process that is started right after its owner was killed does not take the dying server for its own', async () => {
    for (let round = 0; round < 5; round += 1) {
      const owner = start('once');
      await owner.ready();
      const next = start('once');
      owner.kill();
      const redis = client(await next.ready());
      await redis.set('a', String(round));
      await until(() => next.owned, 5_000, 'ownership');
      expect(await redis.get('a')).toBe(String(round));
      redis.disconnect();
      await next.stop();
    }
  });

  test('of many that start at once one owns the server, and all reach the same', async () => {
    for (let round = 0; round < 3; round += 1) {
      const all = Array.from({ length: 5 }, () => start('once'));
      const sockets = await Promise.all(all.map((user) => user.ready(30_000)));
      expect(new Set(sockets).size).toBe(1);
      expect(all.filter((user) => user.owned)).toHaveLength(1);
      const pid = onlyServer();
      for (const socket of sockets) {
        const redis = client(socket);
        expect(await redis.info('server')).toContain(`process_id:${pid}\r\n`);
        redis.disconnect();
      }
      await Promise.all(all.map((user) => user.stop()));
    }
  });

  test('when a command that started it ends, a process that still needs it starts it again with all data', async () => {
    const command = start('once');
    const socket = await command.ready();
    const up = start('watch');
    await up.ready();
    const redis = client(socket);
    await redis.set('request', 'kept');
    const before = onlyServer();
    await command.stop();
    await until(() => up.owned, 5_000, 'taking over');
    expect(onlyServer()).not.toBe(before);
    expect(await redis.get('request')).toBe('kept');
    expect(up.lines.some(({ log }) => log?.includes('started it again'))).toBe(true);
    const later = start('once');
    await later.ready();
    expect(later.owned).toBe(false);
    await later.stop();
    await up.stop();
    expect(servers()).toEqual([]);
  });

  test('of several that need it when its owner is killed, exactly one takes over, again and again', async () => {
    let owner = start('watch');
    const socket = await owner.ready();
    const others = Array.from({ length: 4 }, () => start('watch'));
    await Promise.all(others.map((user) => user.ready()));
    const redis = client(socket);
    let count = 0;
    while (others.length > 1) {
      count += 1;
      expect(await redis.incr('count')).toBe(count);
      owner.kill();
      await until(() => others.some((user) => user.owned), 5_000, 'taking over');
      const owners = others.filter((user) => user.owned);
      expect(owners).toHaveLength(1);
      owner = owners[0] ?? owner;
      others.splice(others.indexOf(owner), 1);
    }
  });

  test('a server that is killed itself is started again by its owner', async () => {
    const up = start('watch');
    const redis = client(await up.ready());
    await redis.set('a', 'kept');
    const pid = onlyServer();
    process.kill(pid, 'SIGKILL');
    await until(() => servers().some((each) => each !== pid), 5_000, 'a new server');
    expect(await redis.get('a')).toBe('kept');
    await until(() => up.owned, 5_000, 'ownership');
  });

  test('the lock lasts as long as the server: nobody else can start on its data', async () => {
    await start('once').ready();
    const locked = () => {
      try {
        execFileSync('flock', ['--nonblock', join(stateDir, 'redis', 'lock'), 'true']);
        return false;
      } catch {
        return true;
      }
    };
    expect(locked()).toBe(true);
    users[0]?.kill();
    await until(() => servers().length === 0, 2_000, 'end of the server');
    expect(locked()).toBe(false);
  });

  test('a file cut short by a crash is read up to the cut', async () => {
    const owner = start('once');
    const redis = client(await owner.ready());
    await redis.set('whole', 'yes');
    redis.disconnect();
    await owner.stop();
    const aof = aofFile(stateDir);
    writeFileSync(aof, `${readFileSync(aof, 'utf8')}*3\r\n$3\r\nSET\r\n$4\r\nha`);
    const again = client(await start('once').ready());
    expect(await again.get('whole')).toBe('yes');
  });

  test('a damaged file is a clear error with the last words of the server, and is not touched', async () => {
    const owner = start('once');
    const redis = client(await owner.ready());
    for (let n = 0; n < 50; n += 1) await redis.set(`key ${n}`, 'value');
    redis.disconnect();
    await owner.stop();
    const aof = aofFile(stateDir);
    const text = readFileSync(aof, 'utf8');
    const damaged = `${text.slice(0, 300)}garbage\r\n${text.slice(300)}`;
    writeFileSync(aof, damaged);
    const next = start('once');
    await until(() => next.said(), 15_000);
    const refused = next.lines.find(({ code }) => code !== undefined);
    expect(refused?.code).toBe('redisAway');
    expect(refused?.message).toMatch(/redis-check-aof/);
    expect(refused?.message).toMatch(/Bad file format/);
    expect(refused?.message).toContain(join(stateDir, 'redis'));
    expect(readFileSync(aof, 'utf8')).toBe(damaged);
    await until(() => next.ended, 5_000);
  });

  test('two state directories are two Redis', async () => {
    const one = join(stateDir, 'one');
    const two = join(stateDir, 'two');
    for (const directory of [one, two]) mkdirSync(directory);
    const first = new User(one, 'once');
    const second = new User(two, 'once');
    users.push(first, second);
    const redis = client(await first.ready());
    const other = client(await second.ready());
    await redis.set('a', 'one');
    expect(await other.get('a')).toBe(null);
    expect([first.owned, second.owned]).toEqual([true, true]);
    await Promise.all([first.stop(), second.stop()]);
    expect([...serversIn(join(one, 'redis')), ...serversIn(join(two, 'redis'))]).toEqual([]);
  });

  test('a state directory too deep for a socket gets a short private one, the same for every process', async () => {
    const deep = join(stateDir, 'd'.repeat(100), 'with "quotes" and spaces');
    mkdirSync(deep, { recursive: true });
    const first = new User(deep, 'once');
    const second = new User(deep, 'once', { env: { TMPDIR: stateDir } });
    users.push(first);
    users.push(second);
    const socket = await first.ready();
    expect(Buffer.byteLength(socket)).toBeLessThan(108);
    expect(statSync(join(socket, '..')).mode & 0o777).toBe(0o700);
    expect(await second.ready()).toBe(socket);
    expect([first, second].filter((user) => user.owned)).toHaveLength(1);
    const redis = client(socket);
    await redis.set('a', 'reached');
    await second.stop();
    await first.stop();
    expect(serversIn(join(deep, 'redis'))).toEqual([]);
    rmSync(join(socket, '..'), { recursive: true, force: true });
  });

  test('without a Redis program or apt-get the message says in one line what to install', async () => {
    const bin = join(stateDir, 'bin-only');
    mkdirSync(bin);
    const user = start('once', { env: { PATH: bin } });
    await until(() => user.said(), 15_000);
    const refused = user.lines.find(({ code }) => code !== undefined);
    expect(refused?.code).toBe('redisMissing');
    expect(refused?.message).toMatch(/install Redis/);
    expect(refused?.message?.split('\n')).toHaveLength(1);
    await until(() => user.ended, 5_000);
  });
});

function aofFile(stateDir: string): string {
  const directory = join(stateDir, 'redis', 'appendonlydir');
  const name = readdirSync(directory).find((each) => each.endsWith('.incr.aof'));
  if (name === undefined) throw new Error(`no append-only file in ${directory}`);
  return join(directory, name);
}

function serversIn(dataDir: string): number[] {
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
function startByHand(stateDir: string, socket: string): ChildProcess {
  const server = ['redis-server', join(stateDir, 'redis.conf'), '--unixsocket', socket];
  return spawn('flock', ['--nonblock', '--no-fork', join(stateDir, 'redis', 'lock'), ...server], { stdio: 'ignore' });
}

/** Processes that are on their way to become this state directory's server. */
function starting(stateDir: string): number {
  return readdirSync('/proc').filter((name) => {
    try {
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').split('\0');
      return command.includes(join(stateDir, 'redis.conf'));
    } catch {
      return false;
    }
  }).length;
}

function groupOf(pid: number): number {
  return statField(pid, 5);
}

function sessionOf(pid: number): number {
  return statField(pid, 6);
}

function statField(pid: number, field: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[field - 3]);
}
