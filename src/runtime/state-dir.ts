/** Where a user's own things are kept between runs: the embedded Redis, its address, the throttle journal. */
import { accessSync, constants, mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join, resolve } from 'node:path';
import { HostevacError } from '../domain/errors.ts';

/**
 * HOSTEVAC_STATE_DIR, else $XDG_STATE_HOME/hostevac, else ~/.local/state/hostevac; created (0700) when it is not there.
 * Absolute. Throws `badInput` when it cannot be created or written.
 */
export function stateDir(env: NodeJS.ProcessEnv): string {
  const path = stateDirPath(env);
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    accessSync(path, constants.W_OK | constants.X_OK);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new HostevacError(
      'badInput',
      `state directory ${path} cannot be used (${why}); set HOSTEVAC_STATE_DIR to a directory that you may write`,
    );
  }
  return path;
}

/** The same path, whether or not it is there. */
export function stateDirPath(env: NodeJS.ProcessEnv): string {
  const own = env['HOSTEVAC_STATE_DIR'];
  if (own !== undefined && own !== '') return resolve(own);
  // The XDG specification says to ignore relative paths.
  const xdg = env['XDG_STATE_HOME'];
  if (xdg !== undefined && isAbsolute(xdg)) return join(xdg, 'hostevac');
  const home = env['HOME'];
  return join(home !== undefined && home !== '' ? home : homedir(), '.local', 'state', 'hostevac');
}
