/**
 * The libvirt daemons of a lab: each in its host's network namespace, control groups, mounts and name, so that it takes
 * this machine for its own. What is needed for that, starting them, and finding them again.
 */
import { randomUUID } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import { type ProcessId, type StartedProcess, startProcess, tail } from '../../hypervisors/qemu/process.ts';
import type { LabHost } from '../plan.ts';
import { processesWith } from '../processes.ts';
import { findProgram } from '../programs.ts';
import { BOUND, daemonConfig, groupOf, libvirtUri, qemuConfig } from './config.ts';
import { controlGroupFault, type Hierarchy, hierarchies, makeGroups, membersOf } from './control-groups.ts';
import { virsh } from './virsh.ts';

const DAEMON = 'libvirtd';
const INSTALL =
  'apt-get install --no-install-recommends libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients (a system service is not needed)';

/** What is missing on this machine; null: nothing. Says what to do. */
export function libvirtFault(path: string | undefined, others?: readonly string[]): string | null {
  const missing = (program: string): boolean => findProgram(program, path, others) === null;
  if (process.geteuid?.() !== 0) return 'namespaces and control groups need root';
  for (const program of [DAEMON, 'virsh']) {
    if (missing(program)) return `${program} is not in PATH; install libvirt: ${INSTALL}`;
  }
  for (const program of ['unshare', 'nsenter', 'mount', 'umount', 'hostname']) {
    if (missing(program)) return `${program} is not in PATH; install util-linux, mount and hostname`;
  }
  return controlGroupFault();
}

/** A word in the arguments of whatever is on its way to become a daemon: so it is found also before it is one. */
const ON_ITS_WAY = 'hostevac-lab-daemon';

/** Into the host's control groups; those are what the group namespace then takes for the root. Each step is the same process. */
const JOIN = `
enter=$1 group=$2
shift 2
join() { while [ $# -gt 0 ]; do echo $$ > "$1/$group/cgroup.procs"; shift 3; done; }
host=$1 name=$2 daemon=$3
shift 3
join "$@"
exec unshare --mount --uts --cgroup --propagation slave -- sh -euc "$enter" "$0" "$host" "$name" "$daemon" "$@"
`;

/**
 * The machine's own message bus is hidden, as libvirt would ask it for groups (systemd-machined), where two hosts' domains
 * have one name. A group of cgroup v2 that hands controllers down must hold no process itself, so the daemon goes below.
 */
const ENTER = `
host=$1 name=$2 daemon=$3
shift 3
hostname "$name"
bind() { mkdir -p "$2"; mount --bind "$host/$1" "$2"; }
${BOUND.map(([from, to]) => `bind ${from} ${to}`).join('\n')}
if [ -d /run/dbus ]; then bind no-bus /run/dbus; fi
while [ $# -gt 0 ]; do
  umount -l "$1"
  mount -t "$2" -o "$3" none "$1"
  if [ "$2" = cgroup2 ]; then mkdir -p "$1/daemon"; echo $$ > "$1/daemon/cgroup.procs"; fi
  shift 3
done
exec "$daemon" --listen --config "$host/etc/libvirtd.conf" --pid-file "$host/run/libvirtd.pid"
`;

const READY_MS = 30_000;
const LOOK_MS = 30;

export interface DaemonOptions {
  readonly hosts: readonly LabHost[];
  readonly path: string | undefined;
  readonly emulator: string;
  readonly accel: 'tcg' | 'kvm';
  readonly signal: AbortSignal;
  readonly progress: (line: string) => void;
}

/** Until all answer. Throws `labUnfit`; nothing of it goes on starting by itself then, and what runs is `daemonsOf`'s. */
export async function startDaemons(options: DaemonOptions): Promise<void> {
  const { hosts, signal, progress } = options;
  const daemon = findProgram(DAEMON, options.path);
  if (daemon === null) throw new HostevacError('labUnfit', `${DAEMON} is not in PATH; install libvirt: ${INSTALL}`);
  const hierarchies = makeGroups(hosts.map(groupOf));
  for (const host of hosts) furnish(host);
  const outcomes = await Promise.allSettled(
    hosts.map(async (host) => {
      await answers(host, await startDaemon(host, daemon, hierarchies), signal);
    }),
  );
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  progress(`libvirtd runs as ${hosts.map(({ name }) => name).join(', ')}; asking it what QEMU can do`);
  await learnCapabilities(options);
}

