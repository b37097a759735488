/**
 * Starting the guard process: one per state directory (flock(1) holds the lock in a descriptor that the guard inherits,
 * so it lasts exactly as long as the guard; see docs/decisions/0011), in a session of its own, so that it outlives its
 * starter's process group.
 */
import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { inPath } from '../../runtime/in-path.ts';
import type { GuardPlaces } from './places.ts';

/** How flock(1) says that another process holds the lock. */
const LOCKED_EXIT = 75;

/** Beside this file once it is built; run from source, the path of a built one has to be given. */
export const GUARD_ENTRY = fileURLToPath(new URL('./main.js', import.meta.url));

export interface Launched {
  /** undefined while it runs; `locked`: another guard runs, starts or ends just now. */
  outcome: 'locked' | { readonly failure: string } | undefined;
}

export function launchGuard(places: GuardPlaces, stateDir: string, entry: string): Launched {
  const launched: Launched = { outcome: undefined };
  if (inPath('flock', process.env) === undefined) {
    launched.outcome = { failure: 'flock is not in PATH; install util-linux' };
    return launched;
  }
  const lock = ['--nonblock', '--conflict-exit-code', String(LOCKED_EXIT), '--no-fork', places.lock];
  const child = spawn('flock', [...lock, process.execPath, entry, stateDir], {
    detached: true,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  try {
    // It raises itself, too, but only once Node has started: on a busy machine that takes long.
    if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_HIGHEST);
  } catch {
    // Only root may, or it has ended already; the guard's log says with which priority it runs.
  }
  let complaint = '';
  child.stderr.on('data', (data: Buffer) => {
    complaint = (complaint + data.toString()).slice(-2_000);
  });
  child.once('error', (error) => {
    launched.outcome = { failure: error.message };
  });
  child.once('close', (code, signal) => {
    launched.outcome ??=
      code === LOCKED_EXIT ? 'locked' : { failure: `it ended (${code ?? signal}): ${complaint.trim()}` };
  });
  child.unref();
  // Nobody stays for its last words.
  if ('unref' in child.stderr && typeof child.stderr.unref === 'function') child.stderr.unref();
  return launched;
}
