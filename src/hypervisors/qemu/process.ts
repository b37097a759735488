/**
 * QEMU processes on this machine: who one is, whether it lives, starting one that outlives us, waiting for its end, and
 * killing one that never ran a guest. A process is a pid with its start time; no pid is signalled on a file's word.
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { connect } from 'node:net';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import { entering } from '../../runtime/network-namespace.ts';
import { isDeadHere, startTicksOf, thisProcess } from '../../runtime/process-identity.ts';
import { errorCode, readSmallFile } from './durable-file.ts';
import type { VmDir } from './vm-dir.ts';

export interface ProcessId {
  readonly pid: number;
  /** Clock ticks since boot: pids are used again. */
  readonly startTicks: number;
}

export function isSameProcess(one: ProcessId, other: ProcessId): boolean {
  return one.pid === other.pid && one.startTicks === other.startTicks;
}

const LOOK_AGAIN_MS = 20;

export function isAlive({ pid, startTicks }: ProcessId): boolean {
  return !isDeadHere({ machine: thisProcess().machine, pid, startTicks });
}

/** False: it still lives after `limitMs`. */
export async function waitUntilGone(process: ProcessId, limitMs: number): Promise<boolean> {
  for (const since = performance.now(); isAlive(process); await abortableSleep(LOOK_AGAIN_MS)) {
    if (performance.now() - since > limitMs) return false;
  }
  return true;
}

/** The process that a thread belongs to; undefined: there is no such thread (any more). */
export function processOfThread(tid: number): ProcessId | undefined {
  const pid = statusField(`/proc/${tid}/status`, 'Tgid');
  const startTicks = pid === undefined ? undefined : startTicksOf(pid);
  return pid === undefined || startTicks === undefined ? undefined : { pid, startTicks };
}

/** CPU time that a thread has got, ms; undefined: no such thread. Source: Documentation/scheduler/sched-stats.rst. */
export function threadCpuMs(pid: number, tid: number): number | undefined {
  try {
    const [onCpuNs] = readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'utf8').split(' ');
    return Number(onCpuNs) / 1e6;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** undefined: gone, or not ours to see. */
export function workingDirectoryOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** A number of `/proc/<pid>/status`; undefined: no such process, or no such field. */
export function statusField(path: string, field: string): number | undefined {
  try {
    const value = new RegExp(`^${field}:\\s*(\\d+)`, 'm').exec(readFileSync(path, 'utf8'))?.[1];
    return value === undefined ? undefined : Number(value);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return ['ENOENT', 'ESRCH', 'EACCES'].includes(errorCode(error) ?? '');
}

/**
 * The process that `qemu.pid` names, if it holds that very file open, as QEMU does with its `-pidfile` as long as it
 * lives: a stale pid file names anybody. For when its monitor cannot be asked.
 */
export function processByPidFile(dir: VmDir): ProcessId | undefined {
  const pid = pidIn(dir.pid);
  if (!Number.isSafeInteger(pid) || pid < 1) return undefined;
  const startTicks = startTicksOf(pid);
  if (startTicks === undefined || !isAlive({ pid, startTicks })) return undefined;
  try {
    const file = realpathSync(dir.pid);
    const open = readdirSync(`/proc/${pid}/fd`).some((fd) => linkOf(`/proc/${pid}/fd/${fd}`) === file);
    return open ? { pid, startTicks } : undefined;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** NaN: no number, or no file that QEMU would have written. */
function pidIn(path: string): number {
  try {
    return Number(readSmallFile(path)?.trim());
  } catch (error) {
    if (errorCode(error) === 'ELOOP' || (error instanceof HostevacError && error.code === 'badInput'))
      return Number.NaN;
    throw error;
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    // The descriptor was closed meanwhile.
    return undefined;
  }
}

/** No socket, one that its QEMU has left, or a path that leads nowhere. */
const NOBODY_THERE = ['ENOENT', 'ECONNREFUSED', 'ENOTDIR', 'ELOOP'];

/** Somebody listens there. A client that holds the socket does not matter: connecting is enough. */
export function socketListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Any other error (too many wait, no right) is no proof that nobody is there.
    socket.once('error', (error) => resolve(!NOBODY_THERE.includes(errorCode(error) ?? '')));
  });
}

export interface StartedProcess {
  readonly process: ProcessId;
  /** Null as long as it lives. */
  exit(): string | null;
}

export interface StartOptions {
  readonly binary: string;
  readonly argv: readonly string[];
  readonly cwd: string;
  /** Its stdout and stderr. */
  readonly logPath: string;
  readonly networkNamespace: string | null;
}

/**
 * In a session of its own and without pipes to us, so that it outlives the worker and its process group. No shell. Throws
 * `hypervisorRefused`.
 */
export async function startProcess(options: StartOptions): Promise<StartedProcess> {
  const { binary, argv, cwd, logPath, networkNamespace } = options;
  if (!isDirectory(cwd))
    throw new HostevacError('hypervisorRefused', `the working directory ${cwd} does not exist here`);
  const [program = binary, ...rest] = [...entering(networkNamespace), binary, ...argv];
  const output = openSync(logPath, 'a', 0o600);
  try {
    const child = spawn(program, rest, {
      detached: true,
      cwd,
      env: cleanEnvironment(),
      stdio: ['ignore', output, output],
    });
    const ended: { how: string | null } = { how: null };
    child.once('exit', (code, signal) => {
      ended.how = signal === null ? `exit code ${code}` : signal;
    });
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) =>
        reject(
          new HostevacError('hypervisorRefused', `${program} cannot be started: ${error.message}; is it installed?`),
        ),
      );
    });
    child.unref();
    const { pid } = child;
    const startTicks = pid === undefined ? undefined : startTicksOf(pid);
    if (pid === undefined || startTicks === undefined) {
      throw new HostevacError('hypervisorRefused', `${program} ended at once: ${tail(logPath) ?? SILENT}`);
    }
    return { process: { pid, startTicks }, exit: () => ended.how };
  } finally {
    closeSync(output);
  }
}

/** What QEMU reads of it: where programs and temporary files are. Nothing of the worker's, least of all its secrets. */
function cleanEnvironment(): NodeJS.ProcessEnv {
  const { PATH, TMPDIR } = process.env;
  return { PATH: PATH ?? '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', ...(TMPDIR === undefined ? {} : { TMPDIR }) };
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (error) {
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return false;
    throw error;
  }
}

const LAST_WORDS = 1_500;
export const SILENT = '(it said nothing)';

/** The last words in a log, on one line; null: there are none. */
export function tail(path: string): string | null {
  const text = endOf(path).trim();
  return text === '' ? null : text.replaceAll(/\s*\n\s*/g, ' | ');
}

/** A guest that talks for weeks has a large log. */
function endOf(path: string): string {
  let handle: number;
  try {
    handle = openSync(path, 'r');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return '';
    throw error;
  }
  try {
    const last = Buffer.alloc(LAST_WORDS);
    const read = readSync(handle, last, 0, LAST_WORDS, Math.max(0, fstatSync(handle).size - LAST_WORDS));
    return last.toString('utf8', 0, read);
  } finally {
    closeSync(handle);
  }
}

/** Only for one that we started and whose CPUs never ran; the caller knows. False: it cannot be ended. */
export async function killNeverRun(process: ProcessId, limitMs: number): Promise<boolean> {
  if (isAlive(process)) {
    try {
      // Same tick as the check: the pid cannot have become another's.
      globalThis.process.kill(process.pid, 'SIGKILL');
    } catch (error) {
      if (errorCode(error) !== 'ESRCH') return false;
    }
  }
  return waitUntilGone(process, limitMs);
}
