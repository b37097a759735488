/**
 * A lab of real guests in a state directory of its own, processes of the built program on it, and eyes on every copy and
 * every quota from outside. Closing it ends all of it, and tells when something had to be ended that should have gone.
 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { migrateAnswer, statusAnswer } from '../../src/hypervisors/qemu/answers.ts';
import type { ProcessId } from '../../src/hypervisors/qemu/process.ts';
import { connectQmp } from '../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../src/hypervisors/qemu/qmp/qmp.ts';
import { type VmDir, vmDir } from '../../src/hypervisors/qemu/vm-dir.ts';
import { checkMemory, type MemoryReport, readState } from '../../src/lab/guest/inspect.ts';
import { type LabManifest, readManifest } from '../../src/lab/manifest.ts';
import type { LabOptions } from '../../src/lab/plan.ts';
import { qemusOf } from '../../src/lab/processes.ts';
import { type StartOptions, startLab } from '../../src/lab/start.ts';
import { stopLab } from '../../src/lab/stop.ts';
import { parseProcessStat } from '../../src/runtime/process-identity.ts';
import { Command, type Ended, userEnv } from '../cli/spawn.ts';
import { until } from '../support/condition.ts';
import { Eyes } from './eyes.ts';
import { quotasNow } from './quotas.ts';

const MIB = 2 ** 20;

/** A QEMU process of the lab's, by the run directory that it was started in. */
export interface Copy extends ProcessId {
  readonly vm: string;
  readonly host: string;
  readonly dir: VmDir;
}

const acceptedSchema = z.object({ id: z.string() });

export class LabPlace {
  /** As it was before anything of ours ran. */
  readonly quotasBefore = quotasNow();
  /** Short: sockets' paths are. Made last: what failed before it would leave it. */
  readonly home = mkdtempSync('/tmp/hevt-');
  readonly #started: Command[] = [];
  readonly #eyes: Eyes[] = [];
  readonly #over: NodeJS.ProcessEnv;

  /** `over`: for the environment of every process of the built program. */
  constructor(over: NodeJS.ProcessEnv = {}) {
    this.#over = over;
  }

  /** Guests on lab-a unless `spread`, without a `hostevac up`; `profiles` one each. */
  async lab(
    options: Pick<LabOptions, 'profiles'> & Partial<LabOptions> & Pick<StartOptions, 'domains'>,
  ): Promise<LabManifest> {
    const lab = {
      hosts: 3,
      guests: options.profiles.length,
      egressBytesPerSec: 40 * MIB,
      network: false,
      spread: false,
      ...options,
    };
    const { manifest } = await startLab({
      ...lab,
      stateDir: this.home,
      fleetFile: join(this.home, 'fleet.yaml'),
      accel: 'tcg',
      serveWith: null,
      env: process.env,
      signal: new AbortController().signal,
      progress: () => undefined,
    });
    return manifest;
  }

  /** Throws when there is no lab. */
  get manifest(): LabManifest {
    const manifest = readManifest(this.home);
    if (manifest === null) throw new Error(`no lab in ${this.home}`);
    return manifest;
  }

  runDir(host: string): string {
    const found = this.manifest.hosts.find(({ name }) => name === host);
    if (found === undefined) throw new Error(`the lab has no ${host}`);
    return found.runDir;
  }

  dir(host: string, vm: string): VmDir {
    return vmDir(join(this.runDir(host), vm));
  }

