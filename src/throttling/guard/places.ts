/** Where a state directory's guard keeps its things, and how its socket is reached however deep that directory is. */
import { closeSync, constants, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';

export interface GuardPlaces {
  readonly dir: string;
  readonly lock: string;
  readonly identity: string;
  readonly journal: string;
  readonly log: string;
  /** While it is there, a service manager runs the guard: no worker starts one. */
  readonly service: string;
}

const SOCKET = 'guard.sock';

export function guardPlaces(stateDir: string): GuardPlaces {
  const dir = join(stateDir, 'guard');
  return {
    dir,
    lock: join(dir, 'lock'),
    identity: join(dir, 'process'),
    journal: join(dir, 'journal'),
    log: join(dir, 'guard.log'),
    service: join(dir, 'service'),
  };
}

/** Throws what the file system says. */
export function makeGuardDir({ dir }: GuardPlaces): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
}

/**
 * Calls with a short path of the socket: its address may have 107 bytes (unix(7)), a state directory more. The kernel
 * follows the descriptor while `use` runs; bind and connect are done when it returns. Throws when there is no directory.
 */
export function withSocketPath<T>({ dir }: GuardPlaces, use: (path: string) => T): T {
  const descriptor = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    return use(`/proc/self/fd/${descriptor}/${SOCKET}`);
  } finally {
    closeSync(descriptor);
  }
}

export function socketFile({ dir }: GuardPlaces): string {
  return join(dir, SOCKET);
}
