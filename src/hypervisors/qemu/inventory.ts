/**
 * All VMs of a host. One VM that is faulty, held by another client or unlike its definition hides none of the others: it
 * is listed with the reason why it cannot be migrated. What cannot even be named makes the host's truth unknown.
 */
import type { Logger } from 'pino';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import type { VmOnHost } from '../hypervisor.ts';
import type { CpuTimes } from './cpu-time.ts';
import { type Answered, type Examined, type Examiner, isThere, refuseNameless } from './examine.ts';
import { mismatch, uuidOfVm } from './identity.ts';
import { touchedBytes } from './resident.ts';
import { type Entry, nameOf, sameName, scan, type VmEntry } from './run-dir.ts';
import { copyStateOf, isArriving } from './translate.ts';

interface Found {
  readonly entry: VmEntry;
  readonly examined: Examined;
  /** What QEMU answered with an error. */
  readonly refused: string | null;
}

export class Inventory {
  readonly #examiner: Examiner;
  readonly #cpuTimes: CpuTimes;
  readonly #log: Logger;
  /** What has been logged: an inventory is taken every few seconds. */
  readonly #told = new Set<string>();

  constructor(examiner: Examiner, cpuTimes: CpuTimes, log: Logger) {
    this.#examiner = examiner;
    this.#cpuTimes = cpuTimes;
    this.#log = log;
  }

  /** Throws `hostUnreachable` when something may be running that nobody can name. */
  async of(host: string, runDir: string): Promise<VmOnHost[]> {
    const entries = scan(runDir);
    for (const { dir } of await refuseNameless(host, entries)) {
      this.#once(dir.path, () =>
        this.#log.error({ host, dir: dir.path }, 'a VM directory without a readable definition is passed over'),
      );
    }
    const found = (await Promise.all(entries.map((entry) => this.#examine(entry)))).flat();
    const answering = found.flatMap(({ entry, examined }) =>
      examined.kind === 'answers' ? [{ path: entry.dir.path, qemu: examined }] : [],
    );
    const cores = await this.#cpuTimes.coresOf(answering);
    const coresOf = new Map(answering.map(({ path }, index) => [path, cores[index] ?? 0]));
    const vms = await Promise.all(
      found
        // A copy that never arrived and whose process has gone is no VM.
        .filter(({ entry, examined }) => entry.kept || examined.kind !== 'off')
        .map((one) => this.#vmOf(host, one, coresOf.get(one.entry.dir.path) ?? 0)),
    );
    return withoutDoubles([...vms, ...(await this.#faulty(host, entries))], entries);
  }

  async #examine(entry: Entry): Promise<Found[]> {
    if (entry.kind !== 'vm') return [];
    try {
      return [{ entry, examined: await this.#examiner.examine(entry.dir), refused: null }];
    } catch (error) {
      if (!(error instanceof HostevacError) || error.code !== 'hypervisorRefused') throw error;
      return [{ entry, examined: { kind: 'silent', why: error.message }, refused: error.message }];
    }
  }

  async #vmOf(host: string, { entry, examined, refused }: Found, cores: number): Promise<VmOnHost> {
    const { name, memoryBytes, cpus, labels } = entry.definition;
    const { uuid, fault } = await uuidOrFault(entry, examined);
    const common = { name, uuid, memoryBytes, cpus, ...(labels === null ? {} : { labels }) };
    if (examined.kind === 'off') {
      return { ...common, state: 'shutOff', touchedBytes: memoryBytes, demandCores: 0, notMigratable: fault };
    }
    if (examined.kind === 'silent') {
      // A second copy counts as running only where it said so: people would end one of the two.
      const why = refused ?? `its QMP socket does not answer (does another client hold it?): ${examined.why}`;
      const state = entry.kept ? 'running' : 'incoming';
      return { ...common, state, touchedBytes: memoryBytes, demandCores: 0, notMigratable: why };
    }
    const state = copyStateOf(examined.runState, examined.migration);
    const touched = state === 'incoming' ? undefined : touchedBytes(examined.process.pid, memoryBytes);
    this.#tell(host, name, examined);
    return {
      ...common,
      state,
      // Pages that the guest has freed are in it, and zero pages: an upper bound.
      touchedBytes: touched ?? memoryBytes,
      demandCores: Math.min(cpus, cores),
      notMigratable:
        fault ??
        (isArriving(examined.runState, examined.migration)
          ? 'it arrives here in post-copy: some of its memory is at its source'
          : notMigratable(entry, examined)),
    };
  }

  #tell(host: string, vm: string, { process, features }: Answered): void {
    this.#once(`${process.pid}/${process.startTicks}`, () => {
      for (const degradation of features.degradations) this.#log.warn({ host, vm }, degradation);
    });
  }

  #once(what: string, say: () => void): void {
    if (this.#told.has(what)) return;
    this.#told.add(what);
    say();
  }

  /** Running, for all that anybody knows, unless there is no sign of life. */
  async #faulty(host: string, entries: readonly Entry[]): Promise<VmOnHost[]> {
    const faulty = entries.flatMap((entry) => (entry.kind === 'faulty' ? [entry] : []));
    return Promise.all(
      faulty.map(async ({ dir, name, fault }) => {
        this.#once(fault, () => this.#log.error({ host, vm: name, fault }, 'the definition of a VM is faulty'));
        return {
          name,
          uuid: '',
          state: (await isThere(dir)) ? 'running' : 'shutOff',
          memoryBytes: 0,
          touchedBytes: 0,
          cpus: 0,
          demandCores: 0,
          notMigratable: fault,
        } as const;
      }),
    );
  }
}

/** A uuid that cannot be written down is none: after a restart the VM would have another. */
async function uuidOrFault(entry: VmEntry, examined: Examined): Promise<{ uuid: string; fault: string | null }> {
  try {
    return { uuid: await uuidOfVm(entry, examined), fault: null };
  } catch (error) {
    return {
      uuid: '',
      fault: `its definition lacks a uuid and none can be written into it: ${reasonOf(error).message}`,
    };
  }
}

function notMigratable(entry: VmEntry, qemu: Answered): string | null {
  const blocked = qemu.migration['blocked-reasons'] ?? [];
  return mismatch(entry, qemu) ?? qemu.features.refusal ?? (blocked.length === 0 ? null : blocked.join('; '));
}

/** Where two directories claim one name, it is listed once, as what runs, and not migratable. */
function withoutDoubles(vms: readonly VmOnHost[], entries: readonly Entry[]): VmOnHost[] {
  return [...new Set(vms.map(({ name }) => name))].flatMap((name) => {
    const same = vms.filter((vm) => vm.name === name);
    const shown = same.find(({ state }) => state !== 'shutOff') ?? same[0];
    if (shown === undefined || same.length === 1) return same;
    const dirs = entries.flatMap((entry) => (entry.kind !== 'unreadable' && nameOf(entry) === name ? [entry.dir] : []));
    return [{ ...shown, notMigratable: sameName(name, dirs) }];
  });
}
