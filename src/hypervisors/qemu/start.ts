/** Starts a migration: what must hold at both ends, the settings, our record of it, and then the one word `migrate`. */
import type { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import { anyAnswer, capabilitiesAnswer, yankAnswer } from './answers.ts';
import type { Answered } from './examine.ts';
import type { QemuHost } from './host.ts';
import { mismatch } from './identity.ts';
import { noteEnd, readMigration, writeMigration } from './migration-file.ts';
import { migrateParameters, type OutgoingParts, outgoingOf, type Parameters } from './outgoing.ts';
import { isSameProcess } from './process.ts';
import { find, type VmEntry } from './run-dir.ts';
import { assertMayDrive } from './token-file.ts';
import { isInFlight, migrationUri, runStateOf } from './translate.ts';

/** What somebody may have switched on by hand and what would change how this migration behaves. */
const OFF = ['auto-converge', 'multifd'];

export interface Start extends Required<Parameters> {
  readonly source: QemuHost;
  readonly destination: QemuHost;
  readonly migrationId: string;
  readonly postCopy: boolean;
}

export async function start(
  parts: OutgoingParts,
  fence: Fence,
  entry: VmEntry,
  { source, destination, migrationId, postCopy, ...parameters }: Start,
): Promise<void> {
  const { monitors, clock, watches, gates } = parts;
  const { dir, definition } = entry;
  const vm = definition.name;
  const qemu = await mayStart(parts, entry, source);
  const { port, ready } = await waiting(parts, qemu, { vm, destination, migrationId });
  if (postCopy) refuseUnready(qemu, ready, vm, source, destination);
  const uri = migrationUri(destination.migrationAddress, port);

  await refuseWhileConnecting(monitors, dir, vm, source);

  fence.assertHeld();
  const gated = qemu.features.has.pauseBeforeSwitchover && (await gates.open(source.name, entry));
  if (!gated) await watches.listen(dir);
  try {
    await monitors.drive(fence, dir, vm, async (send) => {
      await send('migrate-set-capabilities', anyAnswer, {
        capabilities: capabilitiesFor(qemu, gated, postCopy ? ready : NO_POST_COPY),
      });
      await send('migrate-set-parameters', anyAnswer, migrateParameters(qemu, parameters));
      assertMayDrive(fence, dir, vm);
      writeMigration(dir, {
        migrationId,
        destination: destination.name,
        uri,
        token: fence.token,
        ...qemu.process,
        startedAtMonotonicMs: clock.monotonic(),
        gated,
        status: 'started',
      });
      await send('migrate', anyAnswer, { uri });
    });
  } catch (error) {
    // QEMU said no. Where it said nothing the migration may be running, and it is ours.
    if (error instanceof HostevacError && error.code === 'hypervisorRefused') {
      const record = readMigration(dir);
      if (record?.migrationId === migrationId) noteEnd(dir, record, 'failed');
      await gates.close(source.name, vm, dir);
    } else if (gated) await gates.reopen(source.name, entry);
    throw error;
  }
  // Abandoned before there was a migration: whoever looked has seen none, and looks no more.
  if (gated) await gates.reopen(source.name, entry);
}

/**
 * QEMU calls a migration cancelled that still tries to connect: the link carries nothing, and the kernel asks again for two
 * minutes. Until it gives up another `migrate` is refused ("duplicate yank instance", 10.0.2), and leaves a migration in
 * `setup` that is none and keeps the guest from being migrated. Throws `stillConnecting`.
 */
async function refuseWhileConnecting(
  monitors: OutgoingParts['monitors'],
  dir: VmEntry['dir'],
  vm: string,
  source: QemuHost,
): Promise<void> {
  // QEMU before 6.0 has no such question, and no such fault.
  const instances = await monitors.read(dir, (qmp) => qmp.execute('query-yank', yankAnswer)).catch(noneIfRefused);
  if (!instances.some(({ type }) => type === 'migration')) return;
  throw new HostevacError(
    'stillConnecting',
    `${vm}: the QEMU of ${source.name} has not given up connecting for its last migration, which was ended: nothing came back over its link`,
  );
}

async function mayStart({ examiner, clock }: OutgoingParts, entry: VmEntry, source: QemuHost): Promise<Answered> {
  const { dir, definition } = entry;
  const vm = definition.name;
  const qemu = await examiner.answered(dir, vm);
  if (qemu === null) throw refused(`${vm} does not run at ${source.name}`);
  const wrong = mismatch(entry, qemu) ?? qemu.features.refusal;
  if (wrong !== null) throw refused(`${vm}: ${wrong}`);
  if (isInFlight(outgoingOf(clock, dir, qemu)?.status ?? null)) throw refused(`${vm} is being migrated already`);
  const state = runStateOf(qemu.runState);
  if (state !== 'running' && state !== 'paused') throw refused(`${vm} is ${qemu.runState} at ${source.name}`);
  return qemu;
}

/** Nothing is sent to where no copy waits for this very migration, made for the guest that runs. */
async function waiting(
  { examiner, monitors }: OutgoingParts,
  source: Answered,
  {
    vm,
    destination,
    migrationId,
  }: { readonly vm: string; readonly destination: QemuHost; readonly migrationId: string },
): Promise<{ readonly port: number; readonly ready: PostCopyReady }> {
  const copy = find(destination.runDir, vm);
  const incoming = copy?.kind === 'vm' && !copy.kept ? copy.definition.incoming : null;
  const qemu = copy === undefined || incoming === null ? null : await examiner.answered(copy.dir, vm);
  if (
    copy === undefined ||
    qemu?.runState !== 'inmigrate' ||
    incoming?.migrationId !== migrationId ||
    incoming.port === null
  ) {
    throw refused(`no copy of ${vm} waits at ${destination.name} for migration ${migrationId}; prepare it first`);
  }
  const { of } = incoming;
  if (of !== undefined && !isSameProcess(of, source.process)) {
    throw refused(`${vm} was started again since its copy at ${destination.name} was made; that has to be made anew`);
  }
  const listed = await monitors.read(copy.dir, (qmp) => qmp.execute('query-migrate-capabilities', capabilitiesAnswer));
  const on = new Set(listed.flatMap(({ capability, state }) => (state ? [capability] : [])));
  return { port: incoming.port, ready: { ram: on.has('postcopy-ram'), preempt: on.has('postcopy-preempt') } };
}

/** Which of the two capabilities a waiting copy was started with; the source must have the same. */
interface PostCopyReady {
  readonly ram: boolean;
  readonly preempt: boolean;
}

const NO_POST_COPY: PostCopyReady = { ram: false, preempt: false };

function refuseUnready(
  { features }: Answered,
  { ram }: PostCopyReady,
  vm: string,
  source: QemuHost,
  destination: QemuHost,
): void {
  if (!features.has.postcopy) {
    throw refused(`${vm} cannot be switched to post-copy: the QEMU of ${source.name} has none; upgrade it`);
  }
  if (!ram) throw refused(`the copy of ${vm} that waits at ${destination.name} was not prepared for post-copy`);
}

function capabilitiesFor(
  { features, capabilities }: Answered,
  gated: boolean,
  postCopy: PostCopyReady,
): { capability: string; state: boolean }[] {
  return [
    { capability: 'events', state: features.has.events },
    { capability: 'return-path', state: features.has.returnPath },
    { capability: 'pause-before-switchover', state: gated },
    { capability: 'postcopy-ram', state: postCopy.ram },
    { capability: 'postcopy-preempt', state: postCopy.preempt },
    ...OFF.map((capability) => ({ capability, state: false })),
  ].filter(({ capability }) => capabilities.has(capability));
}

function noneIfRefused(error: unknown): z.output<typeof yankAnswer> {
  if (error instanceof HostevacError && error.code === 'hypervisorRefused') return [];
  throw error;
}

function refused(message: string): HostevacError {
  return new HostevacError('hypervisorRefused', message);
}
