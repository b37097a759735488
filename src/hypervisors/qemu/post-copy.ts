/**
 * Post-copy: switching a running migration to it, and connecting its two ends anew after the connection broke. A QEMU
 * whose device emulation waits for a page that is not there answers no ordinary command any more, so what the destination
 * must be told then goes out of band, over a connection that was made before. Tried with QEMU 10.0; docs/devel/migration/postcopy.rst.
 */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import type { OutgoingStatus } from '../hypervisor.ts';
import { anyAnswer, capabilitiesAnswer, migrateAnswer } from './answers.ts';
import type { QemuHost } from './host.ts';
import { readMigration, writeMigration } from './migration-file.ts';
import type { Send } from './monitors.ts';
import { type OutgoingParts, oursAt } from './outgoing.ts';
import { connectQmp } from './qmp/client.ts';
import type { Qmp } from './qmp/qmp.ts';
import { find, type VmEntry } from './run-dir.ts';
import { assertMayDrive } from './token-file.ts';
import { isEnded, isInPostCopy, migrationUri } from './translate.ts';
import type { VmDir } from './vm-dir.ts';

/** From `migrate-pause` until that end says that it is paused: its threads have to notice. */
const PAUSE_MS = 5_000;
const LOOK_MS = 50;
/**
 * A line that is given up to a destination that hangs cannot be made again, and its guest waits for ever: it is kept as
 * long as anybody looks at either end. A process that stopped driving keeps the destination's monitor no longer than this.
 */
const UNUSED_MS = 600_000;
/** Connecting anew is left alone this long: on a slow link or a busy machine it takes some seconds. */
const CONNECTING_MS = 10_000;
const CONNECT_MS = 1_500;

/** Both ends say these while `migrate-pause` is allowed; earlier than 8.2 not in the second. */
const PAUSABLE: ReadonlySet<string | undefined> = new Set(['postcopy-active', 'postcopy-recover']);

interface Line {
  readonly made: Promise<Qmp>;
  readonly unused: NodeJS.Timeout;
  /** Others in this process may use the destination's main monitor again. */
  readonly vacate: () => void;
}

export class PostCopy {
  readonly #parts: OutgoingParts;
  /** Connections to destinations for commands out of band, by the destination's VM directory. */
  readonly #lines = new Map<string, Line>();
  /** Since when (monotonic ms) a source connects anew, by its VM directory. */
  readonly #connecting = new Map<string, number>();

  constructor(parts: OutgoingParts) {
    this.#parts = parts;
  }

