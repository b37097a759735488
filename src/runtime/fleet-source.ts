/**
 * Where a fleet comes from: the file named, or the one in HOSTEVAC_FLEET, or the one in the working directory. And its
 * hash, by which processes see that they work from the same file. What is in the file is `src/domain/fleet-file.ts`.
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { parseFleet } from '../domain/fleet-file.ts';

export interface FleetSource {
  /** `--fleet`. */
  readonly path?: string | undefined;
  /** Default: the process's. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Default: the working directory. */
  readonly directory?: string;
}

export interface LoadedFleet {
  readonly fleet: Fleet;
  /** As the user named it, or as it was found. */
  readonly path: string;
  /** See `fleetHash`. */
  readonly hash: string;
}

/** Looked for in this order where no file is named. */
const DEFAULT_FILES = ['fleet.yaml', 'fleet.yml', 'fleet.json'] as const;

/** Throws `fleetFileMissing` when there is no file to read, `badInput` with every problem when it is no fleet. */
export function loadFleet(source: FleetSource = {}): LoadedFleet {
  const path = fleetPath(source);
  const fleet = parseFleet(readText(path), {
    format: extname(path).toLowerCase() === '.json' ? 'json' : 'yaml',
    name: path,
  });
  return { fleet, path, hash: fleetHash(fleet) };
}

function fleetPath({ path, env = process.env, directory = '.' }: FleetSource): string {
  const named = path || env['HOSTEVAC_FLEET'];
  if (named) return named;
  const found = DEFAULT_FILES.map((file) => join(directory, file)).find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new HostevacError(
    'fleetFileMissing',
    `no fleet file: there is no ${DEFAULT_FILES.join(', ')} here; name one with --fleet FILE or HOSTEVAC_FLEET, or start from an example: ${exampleHint()}`,
  );
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    const why =
      code === 'ENOENT'
        ? 'does not exist'
        : code === 'EISDIR'
          ? 'is a directory'
          : code === 'EACCES'
            ? 'may not be read by this user'
            : `cannot be read (${String(code ?? error)})`;
    throw new HostevacError(
      'fleetFileMissing',
      `the fleet file ${path} ${why}; name another with --fleet FILE or HOSTEVAC_FLEET, or start from an example: ${exampleHint()}`,
      { cause: error },
    );
  }
}

function exampleHint(): string {
  return `cp ${packageFile('docs/examples/fleet.yaml') ?? 'docs/examples/fleet.yaml'} fleet.yaml`;
}

/** A file that comes with this package (`docs/examples/demo.yaml`), wherever it is installed; undefined when it is not there. */
export function packageFile(name: string): string | undefined {
  // From src/runtime in a clone, from dist/src/runtime when built: the root is where package.json is.
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    if (existsSync(join(at, 'package.json'))) return existsSync(join(at, name)) ? join(at, name) : undefined;
    if (at === dirname(at)) return undefined;
  }
}

/**
 * 16 hex digits of what a fleet says, whatever the order of keys, the units and the comments of its file. Who is told of what
 * happens there is no part of it: workers need not all be started again for another webhook.
 */
export function fleetHash({ webhooks: _, ...fleet }: Fleet): string {
  return createHash('sha256').update(canonicalJson(fleet)).digest('hex').slice(0, 16);
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
