/** What every command is given: where it writes, what it logs, how it is called. No command reads `process` itself. */

import { dirname, resolve } from 'node:path';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { loadFleet } from '../runtime/fleet-source.ts';
import { type LoadedPolicies, loadPolicies, PRESETS_ONLY } from '../runtime/policy-modules.ts';
import { type Endpoint, loadEndpoints } from '../webhooks/endpoints.ts';
import { commandName } from './help.ts';
import { type CliLog, type LogLevel, openLog } from './log.ts';
import { type Output, openOutput } from './output.ts';

export interface GlobalOptions {
  readonly fleet?: string;
  readonly output: 'text' | 'json';
  readonly logLevel?: LogLevel;
}

/** The parts of `process` that a command may use. */
export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly stdout: NodeJS.WriteStream;
  readonly stderr: NodeJS.WriteStream;
}

export interface Cli extends Surroundings {
  readonly options: GlobalOptions;
  readonly output: Output;
  /** `hostevac`, or `npx hostevac`. */
  readonly command: string;
  openLog(fallback: LogLevel): CliLog;
  /** Throws `fleetFileMissing` and `badInput`. */
  requireFleet(): Fleet;
  /** The fleet, or null when none is named and none is found here: names are then checked by those who know it. */
  findFleet(): Fleet | null;
  /** The policies that may be named for the fleet that was found. Throws `badInput` with every problem of its modules. */
  loadPolicies(fleet: Fleet | null): Promise<LoadedPolicies>;
  /** Its webhooks with their secrets. Throws `badInput` with every secret that cannot be read. */
  loadEndpoints(fleet: Fleet): Endpoint[];
}

export function openCli(surroundings: Surroundings, options: GlobalOptions): Cli {
  const { env, stdout, stderr } = surroundings;
  const output = openOutput({ json: options.output === 'json', env, stdout, stderr });
  let directory = '.';
  const load = (): Fleet => {
    const { fleet, path } = loadFleet({ path: options.fleet, env });
    directory = dirname(resolve(path));
    return fleet;
  };
  return {
    env,
    stdout,
    stderr,
    options,
    output,
    command: commandName(env),
    openLog: (fallback) => openLog({ level: options.logLevel ?? fallback, stderr, paint: output.stderrPaint }),
    requireFleet: load,
    loadPolicies: (fleet) => (fleet === null ? Promise.resolve(PRESETS_ONLY) : loadPolicies(fleet, directory)),
    loadEndpoints: (fleet) => loadEndpoints(fleet, { env, directory }),
    findFleet() {
      const named = (options.fleet ?? '') !== '' || (env['HOSTEVAC_FLEET'] ?? '') !== '';
      try {
        return load();
      } catch (error) {
        if (!named && error instanceof HostevacError && error.code === 'fleetFileMissing') return null;
        throw error;
      }
    },
  };
}

type Action = (cli: Cli) => Promise<number>;
/** How a command hands its work over: the exit code that the action ends with is the process's. */
export type Run = (action: Action) => Promise<void>;
