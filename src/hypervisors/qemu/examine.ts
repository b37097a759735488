/**
 * What a VM's QEMU says of itself, asked in one go over one connection, and what it means when it says nothing: off, or
 * alive and silent. What never changes in a QEMU process is asked once.
 */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import {
  capabilitiesAnswer,
  cpusAnswer,
  kvmAnswer,
  type MigrateAnswer,
  migrateAnswer,
  nameAnswer,
  statusAnswer,
  uuidAnswer,
} from './answers.ts';
import { type Features, featuresOf } from './features.ts';
import type { Monitors } from './monitors.ts';
import { isAlive, isSameProcess, type ProcessId, processByPidFile, processOfThread, socketListens } from './process.ts';
import type { Qmp } from './qmp/qmp.ts';
import type { Entry } from './run-dir.ts';
import { uuidOf } from './translate.ts';
import type { VmDir } from './vm-dir.ts';

/** What is the same as long as the process lives. */
interface Lasting {
  /** What `query-migrate-capabilities` lists. */
  readonly capabilities: ReadonlySet<string>;
  readonly process: ProcessId;
  readonly features: Features;
  /** null: it was given none. */
  readonly uuid: string | null;
  readonly name: string | null;
}

export interface Answered extends Lasting {
  readonly kind: 'answers';
  /** The index is the vCPU's. */
  readonly tids: readonly number[];
  /** QEMU's word; asked after `migration`, so that a switchover between the two shows as the later state. */
  readonly runState: string;
  readonly migration: MigrateAnswer;
}

export type Examined =
  | Answered
  /** Nobody listens and no process is known: it does not run. */
  | { readonly kind: 'off' }
  /** Something is there that does not answer; the truth is unknown. */
  | { readonly kind: 'silent'; readonly why: string };

/** A process that is ending closes its connections before its sockets; one that is stopped or held takes far longer. */
const ENDING_MS = 300;
const AGAIN_MS = 20;

export class Examiner {
  readonly #monitors: Monitors;
  readonly #lasting = new Map<string, Lasting>();

  constructor(monitors: Monitors) {
    this.#monitors = monitors;
  }

  /** Throws `hypervisorRefused` when QEMU answers with an error. */
  async examine(dir: VmDir): Promise<Examined> {
    for (const since = performance.now(); ; await abortableSleep(AGAIN_MS)) {
      try {
        return await this.#monitors.read(dir, (qmp) => this.#ask(dir, qmp));
      } catch (error) {
        if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
        this.#lasting.delete(dir.path);
        if (!(await isThere(dir))) return { kind: 'off' };
        if (performance.now() - since > ENDING_MS) return { kind: 'silent', why: error.message };
      }
    }
  }

  /** `examine` for those who can do nothing without an answer; null: it does not run. Throws `hostUnreachable`. */
  async answered(dir: VmDir, vm: string): Promise<Answered | null> {
    const examined = await this.examine(dir);
    if (examined.kind === 'off') return null;
    if (examined.kind === 'answers') return examined;
    throw silentError(vm, examined.why);
  }

  async #ask(dir: VmDir, qmp: Qmp): Promise<Answered> {
    const tids = (await qmp.execute('query-cpus-fast', cpusAnswer)).map((cpu) => cpu['thread-id']);
    const process = tids[0] === undefined ? undefined : processOfThread(tids[0]);
    if (process === undefined) {
      throw new HostevacError(
        'hostUnreachable',
        `${dir.path}: its QEMU names vCPU thread ${tids[0]}, which is not to be seen in /proc here; does it run in another PID namespace?`,
      );
    }
    const lasting = await this.#askLasting(dir, qmp, process);
    // Sent together, as each answer waits for a turn of a busy QEMU's main loop; answered in the order in which they came.
    const [migration, { status }] = await Promise.all([
      qmp.execute('query-migrate', migrateAnswer),
      qmp.execute('query-status', statusAnswer),
    ]);
    return { ...lasting, kind: 'answers', tids, runState: status, migration };
  }

  async #askLasting(dir: VmDir, qmp: Qmp, process: ProcessId): Promise<Lasting> {
    const known = this.#lasting.get(dir.path);
    if (known !== undefined && isSameProcess(known.process, process)) return known;
    const [{ UUID }, { name }, { enabled }, listed] = await Promise.all([
      qmp.execute('query-uuid', uuidAnswer),
      qmp.execute('query-name', nameAnswer),
      qmp.execute('query-kvm', kvmAnswer),
      qmp.execute('query-migrate-capabilities', capabilitiesAnswer),
    ]);
    const capabilities = new Set(listed.map(({ capability }) => capability));
    const lasting: Lasting = {
      process,
      uuid: uuidOf(UUID),
      name: name ?? null,
      capabilities,
      features: featuresOf({ version: qmp.greeting.version, kvm: enabled, capabilities }),
    };
    this.#lasting.set(dir.path, lasting);
    return lasting;
  }
}

/** A process or a listener: a VM may be running there. */
export async function isThere(dir: VmDir): Promise<boolean> {
  const process = processByPidFile(dir);
  if (process !== undefined && isAlive(process)) return true;
  return (await Promise.all([dir.monitor, dir.spare].map(socketListens))).includes(true);
}

/**
 * A directory that nobody can name may hold the very VM that is asked for. Throws `hostUnreachable` if something may run
 * in one of those; the others are returned.
 */
export async function refuseNameless(host: string, entries: readonly Entry[]): Promise<Entry[]> {
  const passedOver: Entry[] = [];
  for (const entry of entries) {
    if (entry.kind !== 'unreadable') continue;
    if (await isThere(entry.dir)) {
      throw new HostevacError(
        'hostUnreachable',
        `${host}: a QEMU runs in ${entry.dir.path} and nobody can tell which VM it is: ${entry.fault}; correct it`,
      );
    }
    passedOver.push(entry);
  }
  return passedOver;
}

export function silentError(vm: string, why: string): HostevacError {
  return new HostevacError('hostUnreachable', `${vm}: its QMP socket does not answer: ${why}`);
}
