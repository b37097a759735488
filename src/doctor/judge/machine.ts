/** What is said of this machine: Node, directories, clock, rights and control groups, the size of hosts. Pure. */
import { formatSize } from '../../domain/units.ts';
import { type CheckId, type Finding, fault, notChecked, ok, warning } from '../finding.ts';

export const MACHINE = 'this machine';
const OLDEST_NODE = [20, 19] as const;

/** `version`: as process.versions.node. */
export function judgeNode(version: string): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor >= OLDEST_NODE[1])) {
    return ok('node.version', MACHINE, `Node ${version}`);
  }
  return fault('node.version', MACHINE, `Node ${version}`, `install Node ${OLDEST_NODE.join('.')} or later`);
}

export interface DirectoryFacts {
  readonly path: string;
  /** What it is not: there, a directory, readable, writable; null: all of these. */
  readonly fault: 'missing' | 'notADirectory' | 'unreadable' | 'unwritable' | 'readOnly' | null;
  /** Of the directory, or of the nearest one above it that is there. */
  readonly freeBytes: number | null;
  readonly freeInodes: number | null;
  /** Where it is missing: the nearest directory above, and whether this user may make it there. */
  readonly above: { readonly path: string; readonly writable: boolean } | null;
}

/** A journal, a Redis that was just started, a guard's log: a few megabytes, and then some. */
const LEAST_BYTES = 16 * 2 ** 20;
const LITTLE_BYTES = 256 * 2 ** 20;

/** `make`: what makes a directory that is not there yet; null: nobody does, it has to be there. */
export function judgeDirectory(
  id: CheckId,
  subject: string,
  what: string,
  facts: DirectoryFacts,
  make: string | null,
): Finding {
  const { path, above } = facts;
  if (facts.fault === 'missing') {
    if (make === null) return fault(id, subject, `${path} does not exist`, `make it: mkdir -p ${path}`);
    if (above?.writable !== true) {
      return fault(
        id,
        subject,
        `${path} does not exist, and ${above?.path ?? 'what is above it'} may not be written by this user`,
        `make it as root and give it to this user, or name another with HOSTEVAC_STATE_DIR`,
      );
    }
    return room(id, subject, `${path} does not exist yet; ${make}`, facts);
  }
  if (facts.fault === 'notADirectory') {
    return fault(id, subject, `${path} is not a directory`, `move it away, or name another ${what}`);
  }
  if (facts.fault === 'readOnly') {
    return fault(
      id,
      subject,
      `${path} is on a file system that is mounted read-only`,
      `mount it writable (mount -o remount,rw; a unit's ReadWritePaths=), or name another ${what}`,
    );
  }
  if (facts.fault !== null) {
    const may = facts.fault === 'unreadable' ? 'read' : 'written';
    return fault(
      id,
      subject,
      `${path} may not be ${may} by this user`,
      `give it to the user that hostevac runs as (chown, chmod u+rwx), or name another ${what}`,
    );
  }
  return room(id, subject, `${path} can be written`, facts);
}

function room(id: CheckId, subject: string, found: string, { path, freeBytes, freeInodes }: DirectoryFacts): Finding {
  if (freeBytes === null) return ok(id, subject, found);
  const remedy = `make room there: df -h ${path}; df -i ${path}`;
  if (freeInodes === 0) return fault(id, subject, `${path}: its file system takes no more files`, remedy);
  const free = `${formatSize(freeBytes)} free`;
  if (freeBytes < LEAST_BYTES) return fault(id, subject, `${path}: ${free}, which is as good as full`, remedy);
  if (freeBytes < LITTLE_BYTES) return warning(id, subject, `${path}: only ${free}`, remedy);
  return ok(id, subject, `${found}, ${free}`);
}

/** `by`: which program said so; null: none could be asked. */
export function judgeKernelClock(synchronised: boolean | null, by: string | null): Finding {
  if (synchronised === null || by === null) {
    return notChecked(
      'clock.kernel',
      MACHINE,
      'neither timedatectl nor chronyc answers here',
      'make sure that NTP runs (in a container: on the machine below it)',
    );
  }
  if (synchronised) return ok('clock.kernel', MACHINE, `synchronised, says ${by}`);
  return warning(
    'clock.kernel',
    MACHINE,
    `not synchronised, says ${by}`,
    'start an NTP client: timedatectl set-ntp true, or install chrony',
  );
}

