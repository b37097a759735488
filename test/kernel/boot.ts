/**
 * A JavaScript module run by this very Node inside Debian's cloud kernel, which QEMU emulates, with one CPU: for what the kernel of
 * the machine at hand lacks (cgroup v2's cpu controller). The module is /test/main.mjs, as root, with proc, sysfs,
 * devtmpfs, /tmp and cgroup2 mounted; it ends when its event loop does. Booting takes about five seconds; the cpio archive is not
 * compressed, because unpacking it under emulation costs a second more than copying 100 MB.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { cpioArchive, type Entry } from './cpio.ts';

export interface KernelRun {
  /** Path in the guest -> content. */
  readonly files: ReadonlyMap<string, Buffer>;
  /** The module's path in the guest; one of `files`. */
  readonly script: string;
  readonly timeoutMs: number;
}

export interface KernelResult {
  readonly exitCode: number;
  /** What the module wrote to stdout and stderr. */
  readonly output: string;
}

const MEMORY_MIB = 1024;
const CONSOLE_TAIL_LINES = 40;
const EXIT = /^hostevac-exit (\d+)$/m;

/** What runs is told by ttyS1; ttyS0 is the kernel's. `b` ends the machine at once: QEMU is told not to reboot. */
function init(script: string): string {
  return `#!/bin/sh
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 cgroup2 /sys/fs/cgroup
node ${script} >/dev/ttyS1 2>&1
echo "hostevac-exit $?" >/dev/ttyS1
echo b >/proc/sysrq-trigger
`;
}

/** The shared libraries a program is linked with, its loader among them, at the paths where it looks for them. */
function libraries(program: string): string[] {
  const listing = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...listing.matchAll(/(\/\S+) \(0x[0-9a-f]+\)$/gm)].flatMap(([, path]) => (path === undefined ? [] : [path]));
}

function program(name: string): string {
  for (const folder of ['/usr/bin', '/bin']) {
    const path = join(folder, name);
    if (statSync(path, { throwIfNoEntry: false })?.isFile() === true) return realpathSync(path);
  }
  throw new Error(`the guest needs the program "${name}", which is neither in /usr/bin nor in /bin`);
}

/** Node; a shell and mount(8) to get there; flock(1), with which a guard is started. With their libraries. */
function system(): Map<string, Buffer> {
  const programs = { node: process.execPath, sh: program('dash'), mount: program('mount'), flock: program('flock') };
  const files = new Map<string, Buffer>();
  for (const [name, path] of Object.entries(programs)) {
    files.set(`/bin/${name}`, readFileSync(path));
    for (const library of libraries(path)) files.set(library, readFileSync(library));
  }
  return files;
}

function archive(files: ReadonlyMap<string, Buffer>): Buffer {
  const directories = new Set(['/proc', '/sys', '/dev', '/tmp']);
  for (const path of files.keys()) {
    for (let parent = dirname(path); parent !== '/'; parent = dirname(parent)) directories.add(parent);
  }
  const entries: Entry[] = [
    ...[...directories].sort().map((path) => ({ kind: 'directory', path: path.slice(1) }) as const),
    // The kernel opens it as init's standard streams, before devtmpfs is mounted.
    { kind: 'device', path: 'dev/console', major: 5, minor: 1 },
    ...[...files].map(([path, content]) => ({ kind: 'file', path: path.slice(1), content, executable: true }) as const),
  ];
  return cpioArchive(entries);
}

function kernelImage(): string {
  const path = process.env['HOSTEVAC_TEST_KERNEL'];
  if (path === undefined) throw new Error('HOSTEVAC_TEST_KERNEL does not name a kernel image; .ci/run unpacks one');
  return path;
}

/** What a character device of the guest wrote; terminals end their lines with CR LF. */
function written(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) === undefined
    ? ''
    : readFileSync(path, 'utf8').replaceAll('\r\n', '\n');
}

/** Throws, with the end of the kernel's console, when the guest did not get to the module's end within the limit. */
export async function runInKernel(run: KernelRun): Promise<KernelResult> {
  const directory = mkdtempSync(join(tmpdir(), 'hostevac-kernel-'));
  const initrd = join(directory, 'initrd');
  const console = join(directory, 'console');
  const results = join(directory, 'results');
  try {
    const files = new Map([...system(), ...run.files, ['/init', Buffer.from(init(run.script))]] as const);
    if (!run.files.has(run.script)) throw new Error(`the script ${run.script} is not among the files`);
    writeFileSync(initrd, archive(files));
    const argv = [
      ...['-nodefaults', '-no-user-config', '-no-reboot', '-display', 'none'],
      ...['-machine', 'q35', '-accel', 'tcg,thread=multi', '-cpu', 'max', '-m', String(MEMORY_MIB)],
      ...['-kernel', kernelImage(), '-initrd', initrd, '-append', 'console=ttyS0 rdinit=/init panic=-1 quiet'],
      ...['-serial', `file:${console}`, '-serial', `file:${results}`],
    ];
    const qemu = await ended(argv, run.timeoutMs);
    const output = written(results);
    const exit = EXIT.exec(output)?.[1];
    if (exit === undefined) {
      const tail = written(console).trimEnd().split('\n').slice(-CONSOLE_TAIL_LINES).join('\n');
      throw new Error(
        `the guest did not get to the end of ${run.script}: QEMU ${qemu}\n` +
          `--- output\n${output}\n--- end of the kernel's console\n${tail}`,
      );
    }
    return { exitCode: Number(exit), output: output.replace(EXIT, '').trimEnd() };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** Runs QEMU to its end, or to the limit; says how it ended. setpriv: it dies with us, whatever ends us. */
function ended(argv: readonly string[], timeoutMs: number): Promise<string> {
  const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...argv];
  const child = spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'pipe'] });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  let late = false;
  const limit = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  return new Promise<string>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      resolve(`${late ? `was ended after ${timeoutMs} ms` : `ended with ${code ?? signal}`}. ${complaint}`);
    });
  }).finally(() => clearTimeout(limit));
}

/** All files below a directory of this machine, at their places below one in the guest. */
export function tree(here: string, there: string, wanted: (path: string) => boolean = () => true): Map<string, Buffer> {
  const files = new Map<string, Buffer>();
  for (const entry of readdirSync(here, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && wanted(path)) files.set(join(there, path.slice(here.length)), readFileSync(path));
  }
  return files;
}