  async begin(fence: Fence, host: string, entry: VmEntry): Promise<void> {
    const { monitors, gates } = this.#parts;
    const { dir, definition } = entry;
    const vm = definition.name;
    const { qemu, seen } = await oursAt(this.#parts, host, entry);
    if (qemu === null) throw refused(`${vm} does not run at ${host}`);
    if (seen === null || seen.record === null) throw refused(`${vm} is not being migrated from ${host}`);
    if (isInPostCopy(seen.status) || seen.status === 'completed') return;
    if (isEnded(seen.status)) throw refused(`the migration of ${vm} from ${host} is over: it was ${seen.status}`);
    const listed = await monitors.read(dir, (qmp) => qmp.execute('query-migrate-capabilities', capabilitiesAnswer));
    if (!listed.some(({ capability, state }) => capability === 'postcopy-ram' && state)) {
      throw refused(`the migration of ${vm} from ${host} was not started for post-copy`);
    }
    this.attend(entry, 'postCopy');
    if (seen.record.gated) {
      fence.assertHeld();
      await gates.reopen(host, entry);
    }
    await monitors.drive(fence, dir, vm, (send) => send('migrate-start-postcopy', anyAnswer));
  }

  /** Each part of it is harmless where it has been done, so whoever died in the middle is followed by starting over. */
  async recover(fence: Fence, source: QemuHost, destination: QemuHost, entry: VmEntry): Promise<void> {
    const { monitors } = this.#parts;
    const { dir, definition } = entry;
    const vm = definition.name;
    const { qemu, seen } = await oursAt(this.#parts, source.name, entry);
    if (qemu === null || seen === null || !isInPostCopy(seen.status)) return;
    // It is connecting: that ends by itself, at the latest when TCP gives up.
    if (qemu.migration.status === 'postcopy-recover-setup') return;
    if (this.#isConnecting(dir, qemu.migration.status)) return;
    const copy = find(destination.runDir, vm);
    if (copy?.kind !== 'vm' || copy.definition.incoming?.migrationId !== seen.record?.migrationId) {
      throw refused(`${destination.name} has no copy of ${vm} that this migration went to`);
    }
    this.refresh(copy.dir);
    await monitors.drive(fence, dir, vm, async (send, qmp) => {
      if (await isPausable(qmp)) await send('migrate-pause', anyAnswer);
      for (const since = performance.now(); await isPausable(qmp); await abortableSleep(LOOK_MS)) {
        if (performance.now() - since > PAUSE_MS)
          throw refused(`${vm} at ${source.name} does not give its connection up`);
      }
    });
    const uri = await this.#listenAgain(fence, destination, copy.dir, vm);
    await monitors.drive(fence, dir, vm, async (send) => {
      const record = readMigration(dir);
      assertMayDrive(fence, dir, vm);
      if (record !== undefined) writeMigration(dir, { ...record, uri });
      await send('migrate', anyAnswer, { uri, resume: true });
    });
    this.#connecting.set(dir.path, performance.now());
  }

  /** The ends agree on what has arrived, since a short while; who it was that told them to may not be known here. */
  #isConnecting({ path }: VmDir, status: string | undefined): boolean {
    if (status !== 'postcopy-recover') return false;
    const since = this.#connecting.get(path) ?? performance.now();
    this.#connecting.set(path, since);
    return performance.now() - since < CONNECTING_MS;
  }

  /** Where it listens now. QEMU stops listening where it listened before. */
  async #listenAgain(fence: Fence, destination: QemuHost, dir: VmDir, vm: string): Promise<string> {
    const line = await this.#lines.get(dir.path)?.made.catch(() => undefined);
    if (line === undefined || line.closed || !line.outOfBand) {
      return this.#parts.monitors.drive(fence, dir, vm, (send) => listenAgain(send, destination, false));
    }
    const send: Send = (command, answer, args, options) => {
      assertMayDrive(fence, dir, vm);
      this.refresh(dir);
      return line.execute(command, answer, args, options);
    };
    return listenAgain(send, destination, true);
  }

  /** Called whenever a source has been looked at: keeps a connection to the destination while it is in post-copy. */
  attend({ definition, dir }: VmEntry, status: OutgoingStatus | null): void {
    if (!isInPostCopy(status) && this.#lines.size === 0) return;
    if (status !== 'postCopyPaused') this.#connecting.delete(dir.path);
    const record = readMigration(dir);
    const host = record === undefined ? undefined : this.#parts.hostNamed(record.destination);
    if (host === undefined) return;
    const copy = find(host.runDir, definition.name);
    if (copy?.kind !== 'vm') return;
    if (status === null || isEnded(status) || copy.kept) this.hangUp(copy.dir);
    if (!isInPostCopy(status) || copy.kept) return;
    const { path, monitor } = copy.dir;
    if (this.#lines.has(path)) {
      this.refresh(copy.dir);
      return;
    }
    const made = connectQmp(monitor, { timeoutMs: CONNECT_MS, outOfBand: true });
    const unused = setTimeout(() => this.#hangUp(path), UNUSED_MS);
    unused.unref();
    const line: Line = { made, unused, vacate: this.#parts.monitors.occupy(copy.dir) };
    this.#lines.set(path, line);
    const forget = (): void => {
      if (this.#lines.get(path) === line) this.#drop(path, line);
    };
    made.then(
      (qmp) => qmp.onClose(forget),
      (error: unknown) => {
        const why = reasonOf(error).message;
        this.#parts.log.warn({ vm: definition.name, host: host.name, why }, 'no connection for out-of-band commands');
        forget();
      },
    );
  }

  /** Somebody still looks after what arrives, or has arrived, in this directory. */
  refresh({ path }: VmDir): void {
    this.#lines.get(path)?.unused.refresh();
  }

  /** Nothing arrives in this directory any more. */
  hangUp({ path }: VmDir): void {
    this.#hangUp(path);
  }

  close(): void {
    for (const path of this.#lines.keys()) this.#hangUp(path);
  }

  #hangUp(path: string): void {
    const line = this.#lines.get(path);
    if (line === undefined) return;
    this.#drop(path, line);
    // One that was never made is closed.
    line.made.then((qmp) => qmp.close()).catch(() => undefined);
  }

  #drop(path: string, line: Line): void {
    this.#lines.delete(path);
    clearTimeout(line.unused);
    line.vacate();
  }
}

async function isPausable(qmp: Qmp): Promise<boolean> {
  return PAUSABLE.has((await qmp.execute('query-migrate', migrateAnswer)).status);
}

/**
 * Tells a destination to give its connection up and to listen once more; where it does then. It is asked nothing: whether
 * it was paused already, or has paused by now, is in its answers. One port after the other, for where it found one cannot
 * be asked either.
 */
async function listenAgain(send: Send, destination: QemuHost, outOfBand: boolean): Promise<string> {
  const { first, last } = destination.ports;
  const options = { outOfBand };
  await refusal(send('migrate-pause', anyAnswer, undefined, options));
  let port = first;
  for (const since = performance.now(); ; ) {
    const uri = migrationUri(destination.migrationAddress, port);
    const why = await refusal(send('migrate-recover', anyAnswer, { uri }, options));
    if (why === null) return uri;
    if (/address already in use/i.test(why.message)) {
      port += 1;
      if (port > last) {
        throw refused(
          `${destination.name}: every port of ${first}-${last} is taken; widen the host's ports: ${why.message}`,
        );
      }
    } else {
      // "can only be run when postcopy is paused": its threads have not noticed yet, or all has arrived.
      if (performance.now() - since > PAUSE_MS) throw why;
      await abortableSleep(LOOK_MS);
    }
  }
}

/** What QEMU answered instead of doing it; null: it has done it. */
async function refusal(sent: Promise<unknown>): Promise<HostevacError | null> {
  try {
    await sent;
    return null;
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'hypervisorRefused') return error;
    throw error;
  }
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