export interface CgroupFacts {
  readonly uid: number;
  /** The group of this process in the hierarchy with the cpu controller; a text: why there is none. */
  readonly group: { readonly version: 1 | 2; readonly path: string; readonly cpuThere: boolean } | string;
  /** This user may make groups in it. */
  readonly writable: boolean;
}

export function judgeCgroups({ uid, group, writable }: CgroupFacts): Finding[] {
  const who = uid === 0 ? 'root' : `user ${uid}`;
  if (typeof group === 'string') {
    return [
      fault(
        'throttle.cgroup',
        MACHINE,
        group,
        'mount cgroup v2 (mount -t cgroup2 none /sys/fs/cgroup), or v1 with the cpu controller',
      ),
      notChecked('throttle.rights', MACHINE, `${who}; there is no group to have rights in`),
    ];
  }
  const cgroup = group.cpuThere
    ? ok('throttle.cgroup', MACHINE, `cgroup v${group.version}, cpu controller in ${group.path}`)
    : fault(
        'throttle.cgroup',
        MACHINE,
        `cgroup v${group.version}: ${group.path} has no cpu controller`,
        'turn it on in every group above: echo +cpu > cgroup.subtree_control; with systemd: Delegate=yes or CPUAccounting=yes',
      );
  const rights = writable
    ? ok('throttle.rights', MACHINE, `${who} may make groups in ${group.path}`)
    : fault(
        'throttle.rights',
        MACHINE,
        `${who} may not make groups in ${group.path}`,
        'run the guard as root (docs/deploy/systemd/hostevac-guard.service), or delegate the group to this user (systemd: Delegate=yes); where groups are mounted read-only, mount them writable',
      );
  return [rights, cgroup];
}

/** `refusal`: the guard's words, with the remedy in them; null: it set a quota and took it back. */
export function judgeGuard(refusal: string | null): Finding {
  if (refusal === null) return ok('throttle.guard', MACHINE, 'a group was made, held back and removed again');
  const at = Math.max(refusal.indexOf(': run '), refusal.indexOf('; '));
  const remedy = at < 0 ? 'see the words of the guard' : refusal.slice(at + 2);
  return fault('throttle.guard', MACHINE, at < 0 ? refusal : refusal.slice(0, at), remedy);
}

export interface SizeFacts {
  readonly name: string;
  readonly memory: number;
  readonly cpus: number;
}

/** Hosts of the fleet file beside the machine that they are on, alone or together with others. */
export function judgeSize(
  host: SizeFacts,
  machine: { readonly memory: number; readonly cpus: number },
  sharedWith: readonly SizeFacts[],
): Finding {
  const all = [host, ...sharedWith].reduce((sum, { memory }) => sum + memory, 0);
  const has = `the machine has ${formatSize(machine.memory)} and ${machine.cpus} cpus`;
  const says = `the fleet file says ${formatSize(host.memory)} and ${host.cpus} cpus`;
  if (host.memory > machine.memory) {
    return fault(
      'host.size',
      host.name,
      `${says}, ${has}: guests would be put where there is no memory for them`,
      `set memory of ${host.name} to what VMs may use there, less than ${formatSize(machine.memory)}`,
    );
  }
  const more = [
    ...(all > machine.memory
      ? [`with ${sharedWith.map(({ name }) => name).join(', ')} on the same machine it is ${formatSize(all)} of memory`]
      : []),
    ...(host.cpus > machine.cpus ? [`more cpus than there are (vCPUs count one to one)`] : []),
  ];
  if (more.length === 0) return ok('host.size', host.name, `${says}, ${has}`);
  return warning(
    'host.size',
    host.name,
    `${says}, ${has}: ${more.join('; ')}`,
    'lower memory and cpus in the fleet file, unless this is meant (a lab, guests that idle)',
  );
}
