/**
 * A container around a real systemd, made of namespaces, in which the units of docs/deploy run as they are: with their users,
 * capabilities, file systems and system call filters. It sees nothing of the machine's own units and leaves nothing.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { createWriteStream, existsSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { inPath } from '../../src/runtime/in-path.ts';
import { until } from '../support/condition.ts';

const script = (name: string) => fileURLToPath(new URL(`container/${name}.sh`, import.meta.url));
const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const SYSTEMD = '/lib/systemd/systemd';
const HOSTEVAC = ['node', '/opt/hostevac/dist/src/cli/main.js'];
/** hostevac as its user, with the environment of its units. */
const AS_HOSTEVAC = `set -a; . /etc/hostevac/hostevac.env; set +a; HOME=/var/lib/hostevac; cd /tmp; exec setpriv --reuid hostevac --regid hostevac --init-groups "$@"`;

/** What is missing for it; null: nothing. */
export function containerFault(): string | null {
  if (!existsSync(SYSTEMD)) return 'no systemd is installed';
  const tools = [
    'unshare',
    'nsenter',
    'setpriv',
    'openssl',
    'redis-server',
    'redis-cli',
    'systemd-run',
    'systemd-sysusers',
  ];
  const missing = [
    ...tools.filter((tool) => inPath(tool, process.env) === undefined),
    // Where the units look for them.
    ...['/usr/bin/node', '/usr/bin/flock'].filter((path) => !existsSync(path)),
  ];
  return missing.length === 0 ? null : `not there: ${missing.join(', ')}`;
}

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export class SystemdContainer {
  readonly work = mkdtempSync(join(tmpdir(), 'hostevac-systemd-'));
  readonly #name = `hevsd-${process.pid}`;
  readonly #child: ChildProcess;
  #init = 0;

  constructor() {
    const args = [script('outer'), this.#name, this.work, script('inner'), REPOSITORY];
    this.#child = spawn('bash', args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const log = createWriteStream(join(this.work, 'systemd.log'));
    this.#child.stdout?.pipe(log, { end: false });
    this.#child.stderr?.pipe(log, { end: false });
  }

  /** Until systemd answers. */
  async booted(): Promise<void> {
    await until(() => this.#findInit() || this.#child.exitCode !== null, 20_000, 'process 1 of the container');
    await until(
      async () => {
        if (this.#child.exitCode !== null) throw new Error(this.#log());
        return (await this.run('systemctl', 'is-system-running')).stdout === 'running\n';
      },
      20_000,
      'systemd in the container',
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${this.#log()}`);
    });
  }

  async startRedis(): Promise<void> {
    await this.must('bash', script('redis'), this.work);
    const ping = ['redis-cli', '-s', '/run/redis/redis.sock', '--user', 'operator', '--pass', 'op', 'PING'];
    await until(async () => (await this.run(...ping)).stdout === 'PONG\n', 10_000, 'Redis in the container');
  }

  /** As root. */
  run(...command: string[]): Promise<Ran> {
    const namespaces = ['--cgroup', '--mount', '--pid', '--uts', '--ipc', '--net'];
    return execute('nsenter', ['-t', String(this.#init), ...namespaces, '--', ...command]);
  }

  /** Throws with its words when it fails. */
  async must(...command: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.run(...command);
    if (code !== 0) throw new Error(`${command.join(' ')} (${code}): ${stdout}${stderr}${this.#log()}`);
    return stdout;
  }

  /** A command of hostevac's. */
  hostevac(...args: string[]): Promise<Ran> {
    return this.run('bash', '-c', AS_HOSTEVAC, 'hostevac', ...HOSTEVAC, ...args);
  }

  operator(...command: string[]): Promise<string> {
    return this.must(
      'redis-cli',
      '-s',
      '/run/redis/redis.sock',
      '--no-auth-warning',
      '--user',
      'operator',
      '--pass',
      'op',
      ...command,
    );
  }

  /** A command as a unit of its own, so that it has a place in the control groups; with its output. */
  async unit(name: string, ...command: string[]): Promise<void> {
    const log = join(this.work, `${name}.log`);
    const how = [
      '-p',
      'Type=oneshot',
      '-p',
      'RemainAfterExit=yes',
      '-p',
      'KillMode=process',
      '-p',
      `StandardOutput=append:${log}`,
    ];
    const where = [
      '--uid=hostevac',
      '--working-directory=/var/lib/hostevac',
      '-E',
      'HOSTEVAC_STATE_DIR=/var/lib/hostevac',
      '-E',
      'HOME=/var/lib/hostevac',
    ];
    await this.must(
      'systemd-run',
      '--quiet',
      '--unit',
      name,
      ...how,
      '-p',
      `StandardError=append:${log}`,
      ...where,
      ...command,
    );
  }

  guardLog(): Promise<string> {
    return this.must('cat', '/var/lib/hostevac/guard/guard.log');
  }

  async mainPid(unit: string): Promise<string> {
    return (await this.must('systemctl', 'show', '--property=MainPID', '--value', unit)).trim();
  }

  async close(): Promise<void> {
    const gone = new Promise<void>((resolve) => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) resolve();
      else this.#child.once('exit', () => resolve());
    });
    // The end of a pid namespace's first process is the end of all in it.
    if (this.#init > 0) process.kill(this.#init, 'SIGKILL');
    else this.#child.kill('SIGKILL');
    await gone;
    for (const hierarchy of readdirSync('/sys/fs/cgroup')) {
      const path = join('/sys/fs/cgroup', hierarchy, this.#name);
      await until(() => removed(path), 10_000, `removal of ${path}`);
    }
    rmSync(this.work, { recursive: true, force: true });
  }

  #findInit(): boolean {
    const pid = this.#child.pid ?? 0;
    const path = `/proc/${pid}/task/${pid}/children`;
    const children = existsSync(path) ? readFileSync(path, 'utf8').trim().split(' ') : [];
    const found = children.find((child) => child !== '' && comm(child) === 'systemd');
    this.#init = found === undefined ? 0 : Number(found);
    return found !== undefined;
  }

  #log(): string {
    const log = join(this.work, 'systemd.log');
    return existsSync(log) ? readFileSync(log, 'utf8').slice(-3_000) : '';
  }
}

function comm(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    // It has ended.
    return '';
  }
}

/** A group with all below it. */
function removed(path: string): boolean {
  if (!existsSync(path)) return true;
  try {
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.isDirectory() && !removed(join(path, entry.name))) return false;
    }
    rmdirSync(path);
    return true;
  } catch {
    // Its last process is on its way out.
    return false;
  }
}

export function execute(program: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(program, [...args], { timeout: 110_000, maxBuffer: 16 * 2 ** 20 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, stdout, stderr });
    });
  });
}
