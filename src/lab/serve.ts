/** The `hostevac up` that serves a lab: started in the background, its words in a log file, ended by `lab down`. */
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { abortableSleep } from '../clock/abortable-sleep.ts';
import { HostevacError } from '../domain/errors.ts';
import { isAlive, type ProcessId, tail } from '../hypervisors/qemu/process.ts';
import { startTicksOf } from '../runtime/process-identity.ts';
import { endProcesses } from './processes.ts';

/** Redis is started and every host looked at; on a busy machine that takes its time. */
const READY_MS = 60_000;
/** `up` gives running work 8 s, and then everything it has opened 10 s each at most. */
const TERM_MS = 30_000;
const LOOK_MS = 100;

export function logOf(place: string): string {
  return join(place, 'up.log');
}

export interface ServeOptions {
  readonly place: string;
  readonly fleetFile: string;
  readonly env: NodeJS.ProcessEnv;
  /** The program as it was called: `process.argv[1]`. */
  readonly program: string;
}

/** In a session of its own, so that it outlives the terminal. Throws `labUnfit`. */
export function startUp({ place, fleetFile, env, program }: ServeOptions): ProcessId {
  const log = openSync(logOf(place), 'a', 0o600);
  try {
    const args = [program, '--fleet', fleetFile, 'up', '--port', '0'];
    const child = spawn(process.execPath, args, {
      detached: true,
      cwd: dirname(fleetFile),
      env,
      stdio: ['ignore', log, log],
    });
    child.unref();
    const startTicks = child.pid === undefined ? undefined : startTicksOf(child.pid);
    if (child.pid === undefined || startTicks === undefined) {
      throw new HostevacError('labUnfit', `${process.execPath} ${args.join(' ')} cannot be started`);
    }
    return { pid: child.pid, startTicks };
  } finally {
    closeSync(log);
  }
}

/** Until it serves every host; its URL. Throws `labUnfit` with its last words. */
export async function upIsReady(process: ProcessId, place: string, signal: AbortSignal): Promise<string> {
  const log = logOf(place);
  for (const since = performance.now(); ; await abortableSleep(LOOK_MS, signal)) {
    signal.throwIfAborted();
    const url = /^http:\/\/\S+$/m.exec(readFileSync(log, 'utf8'))?.[0];
    if (url !== undefined && (await healthy(url))) return url;
    if (!isAlive(process)) throw new HostevacError('labUnfit', `hostevac up ended: ${tail(log)}`);
    if (performance.now() - since > READY_MS) {
      throw new HostevacError('labUnfit', `hostevac up is not ready after ${READY_MS / 1_000} s: ${tail(log)}`);
    }
  }
}

async function healthy(url: string): Promise<boolean> {
  try {
    return (await fetch(new URL('/healthz', url), { signal: AbortSignal.timeout(5_000) })).ok;
  } catch {
    // Not yet, or not any more: the next look tells.
    return false;
  }
}

/** Nicely at first: what it drives it leaves in order. */
export function endUp(process: ProcessId): Promise<void> {
  return endProcesses([process], TERM_MS);
}
