/**
 * A machine with guests and workers for tests of throttling: real threads that use CPU, real cgroups, a state directory
 * with a real guard, workers as processes of their own. Closing it leaves nothing, and tells when something was left.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { parseProcessStat, startTicksOf } from '../../src/runtime/process-identity.ts';
import type { VcpuThreads } from '../../src/throttling/vcpu-threads.ts';
import { PROGRAM } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';

export const GUARD_ENTRY = join(dirname(PROGRAM), '../throttling/guard/main.js');
export const CPU = '/sys/fs/cgroup/cpu';
const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

/** One line of a fixture's. */
async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('no stdout');
  for await (const line of createInterface({ input: child.stdout })) return line;
  throw new Error('it ended without a word');
}

/** A guest: `vcpus` threads, each busy for this part of the time. */
export class Guest {
  readonly child: ChildProcess;
  readonly threads: VcpuThreads;

  constructor(child: ChildProcess, threads: VcpuThreads) {
    this.child = child;
    this.threads = threads;
  }

  static async start(vcpus: number, busy: number): Promise<Guest> {
    const child = spawn(process.execPath, [fixture('vcpus.mjs'), String(vcpus), String(busy)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const { tids } = z.object({ tids: z.array(z.number()) }).parse(JSON.parse(await firstLine(child)));
    const pid = child.pid ?? 0;
    return new Guest(child, { pid, startTicks: startTicksOf(pid) ?? 0, tids });
  }

  /** The v1 CPU group of a vCPU's thread, from the mount on. */
  group(index = 0): string {
    const text = readFileSync(`/proc/${this.threads.tids[index]}/cgroup`, 'utf8');
    return /^\d+:(?:cpu|cpu,cpuacct):(.*)$/m.exec(text)?.[1] ?? '';
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

const answerSchema = z.union([
  z.object({ id: z.number(), value: z.unknown() }),
  z.object({ id: z.number(), code: z.string(), message: z.string() }),
  z.object({ renewal: z.string(), message: z.string().optional() }),
  z.object({ log: z.string() }),
]);

/** A worker process; a process group of its own. */
export class ThrottlingWorker {
  readonly child: ChildProcess;
  readonly logs: string[] = [];
  readonly renewals: string[] = [];
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;

  constructor(
    stateDir: string,
    vms: Readonly<Record<string, VcpuThreads>>,
    user: { readonly uid?: number; readonly env?: NodeJS.ProcessEnv } = {},
  ) {
    this.child = spawn(process.execPath, [fixture('throttling-worker.mjs'), stateDir, JSON.stringify(vms)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      detached: true,
      ...user,
    });
    if (this.child.stdout !== null)
      createInterface({ input: this.child.stdout }).on('line', (line) => this.#hear(line));
    this.child.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error('the worker has ended'));
    });
  }

  call(name: string, ...args: readonly unknown[]): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    this.child.stdin?.write(`${JSON.stringify([id, name, ...args])}\n`);
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
  }

  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-(this.child.pid ?? 0), signal);
  }

  get ended(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  #hear(line: string): void {
    const said = answerSchema.parse(JSON.parse(line));
    if ('log' in said) this.logs.push(said.log);
    else if ('renewal' in said) this.renewals.push(said.renewal);
    else {
      const waiting = this.#waiting.get(said.id);
      this.#waiting.delete(said.id);
      if ('code' in said) waiting?.reject(Object.assign(new Error(said.message), { code: said.code }));
      else waiting?.resolve(said.value);
    }
  }
}

export class Place {
  readonly stateDir: string;
  readonly #guests: Guest[] = [];
  readonly #workers: ThrottlingWorker[] = [];
  readonly #groups: string[] = [];

  constructor(stateDir?: string) {
    if (!existsSync(GUARD_ENTRY)) throw new Error(`${GUARD_ENTRY} is not there: run npm run build first`);
    this.stateDir = stateDir ?? mkdtempSync(join(tmpdir(), 'hostevac-guard-'));
  }

  async guest(vcpus = 1, busy = 1): Promise<Guest> {
    const guest = await Guest.start(vcpus, busy);
    this.#guests.push(guest);
    // What else runs on the machine must not look like a throttle.
    const home = this.group(`hevtest-${guest.threads.pid}`);
    writeFileSync(join(home, 'cpu.shares'), '262144');
    writeFileSync(join(home, 'cgroup.procs'), String(guest.threads.pid));
    return guest;
  }

  worker(
    vms: Readonly<Record<string, VcpuThreads>>,
    user: { readonly uid?: number; readonly env?: NodeJS.ProcessEnv } = {},
  ): ThrottlingWorker {
    const worker = new ThrottlingWorker(this.stateDir, vms, user);
    this.#workers.push(worker);
    return worker;
  }

  /** A v1 group, removed with the place; `quota` as `50000/100000`. Below another one: give its path. */
  group(name: string, quota?: string): string {
    const path = join(CPU, name);
    mkdirSync(path);
    this.#groups.unshift(path);
    if (quota !== undefined) {
      const [quotaUs = '', periodUs = ''] = quota.split('/');
      writeFileSync(join(path, 'cpu.cfs_period_us'), periodUs);
      writeFileSync(join(path, 'cpu.cfs_quota_us'), quotaUs);
    }
    return path;
  }

  /** Pids of the guards of this state directory. */
  guards(): number[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
      .filter((pid) => {
        try {
          const [, entry, stateDir] = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
          return entry === GUARD_ENTRY && stateDir === this.stateDir && !isZombie(pid);
        } catch {
          return false;
        }
      });
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  get logFile(): string {
    return join(this.stateDir, 'guard', 'guard.log');
  }

  get journal(): string {
    return join(this.stateDir, 'guard', 'journal');
  }

  /** Ends everything; throws when a guard or a group of ours stays although nobody needs it. */
  async close(): Promise<void> {
    for (const worker of this.#workers) if (!worker.ended) worker.signalGroup('SIGKILL');
    try {
      await until(() => this.#workers.every(({ ended }) => ended), 5_000, 'end of the workers');
      await until(
        () => !existsSync(this.journal) || !/"throttle"/.test(readFileSync(this.journal, 'utf8')),
        5_000,
        'journal',
      );
      const left = this.#groups.filter(existsSync).flatMap(ownGroups);
      if (left.length > 0) throw new Error(`groups were left: ${left.join(' ')}`);
    } finally {
      // What a failed test leaves must not outlive it, whichever step of this fails.
      try {
        for (const guest of this.#guests) guest.kill();
        for (const pid of this.guards()) process.kill(pid, 'SIGTERM');
        await until(() => this.guards().length === 0, 5_000, 'end of the guard');
        const groups = this.#groups.filter(existsSync).flatMap((group) => [...ownGroups(group), group]);
        for (const group of groups) await until(() => removed(group), 5_000, `removal of ${group}`);
      } finally {
        rmSync(this.stateDir, { recursive: true, force: true });
      }
    }
  }
}

/** Groups of ours, at any depth. */
function ownGroups(root: string): string[] {
  return readdirSync(root, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isDirectory() && entry.name.startsWith('hostevac-'))
    .map((entry) => join(entry.parentPath, entry.name));
}

export function quotaOf(group: string): string {
  const read = (name: string) => readFileSync(join(group, name), 'utf8').trim();
  return `${read('cpu.cfs_quota_us')}/${read('cpu.cfs_period_us')}`;
}

function isZombie(pid: number): boolean {
  return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.state === 'Z';
}

function removed(group: string): boolean {
  try {
    rmdirSync(group);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'ENOENT';
  }
}
