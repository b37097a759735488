/**
 * One start of a private redis-server: the files it needs, the chain of programs that ties it to its owner and to its
 * lock, and waiting until it answers. Who starts it when is `embedded-redis.ts`.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import { inPath } from './in-path.ts';

/** How flock(1) says that another process holds the lock; no exit code of redis-server. */
const LOCKED_EXIT = 75;

/**
 * setpriv asks the kernel to send SIGTERM when the owner ends, however it ends; flock holds the lock in a descriptor that
 * the server inherits, so the lock lasts exactly as long as the server; sh, now with the lock, ends if the owner was gone before
 * setpriv asked, empties the log and becomes the server. Every step execs the next: one process, one pid.
 * (The request is tied to the thread that spawned: Node spawns from the thread that calls, here the main one.)
 */
const START_SCRIPT = '[ "$PPID" = "$1" ] || exit 1; : >"$2"; exec "$3" "$4" --unixsocket "$5" >>"$2" 2>&1';

interface RedisFiles {
  readonly dataDir: string;
  readonly configPath: string;
  readonly lockPath: string;
  readonly logPath: string;
}

export function redisFiles(stateDir: string): RedisFiles {
  const dataDir = join(stateDir, 'redis');
  return {
    dataDir,
    configPath: join(stateDir, 'redis.conf'),
    lockPath: join(dataDir, 'lock'),
    logPath: join(stateDir, 'redis.log'),
  };
}

/** `loading`: reads its data and will answer; `silent`: takes connections but does not answer; `none`: nobody listens. */
export interface Answer {
  readonly state: 'ready' | 'loading' | 'silent' | 'none';
  /** The server's; 0 when it did not say. */
  readonly pid: number;
}

type StartOutcome = { readonly kind: 'started'; readonly child: ChildProcess } | { readonly kind: 'locked' };

/**
 * Starts a server, in a session of its own: Ctrl-C at the terminal reaches the owner, which ends the server last.
 * Resolves when it answers, or when another process holds the lock. Throws `redisAway` with its last words when it ends
 * before, `redisMissing` when a program of the chain is missing.
 */
export async function startRedis(
  program: string,
  socketPath: string,
  files: RedisFiles,
  log: (line: string) => void,
): Promise<StartOutcome> {
  writeAtomically(files.configPath, redisConfig(files.dataDir));
  const chain = [
    '--pdeathsig',
    'TERM',
    'flock',
    '--nonblock',
    '--conflict-exit-code',
    String(LOCKED_EXIT),
    '--no-fork',
  ];
  const script = [
    'sh',
    '-c',
    START_SCRIPT,
    'hostevac-redis',
    String(process.pid),
    files.logPath,
    program,
    files.configPath,
    socketPath,
  ];
  for (const tool of ['setpriv', 'flock', 'sh']) {
    if (inPath(tool, process.env) === undefined) {
      throw new HostevacError('redisMissing', `${tool} is not in PATH; install util-linux, or set REDIS_URL`);
    }
  }
  const child = spawn('setpriv', [...chain, files.lockPath, ...script], {
    detached: true,
    cwd: files.dataDir,
    // The pipe carries what setpriv and flock complain about; it closes when the server, which has its log, takes over.
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let complaint = '';
  child.stderr?.on('data', (data: Buffer) => {
    complaint = (complaint + data.toString()).slice(-2_000);
  });
  child.on('error', (error) => {
    complaint += error.message;
  });
  const exited = new Promise<number | null>((resolve) => {
    child.once('close', (code) => resolve(code));
  });
  const state: { exit: { readonly code: number | null } | null } = { exit: null };
  exited.then((code) => {
    state.exit = { code };
  });

  const sinceMs = performance.now();
  let told = false;
  for (;;) {
    if (state.exit?.code === LOCKED_EXIT) return { kind: 'locked' };
    if (state.exit !== null) throw failedStart(files, complaint, state.exit.code);
    const answer = await ping(socketPath, 1_000);
    // Another server may answer here while ours has yet to find the lock taken.
    if (answer.state === 'ready' && answer.pid === child.pid && state.exit === null) break;
    if (answer.state === 'loading' && !told) {
      told = true;
      log('Redis is reading its data');
    }
    if (answer.state !== 'loading' && performance.now() - sinceMs > 30_000) {
      child.kill('SIGKILL');
      await exited;
      throw failedStart(files, complaint, null);
    }
    await Promise.race([exited, abortableSleep(20)]);
  }
  child.unref();
  return { kind: 'started', child };
}

/** Does a Redis answer at this socket, and which? */
export function ping(socketPath: string, patienceMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    let text = '';
    let connected = false;
    const done = (state: Answer['state']): void => {
      socket.destroy();
      resolve({ state, pid: Number(/process_id:(\d+)/.exec(text)?.[1] ?? 0) });
    };
    socket.setTimeout(patienceMs, () => done(connected ? 'silent' : 'none'));
    socket.on('connect', () => {
      connected = true;
      socket.write('PING\r\nINFO server\r\n');
    });
    socket.on('data', (data: Buffer) => {
      text += data.toString();
      if (/process_id:\d+\r\n/.test(text)) done(text.startsWith('-LOADING') ? 'loading' : 'ready');
    });
    socket.on('error', () => done('none'));
    socket.on('close', () => done('none'));
  });
}

/** Asks the server to end (it writes what is left and removes its socket) and waits; SIGKILL after 10 s loses nothing with `appendfsync always`. */
export async function endRedis(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
  });
  child.ref();
  child.kill('SIGTERM');
  const ended = new AbortController();
  await Promise.race([exited, abortableSleep(10_000, ended.signal)]);
  ended.abort();
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL');
    await exited;
  }
}

/**
 * No request that was accepted is lost with the server: every write is on disk before its reply. Depends on the state
 * directory alone: of two that start at once the loser may be the last to write it.
 */
function redisConfig(dataDir: string): string {
  return `${[
    '# Written by hostevac at every start.',
    'port 0',
    'unixsocketperm 700',
    'daemonize no',
    'supervised no',
    'always-show-logo no',
    `dir ${quoted(dataDir)}`,
    'appendonly yes',
    'appendfsync always',
    'aof-load-truncated yes',
    'save ""',
    'maxmemory 0',
    'maxmemory-policy noeviction',
  ].join('\n')}\n`;
}

function quoted(text: string): string {
  return `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

export function writeAtomically(path: string, text: string): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, text, { mode: 0o600 });
  renameSync(temporary, path);
}

function failedStart(files: RedisFiles, complaint: string, code: number | null): HostevacError {
  const words = `${lastLines(files.logPath, 8)}\n${complaint}`.trim();
  const remedy = /append only file|appendonly|AOF/i.test(words)
    ? `its data in ${files.dataDir} may be damaged: keep a copy and repair it with redis-check-aof --fix, or move it away to start empty`
    : `see ${files.logPath}, or set REDIS_URL to another Redis`;
  const how = code === null ? 'did not answer within 30 s' : `ended with exit code ${code}`;
  return new HostevacError('redisAway', `the embedded Redis ${how}; ${remedy}. Its last words:\n${words}`);
}

function lastLines(path: string, count: number): string {
  try {
    return readFileSync(path, 'utf8').trim().split('\n').slice(-count).join('\n');
  } catch {
    return '';
  }
}