  /** The built program, with this state directory; `over` changes its environment. */
  startWith(over: NodeJS.ProcessEnv, ...args: string[]): Command {
    const command = new Command(args, { env: userEnv(this.home, { ...this.#over, ...over }), cwd: this.home });
    this.#started.push(command);
    return command;
  }

  start(...args: string[]): Command {
    return this.startWith({}, ...args);
  }

  run(...args: string[]): Promise<Ended> {
    return this.start(...args).ended;
  }

  /** `hostevac up` in a process group of its own, once it serves; `within` another program, see `Command`. */
  async startUp(within: readonly string[] = []): Promise<Command> {
    const options = { env: userEnv(this.home, this.#over), cwd: this.home, within };
    const up = new Command(['up', '--port', '0'], options);
    this.#started.push(up);
    await up.says(/^http:\/\/\S+\n/, 60_000);
    return up;
  }

  /** Asks for an evacuation without waiting for it; its id. */
  async evacuate(host: string, ...options: string[]): Promise<string> {
    const ended = await this.run('evacuate', host, '-o', 'json', ...options);
    if (ended.code !== 0) throw new Error(`evacuate ended with ${ended.code}: ${ended.stdout}${ended.stderr}`);
    return acceptedSchema.parse(JSON.parse(ended.stdout)).id;
  }

  /** While an `up` (or a command) runs its Redis. */
  async eyes(): Promise<Eyes> {
    const eyes = await Eyes.open(this.home, `lab-${this.manifest.id}`);
    this.#eyes.push(eyes);
    return eyes;
  }

  /** Every QEMU process that runs in this lab, by host and VM. */
  copies(vm?: string): Copy[] {
    const { place, hosts } = this.manifest;
    return qemusOf(place).flatMap((found) => {
      const text = readFileSync(`/proc/${found.pid}/cmdline`, 'utf8');
      for (const { name: host, runDir } of hosts) {
        const name = new RegExp(`unix:${runDir}/([^/]+)/`).exec(text)?.[1];
        if (name === undefined || (vm !== undefined && vm !== name)) continue;
        return [{ ...found, host, vm: name, dir: vmDir(join(runDir, name)) }];
      }
      return [];
    });
  }

  /** The only copy of this VM; throws when there is none or more. */
  only(vm: string): Copy {
    const copies = this.copies(vm);
    const [copy, second] = copies;
    if (copy !== undefined && second === undefined) return copy;
    throw new Error(`copies of ${vm}: ${JSON.stringify(copies)}`);
  }

  /** What stands in the hosts' run directories: `lab-b/hot-1`. */
  directories(): string[] {
    return this.manifest.hosts.flatMap(({ name, runDir }) => readdirSync(runDir).map((vm) => `${name}/${vm}`));
  }

  /** What is left of the lab in the state directory. */
  files(): string[] {
    return readdirSync(this.home).filter((name) => name === 'lab' || name === 'fleet.yaml');
  }

  /** QEMU's word for its state. */
  async stateOf({ dir }: Pick<Copy, 'dir'>): Promise<string> {
    return (await asking(dir.spare, (qmp) => qmp.execute('query-status', statusAnswer))).status;
  }

  async progressOf({ dir }: Pick<Copy, 'dir'>): Promise<number> {
    return (await asking(dir.spare, readState)).progress;
  }

  /** Until so much of a migration out of here has been sent. */
  async untilSent({ dir }: Pick<Copy, 'dir'>, bytes: number, limitMs: number): Promise<void> {
    const sent = async (): Promise<number> =>
      (await asking(dir.spare, (qmp) => qmp.execute('query-migrate', migrateAnswer))).ram?.transferred ?? 0;
    await until(async () => (await sent()) >= bytes, limitMs, `${bytes} bytes sent from ${dir.path}`);
  }

  /** Waits until the guest has written more than it had when this was called. */
  async goesOn(copy: Pick<Copy, 'dir'>): Promise<void> {
    const before = await this.progressOf(copy);
    await until(async () => (await this.progressOf(copy)) > before, 10_000, `${copy.dir.path} goes on`);
  }

  /** Stops the guest for it; not while it is being migrated. */
  check({ dir }: Pick<Copy, 'dir'>): Promise<MemoryReport> {
    return asking(dir.spare, (qmp) => checkMemory(qmp, this.home));
  }

  /** What all processes wrote, and the guard's log, for a failure's message. */
  said(): string {
    const words = this.#started.map(({ child, stdout, stderr }) => {
      return `--- ${child.spawnargs.slice(2).join(' ')}\n${stdout}\n${stderr}`;
    });
    for (const log of [join(this.home, 'guard', 'guard.log'), join(this.home, 'lab', 'up.log')]) {
      try {
        words.push(`--- ${log}\n${readFileSync(log, 'utf8')}`);
      } catch {
        // There is none.
      }
    }
    return words.join('\n');
  }

  /** `pid command` of every process that was started with this place and still runs; a zombie runs no more. */
  running(): string[] {
    return runningWith(this.home).map(({ pid, command }) => `${pid} ${command}`);
  }

  /** Ends all. Throws when a process stayed that should have gone with what it served; it is ended, too. */
  async close(): Promise<void> {
    const stayed: string[] = [];
    try {
      await Promise.all(this.#eyes.map((eyes) => eyes.close()));
      await Promise.all(this.#started.map((command) => command.kill()));
      await stopLab(this.home);
      await until(() => this.running().length === 0, 15_000, 'end of all processes');
    } catch (error) {
      stayed.push(String(error), ...this.running());
    } finally {
      endAllOf(this.home);
      if (process.env['HOSTEVAC_KEEP'] === undefined) rmSync(this.home, { recursive: true, force: true });
    }
    if (stayed.length > 0) throw new Error(`left behind: ${stayed.join('\n')}`);
  }
}

/** Over a connection of its own, closed at once: a monitor serves one client at a time. */
export async function asking<T>(socket: string, ask: (qmp: Qmp) => Promise<T>): Promise<T> {
  const qmp = await connectQmp(socket);
  try {
    return await ask(qmp);
  } finally {
    qmp.close();
  }
}

/** SIGKILL to every process that was started with this place. */
export function endAllOf(home: string): void {
  for (const { pid } of runningWith(home)) kill(pid);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    // It has ended since it was listed.
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

function runningWith(directory: string): { pid: number; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        if (parseProcessStat(readFileSync(`/proc/${name}/stat`, 'utf8'))?.state === 'Z') return [];
        const command = readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim();
        const environment = readFileSync(`/proc/${name}/environ`, 'utf8');
        const ours = command.includes(`${directory}/`) || command.endsWith(directory);
        return ours || environment.includes(directory) ? [{ pid: Number(name), command }] : [];
      } catch {
        // It has ended since it was listed.
        return [];
      }
    });
}
