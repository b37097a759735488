/**
 * What is done at the two ends beside the migration itself: what can be known before it begins, and what stays after it.
 * libvirtd makes and removes the copies and their definitions; here that is made sure of.
 */
import { abortableSleep } from '../../clock/abortable-sleep.ts';
import { HostevacError } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import type { LibvirtHost } from './host.ts';
import { lifeOf } from './migrate-words.ts';
import { RECORD_ARGUMENTS } from './record.ts';
import { runStateOf, type Seen, see } from './sights.ts';
import { ask, refused, told, uuidWord } from './virsh.ts';

/** Refuses what a migration would fail at after it has begun: a destination that has the VM already. */
export async function prepare(
  fence: Fence,
  { vm, source, destination }: { readonly vm: string; readonly source: LibvirtHost; readonly destination: LibvirtHost },
): Promise<void> {
  const [from, there] = await Promise.all([see(source, vm), see(destination, vm)]);
  fence.assertHeld();
  if (from === null) throw refused(source, `it has no ${vm}`);
  if (there !== null) {
    const why = there.uuid === from.uuid ? 'a copy' : 'another VM of that name';
    throw refused(destination, `${why} is there already: ${vm}`);
  }
}

/** A copy whose CPUs never ran. libvirtd takes it away by itself when its source gives up. */
export async function discardIncoming(fence: Fence, destination: LibvirtHost, vm: string): Promise<void> {
  const seen = await see(destination, vm);
  if (seen === null || seen.stats.state === 'inShutdown') return;
  if (runStateOf(seen.stats, seen.job) !== 'incoming') {
    throw refused(destination, `${vm} there is no copy that waits for a migration (${seen.stats.state})`);
  }
  fence.assertHeld();
  await told(destination, ['destroy', seen.uuid]);
}

export async function keepDefinition(fence: Fence, destination: LibvirtHost, vm: string): Promise<void> {
  const seen = await see(destination, vm);
  if (seen === null) throw refused(destination, `it has no ${vm}`);
  if (runStateOf(seen.stats, seen.job) === 'incoming') throw refused(destination, `${vm} has not arrived yet`);
  const { record } = seen;
  if (record === null) return;
  // What was so at the source; libvirt does not carry it. Only what has a definition can start by itself.
  if (record.autostart && (await isPersistent(destination, seen))) {
    fence.assertHeld();
    await told(destination, ['autostart', seen.uuid]);
  }
  const why = await removeRecord(fence, destination, seen.uuid);
  if (why !== null) throw refused(destination, why);
}

/** null: it is not there any more; else libvirt's words why it still is. */
export async function removeRecord(fence: Fence, host: LibvirtHost, uuid: string): Promise<string | null> {
  fence.assertHeld();
  const { code, words } = await ask(host, ['metadata', uuidWord(uuid), ...RECORD_ARGUMENTS, '--remove', '--live']);
  return code === 0 || /not found|no domain/i.test(words) ? null : words;
}

/** Ending the source's process takes libvirtd a second or two, on a busy machine longer. */
const LEAVES_MS = 30_000;
const LOOK_MS = 100;

/**
 * libvirtd takes what is left away by itself, and its definition with it; that is waited for. Where it could not undefine
 * it, that is done here: a reboot would double the VM.
 */
export async function retire(fence: Fence, source: LibvirtHost, vm: string): Promise<void> {
  const until = performance.now() + LEAVES_MS;
  let seen = await see(source, vm);
  for (; seen !== null && seen.stats.state !== 'shutOff'; seen = await see(source, vm)) {
    const { state, pausedByMigration, postCopy } = seen.stats;
    const leaves = state === 'inShutdown' || pausedByMigration || (state === 'paused' && postCopy !== 'no');
    if (!leaves) throw refused(source, `${vm} there is no copy that has been left (${state})`);
    if (pausedByMigration && seen.job?.kind === 'none') {
      // Its libvirtd died in the last moment, and took nothing away after it: all of it runs at the other end.
      fence.assertHeld();
      await told(source, ['destroy', seen.uuid]);
      continue;
    }
    if (performance.now() > until) throw refused(source, `${vm}: what is left of it there does not go away (${state})`);
    await abortableSleep(LOOK_MS);
  }
  if (seen === null) return;
  fence.assertHeld();
  await told(source, ['undefine', seen.uuid, '--keep-nvram', '--keep-tpm']);
}

/**
 * The power button, or the guest's agent where it has one. A domain that libvirt forgets when it ends is refused: nothing
 * would be left of it.
 */
export async function shutdown(fence: Fence, host: LibvirtHost, vm: string): Promise<void> {
  const seen = await see(host, vm);
  if (seen === null) throw refused(host, `it has no ${vm}`);
  const { state } = seen.stats;
  if (state === 'shutOff' || state === 'inShutdown') return;
  if (state !== 'running') throw refused(host, `${vm} is ${state}: its guest would not hear that it is to shut down`);
  if (seen.stats.postCopy !== 'no' || (seen.job !== null && seen.job.kind !== 'none')) {
    throw refused(host, `${vm} is being migrated, or busy with another job`);
  }
  if (!(await isPersistent(host, seen))) {
    throw refused(host, `${vm} is transient: libvirt would forget it with its shutdown; define it first`);
  }
  fence.assertHeld();
  try {
    await told(host, ['shutdown', seen.uuid]);
  } catch (error) {
    // A guest's agent that hangs is waited for by libvirtd, longer than we wait: it has been asked.
    const hangs = error instanceof HostevacError && error.code === 'hostUnreachable';
    if (!hangs || (await see(host, vm)) === null) throw error;
  }
}

async function isPersistent(host: LibvirtHost, { uuid }: Seen): Promise<boolean> {
  return lifeOf(await told(host, ['dominfo', uuid])).persistent;
}