/** One that has ended, in the place that it had: its domains run on, and it takes them up. */
export async function startDaemonAgain(host: LabHost, path: string | undefined, signal: AbortSignal): Promise<void> {
  const daemon = findProgram(DAEMON, path);
  if (daemon === null) throw new HostevacError('labUnfit', `${DAEMON} is not in PATH; install libvirt: ${INSTALL}`);
  await answers(host, await startDaemon(host, daemon, hierarchies()), signal);
}

function furnish(host: LabHost): void {
  const folders = [...BOUND.map(([from]) => from), 'no-bus', 'domains'];
  for (const folder of folders) mkdirSync(join(host.runDir, folder), { recursive: true, mode: 0o700 });
  writeFileSync(join(host.runDir, 'etc', 'libvirtd.conf'), daemonConfig(host, randomUUID()), { mode: 0o600 });
  writeFileSync(join(host.runDir, 'etc', 'qemu.conf'), qemuConfig(host), { mode: 0o600 });
}

function logOf(host: LabHost): string {
  return join(host.runDir, 'log', 'libvirtd.out');
}

function startDaemon(host: LabHost, daemon: string, hierarchies: readonly Hierarchy[]): Promise<StartedProcess> {
  const groups = hierarchies.flatMap(({ mountPoint, type, options }) => [mountPoint, type, options]);
  const words = [ENTER, groupOf(host), host.runDir, host.name, daemon, ...groups];
  return startProcess({
    binary: 'sh',
    argv: ['-euc', JOIN, ON_ITS_WAY, ...words],
    cwd: host.runDir,
    logPath: logOf(host),
    networkNamespace: host.networkNamespace,
  });
}

async function answers(host: LabHost, started: StartedProcess, signal: AbortSignal): Promise<void> {
  const log = logOf(host);
  for (const since = performance.now(); ; await abortableSleep(LOOK_MS, signal)) {
    signal.throwIfAborted();
    const how = started.exit();
    if (how !== null) {
      const words = tail(log) ?? tail(join(host.runDir, 'log', 'libvirtd.log')) ?? 'it said nothing';
      throw new HostevacError('labUnfit', `the libvirtd of ${host.name} ended (${how}): ${words}`);
    }
    if (existsSync(join(host.runDir, 'run', 'libvirt-sock')) && (await isReached(host, signal))) return;
    if (performance.now() - since > READY_MS) {
      throw new HostevacError(
        'labUnfit',
        `the libvirtd of ${host.name} does not answer after ${READY_MS / 1_000} s: ${tail(log) ?? 'it said nothing'}`,
      );
    }
  }
}

async function isReached(host: LabHost, signal: AbortSignal): Promise<boolean> {
  try {
    await virsh(libvirtUri(host), ['hostname'], { timeoutMs: READY_MS, signal });
    return true;
  } catch (error) {
    // A part of libvirt of its own, without which the daemon runs and can nothing.
    if (error instanceof HostevacError && /no connection driver/i.test(error.message)) {
      throw new HostevacError('labUnfit', `libvirt has no QEMU driver here; install it: ${INSTALL}`, { cause: error });
    }
    // The socket is there a moment before anybody listens.
    if (error instanceof HostevacError && error.code === 'hostUnreachable') return false;
    throw error;
  }
}

/** In a daemon's cache; libvirt checks that an entry is of this QEMU, this libvirt and this kernel before it uses it. */
const CAPABILITIES = join('cache', 'qemu', 'capabilities');

/** Once, as it takes seconds of CPU for each; the others are given what the first has found before they look. */
async function learnCapabilities({ hosts, emulator, accel, signal }: DaemonOptions): Promise<void> {
  const [first, ...others] = hosts;
  if (first === undefined) return;
  const kind = ['--virttype', accel === 'kvm' ? 'kvm' : 'qemu', '--emulatorbin', emulator];
  await virsh(libvirtUri(first), ['domcapabilities', '--arch', 'x86_64', ...kind], { signal });
  for (const { runDir } of others) {
    cpSync(join(first.runDir, CAPABILITIES), join(runDir, CAPABILITIES), { recursive: true });
  }
}

/** Daemons and what is on its way to become one, by their arguments, and all that runs in their control groups. */
export function daemonsOf(place: string, id: string): ProcessId[] {
  const named = processesWith(place, (program, args) => basename(program) === DAEMON || args.includes(ON_ITS_WAY));
  const known = new Set(named.map(({ pid }) => pid));
  return [...named, ...membersOf(id).filter(({ pid }) => !known.has(pid))];
}
