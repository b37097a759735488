/**
 * Which program serves as the embedded Redis, and how it gets onto the machine: from PATH, else (root with apt) installed.
 * Running it is `embedded-redis.ts`.
 */
import { spawn } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { HostevacError } from '../domain/errors.ts';
import { inPath } from './in-path.ts';

interface RedisProgramOptions {
  readonly env: NodeJS.ProcessEnv;
  /** A directory of ours for links. */
  readonly stateDir: string;
  /** For people, one line. */
  readonly log: (line: string) => void;
}

const SERVERS = ['redis-server', 'valkey-server'] as const;
/**
 * Debian's and Ubuntu's `redis-tools` holds the whole server under this name (`redis-server` is a link to it; the name it
 * is called by decides what it does). Installing only the tools gives us the program without a system service, its user
 * and its port.
 */
const SERVER_IN_TOOLS = { 'redis-server': 'redis-check-rdb', 'valkey-server': 'valkey-check-rdb' } as const;

const NEEDED = 'install Redis 6.2 or later (Debian, Ubuntu: apt-get install redis-server), or set REDIS_URL';

/** The path of a program to start as a Redis server. Throws `redisMissing`. */
export async function redisServerProgram(options: RedisProgramOptions): Promise<string> {
  const there = installedServer(options);
  if (there !== undefined) return there;
  const aptGet = inPath('apt-get', options.env);
  if (aptGet === undefined || process.getuid?.() !== 0) {
    throw new HostevacError('redisMissing', `neither redis-server nor valkey-server is in PATH; ${NEEDED}`);
  }
  options.log('no redis-server found: installing it with apt-get (package redis-tools, no system service)');
  const failure = (await apt(aptGet, 'redis-tools', options.env)) ?? undefined;
  const installed = installedServer(options);
  if (installed !== undefined && (await answersAsServer(installed))) return installed;
  throw new HostevacError(
    'redisMissing',
    `no redis-server in PATH, and apt-get did not bring one${failure === undefined ? '' : ` (${failure})`}; ${NEEDED}`,
  );
}

function installedServer({ env, stateDir }: RedisProgramOptions): string | undefined {
  for (const server of SERVERS) {
    const path = inPath(server, env);
    if (path !== undefined) return path;
  }
  for (const server of SERVERS) {
    const path = inPath(SERVER_IN_TOOLS[server], env);
    if (path !== undefined) return linkAs(server, path, stateDir);
  }
  return undefined;
}

function linkAs(name: string, target: string, stateDir: string): string {
  const directory = join(stateDir, 'bin');
  const link = join(directory, name);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  rmSync(link, { force: true });
  try {
    symlinkSync(target, link);
  } catch (error) {
    // Another process that starts at the same time makes the same link.
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
  return link;
}

async function answersAsServer(program: string): Promise<boolean> {
  const { code, output } = await run(program, ['--version'], process.env);
  return code === 0 && /server/i.test(output);
}

/** Null when it went well, else the last line of what apt said. */
async function apt(aptGet: string, name: string, env: NodeJS.ProcessEnv): Promise<string | null> {
  const quiet = { ...env, DEBIAN_FRONTEND: 'noninteractive' };
  // Two commands may find Redis missing at the same time: the second waits for the first one's lock.
  const common = ['-qq', '-o', 'DPkg::Lock::Timeout=300', '-o', 'Acquire::Retries=3'];
  const install = [...common, 'install', '--yes', '--no-install-recommends', name];
  const first = await run(aptGet, install, quiet);
  if (first.code === 0) return null;
  // A fresh image has no package lists.
  await run(aptGet, [...common, 'update'], quiet);
  const second = await run(aptGet, install, quiet);
  return second.code === 0 ? null : (second.output.trim().split('\n').at(-1) ?? '');
}

function run(
  program: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ code: number; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const keep = (data: Buffer): void => {
      output = (output + data.toString()).slice(-4_000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    child.on('error', (error) => resolve({ code: -1, output: error.message }));
    child.on('close', (code) => resolve({ code: code ?? -1, output }));
  });
}
