/**
 * The embedded Redis: found or started, shared by every process of one state directory, ended with the process that
 * started it, started again on the same data by one that still needs it. How one server process is run is
 * `redis-process.ts`.
 *
 * Life: a process looks at the recorded socket. A server that answers and whose owner lives is used. Otherwise the
 * process tries to start one; the lock on the data lets exactly one succeed, the others come back and find it. When the
 * connection that `watch()` holds ends, the same begins again.
 */
import type { ChildProcess } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import { isDeadHere, startTicksOf, thisProcess } from './process-identity.ts';
import { redisServerProgram } from './redis-install.ts';
import { type Answer, endRedis, ping, redisFiles, startRedis, writeAtomically } from './redis-process.ts';

interface EmbeddedRedisOptions {
  /** An existing directory (state-dir.ts); two of them are two Redis. */
  readonly stateDir: string;
  /** For people, one line. */
  readonly log: (line: string) => void;
  readonly env?: NodeJS.ProcessEnv;
}

/** A socket path may have 107 bytes; the rest is room for what a message adds. */
const LONGEST_SOCKET_PATH = 100;
/** How long a server that answers, but whose owner is not on record or dead, may take to end (or its record to appear). */
const HANDOVER_MS = 3_000;
/** How long another process may hold the lock while nobody answers. */
const LOCKED_MS = 30_000;

/** Address and server, and the process that started it. */
const recordSchema = z.object({
  socket: z.string(),
  pid: z.number(),
  startTicks: z.number(),
  startedBy: z.object({ machine: z.string(), pid: z.number(), startTicks: z.number() }),
});
type RedisRecord = z.infer<typeof recordSchema>;

/** Finds the state directory's Redis or starts it; resolves when it answers. Throws `redisMissing` or `redisAway`. */
export async function ensureEmbeddedRedis(options: EmbeddedRedisOptions): Promise<EmbeddedRedis> {
  const redis = new EmbeddedRedis(chooseSocketPath(options.stateDir), options);
  await redis.ensure();
  return redis;
}

/** The socket of the state directory's Redis where one answers; undefined: none does. Starts and makes nothing. */
export async function runningEmbeddedRedis(stateDir: string): Promise<string | undefined> {
  const socket = elsewhere(stateDir) ?? join(stateDir, 'redis.sock');
  return (await ping(socket, 1_000)).state === 'none' ? undefined : socket;
}

export class EmbeddedRedis {
  #socketPath: string;
  readonly #options: EmbeddedRedisOptions;
  #child: ChildProcess | null = null;
  #watching: Socket | null = null;
  #supervision: Promise<void> | null = null;
  readonly #stopped = new AbortController();

  /** Use `ensureEmbeddedRedis`. */
  constructor(socketPath: string, options: EmbeddedRedisOptions) {
    this.#socketPath = socketPath;
    this.#options = options;
  }

  get socketPath(): string {
    return this.#socketPath;
  }

