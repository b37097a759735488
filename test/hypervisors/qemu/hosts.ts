/**
 * Bare-QEMU hosts for a test: run directories in a temporary place, guests started by hand as an operator would, and
 * every process that is left ended at the end, by the directory it was started for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { RealClock } from '../../../src/clock/real-clock.ts';
import type { Gatekeeper } from '../../../src/hypervisors/qemu/gatekeeper.ts';
import { type QemuHost, QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { socketListens } from '../../../src/hypervisors/qemu/process.ts';
import { connectQmp } from '../../../src/hypervisors/qemu/qmp/client.ts';
import type { Qmp } from '../../../src/hypervisors/qemu/qmp/qmp.ts';
import { readState } from '../../../src/lab/guest/inspect.ts';
import { type GuestParameters, guestImage } from '../../../src/lab/guest/layout.ts';
import { startTicksOf } from '../../../src/runtime/process-identity.ts';
import { until } from '../../support/condition.ts';

export const MIB = 2 ** 20;

const QUIET: GuestParameters = {
  pattern: 'sweep',
  unpaced: false,
  tickHz: 50,
  delayLoops: 0,
  secondLoops: 1,
  touchedBytes: 8 * MIB,
  phases: [{ ticks: 1, pagesPerTick: 0, workingSetBytes: MIB }],
};
/** 160 MiB/s over 24 MiB: at 40 MiB/s never within 300 ms. */
const BUSY: GuestParameters = {
  ...QUIET,
  touchedBytes: 32 * MIB,
  phases: [{ ticks: 1, pagesPerTick: 820, workingSetBytes: 24 * MIB }],
};

export interface ByHand {
  readonly name: string;
  readonly busy?: boolean;
  readonly memoryMib?: number;
  /** Default: the name. */
  readonly dirName?: string;
  /** Written beside `name`, `memory`, `cpus` and `argv`, or instead of them. */
  readonly definition?: Readonly<Record<string, unknown>>;
  /** Of the running QEMU, in front of the others. */
  readonly extra?: readonly string[];
  readonly spare?: boolean;
  readonly pidFile?: boolean;
}

export class Hosts {
  readonly root = mkdtempSync(join(tmpdir(), 'hevq-'));
  readonly #children: ChildProcess[] = [];
  readonly #adapters: QemuHypervisor[] = [];
  readonly hosts: QemuHost[];

  constructor(names: readonly string[], memoryMib = 512) {
    this.hosts = names.map((name, index) => {
      const runDir = join(this.root, name);
      mkdirSync(runDir);
      const first = 53_000 + index * 20;
      return {
        name,
        migrationAddress: '127.0.0.1',
        memoryBytes: memoryMib * MIB,
        cpus: 4,
        runDir,
        ports: { first, last: first + 9 },
        networkNamespace: null,
      };
    });
  }

  /** An adapter as another process would have it. */
  adapter(options: { gatekeeper?: Gatekeeper; hosts?: readonly QemuHost[] } = {}): QemuHypervisor {
    const adapter = new QemuHypervisor({
      hosts: options.hosts ?? this.hosts,
      clock: new RealClock(),
      log: pino({ level: 'silent' }),
      gatekeeper: options.gatekeeper ?? null,
    });
    this.#adapters.push(adapter);
    return adapter;
  }

  dir(host: string, dirName: string): string {
    return join(this.root, host, dirName);
  }

  /** The arguments that a guest runs with, without monitors. */
  argv({ name, busy = false, memoryMib = 64 }: ByHand): string[] {
    const image = join(this.root, `${busy ? 'busy' : 'quiet'}.img`);
    if (!existsSync(image)) writeFileSync(image, guestImage(busy ? BUSY : QUIET));
    const drive = `file=${image},format=raw,if=ide,snapshot=on`;
    const named = ['-name', `guest=${name.replaceAll(',', ',,')},debug-threads=on`];
    return ['-accel', 'tcg', '-m', String(memoryMib), '-nodefaults', '-display', 'none', ...named, '-drive', drive];
  }

  /** Writes its definition and starts it, and waits until its monitor is there. */
  async byHand(host: string, vm: ByHand): Promise<{ readonly dir: string; readonly child: ChildProcess }> {
    const { name, memoryMib = 64, dirName = name, definition = {}, extra = [], spare = true, pidFile = true } = vm;
    const dir = this.dir(host, dirName);
    mkdirSync(dir);
    const argv = this.argv(vm);
    this.define(dir, { name, memory: `${memoryMib}MiB`, cpus: 1, argv, ...definition });
    const monitor = (file: string): string[] => ['-qmp', `unix:${join(dir, file)},server=on,wait=off`];
    const child = spawn(
      'qemu-system-x86_64',
      [
        ...extra,
        ...argv,
        ...monitor('qmp.sock'),
        ...(spare ? monitor('spare.sock') : []),
        ...(pidFile ? ['-pidfile', join(dir, 'qemu.pid')] : []),
      ],
      { stdio: ['ignore', 'ignore', 'inherit'] },
    );
    this.#children.push(child);
    const monitorFile = join(dir, spare ? 'spare.sock' : 'qmp.sock');
    // The file is there a moment before somebody listens.
    await until(() => socketListens(monitorFile), 10_000, `the monitor of ${name}`);
    const qmp = await connectQmp(monitorFile);
    try {
      if (!extra.includes('-S')) await until(async () => (await readState(qmp)).booted, 20_000, `the guest of ${name}`);
    } finally {
      qmp.close();
    }
    return { dir, child };
  }

  define(dir: string, definition: Readonly<Record<string, unknown>>): void {
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'vm.json'), JSON.stringify(definition));
  }

  /** A connection that somebody else has; close it. */
  connect(host: string, dirName: string, file = 'qmp.sock'): Promise<Qmp> {
    return connectQmp(join(this.dir(host, dirName), file));
  }

  /** Pids of the QEMU processes whose command line names this place. */
  running(): number[] {
    return readdirSync('/proc')
      .filter((pid) => /^\d+$/.test(pid))
      .flatMap((pid) => (commandLine(pid).includes(this.root) ? [Number(pid)] : []))
      .filter((pid) => pid !== process.pid && commandLine(String(pid)).startsWith('qemu-system'));
  }

  async close(): Promise<void> {
    await Promise.all(this.#adapters.map((adapter) => adapter.close()));
    for (const pid of this.running()) process.kill(pid, 'SIGKILL');
    await until(() => this.running().length === 0, 10_000, 'the end of all guests');
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** Empty for one that is gone, and for a zombie. */
function commandLine(pid: string): string {
  try {
    return startTicksOf(Number(pid)) === undefined ? '' : readFileSync(`/proc/${pid}/cmdline`, 'utf8');
  } catch {
    return '';
  }
}