  /** True while the server is this process's child: then it ends with this process. */
  get owned(): boolean {
    return this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Keeps the server there until `stop()`: when it goes, whoever owned it, this process finds or starts it again. */
  watch(): void {
    this.#supervision ??= this.#supervise();
  }

  /** Stops watching; ends the server if this process owns it, and waits until it is gone. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#watching?.destroy();
    await this.#supervision;
    if (this.#child === null) return;
    // First the record: nobody shall take a server for theirs that is about to end.
    if (readRecord(this.#options.stateDir)?.pid === this.#child.pid)
      rmSync(recordPath(this.#options.stateDir), { force: true });
    await endRedis(this.#child);
    this.#child = null;
  }

  /** Resolves when the server answers, started here if need be. */
  async ensure(): Promise<void> {
    const { stateDir, log } = this.#options;
    const files = redisFiles(stateDir);
    mkdirSync(files.dataDir, { recursive: true, mode: 0o700 });
    let program: string | undefined;
    const sinceMs = performance.now();
    let untilMs = sinceMs + LOCKED_MS;
    while (!this.#stopped.signal.aborted) {
      const waitedMs = performance.now() - sinceMs;
      this.#socketPath = elsewhere(stateDir) ?? this.#socketPath;
      const answer = await ping(this.socketPath, 1_000);
      if (answer.state === 'ready' && this.#usable(answer.pid, waitedMs)) return;
      if (answer.state === 'loading') untilMs = performance.now() + LOCKED_MS;
      if (answer.state === 'none') {
        program ??= await redisServerProgram({ env: this.#options.env ?? process.env, stateDir, log });
        const outcome = await startRedis(program, this.socketPath, files, log);
        if (outcome.kind === 'started') {
          this.#child = outcome.child;
          this.#record(outcome.child.pid ?? 0);
          return;
        }
      }
      if (performance.now() > untilMs) throw this.#blocked(answer);
      await abortableSleep(50, this.#stopped.signal);
    }
  }

  /**
   * A server that answers may be about to end: its owner has taken its record away (`stop`) or has died. It is used once
   * a living owner is on record, or when it stays anyway (somebody deleted the record, or started it by hand).
   */
  #usable(pid: number, waitedMs: number): boolean {
    if (waitedMs > HANDOVER_MS) return true;
    const record = readRecord(this.#options.stateDir);
    if (record?.pid !== pid) return false;
    if (!isDeadHere(record.startedBy)) return true;
    // The kernel has told it to end already; this is for a server that outlived its owner against all expectation.
    if (startTicksOf(record.pid) === record.startTicks) endOrphan(record.pid);
    return false;
  }

  #record(pid: number): void {
    const { machine, pid: ownPid, startTicks } = thisProcess();
    const record: RedisRecord = {
      socket: this.socketPath,
      pid,
      startTicks: startTicksOf(pid) ?? 0,
      startedBy: { machine, pid: ownPid, startTicks },
    };
    writeAtomically(recordPath(this.#options.stateDir), `${JSON.stringify(record)}\n`);
  }

  #blocked(answer: Answer): HostevacError {
    const pid = readRecord(this.#options.stateDir)?.pid;
    const who = pid === undefined ? 'another process' : `process ${pid}`;
    const what =
      answer.state === 'silent'
        ? 'takes connections but does not answer (is it stopped?)'
        : 'holds the lock but does not answer';
    return new HostevacError(
      'redisAway',
      `embedded Redis at ${this.socketPath}: ${who} ${what}; end it, or use another HOSTEVAC_STATE_DIR`,
    );
  }

  /** Holds one idle connection: its end is the news, without polling. */
  async #supervise(): Promise<void> {
    const { log } = this.#options;
    let failure = '';
    while (!this.#stopped.signal.aborted) {
      await this.#untilGone();
      if (this.#stopped.signal.aborted) return;
      try {
        await this.ensure();
        if (this.owned) log('the embedded Redis had ended; started it again on the same data');
        failure = '';
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        if (message !== failure) log(message);
        failure = message;
        await abortableSleep(1_000, this.#stopped.signal);
      }
    }
  }

  #untilGone(): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect(this.socketPath);
      this.#watching = socket;
      // Watching alone is no reason for a process to stay.
      socket.unref();
      socket.on('error', () => undefined);
      socket.on('close', () => resolve());
      socket.resume();
      if (this.#stopped.signal.aborted) socket.destroy();
    });
  }
}

function recordPath(stateDir: string): string {
  return join(stateDir, 'redis.json');
}

function readRecord(stateDir: string): RedisRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(readFileSync(recordPath(stateDir), 'utf8')));
  } catch {
    // Missing, or of a kind that we do not know: the socket's place follows from the state directory anyway.
    return undefined;
  }
}

function endOrphan(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM');
  } catch {
    // It has ended meanwhile.
  }
}

/** In the state directory; where that is too deep for a socket, in a short private directory named after it. */
function chooseSocketPath(stateDir: string): string {
  const own = join(stateDir, 'redis.sock');
  if (Buffer.byteLength(own) <= LONGEST_SOCKET_PATH) return own;
  const recorded = elsewhere(stateDir);
  if (recorded !== undefined) return recorded;
  const name = `hostevac-${process.getuid?.() ?? 0}-${createHash('sha256').update(stateDir).digest('hex').slice(0, 12)}`;
  const short = [join(tmpdir(), name), join('/tmp', name)].find(
    (directory) => Buffer.byteLength(join(directory, 'redis.sock')) <= LONGEST_SOCKET_PATH,
  );
  const directory = short ?? join('/tmp', name);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (!isPrivate(directory)) {
    throw new HostevacError(
      'redisAway',
      `${directory} is not a directory of this user's with mode 0700, so no socket is put there; remove it, or set HOSTEVAC_STATE_DIR to a shorter path`,
    );
  }
  return join(directory, 'redis.sock');
}

/**
 * The socket on record, where the state directory is too deep for one: TMPDIR may differ between two commands, and the first
 * one decides for all.
 */
function elsewhere(stateDir: string): string | undefined {
  if (Buffer.byteLength(join(stateDir, 'redis.sock')) <= LONGEST_SOCKET_PATH) return undefined;
  const recorded = readRecord(stateDir)?.socket;
  return recorded !== undefined && isPrivate(dirname(recorded)) ? recorded : undefined;
}

/** Others may write in /tmp: a link or another user's directory of that name is not ours. */
function isPrivate(directory: string): boolean {
  try {
    const stat = lstatSync(directory);
    return stat.isDirectory() && stat.uid === process.getuid?.() && (stat.mode & 0o077) === 0;
  } catch {
    return false;
  }
}
