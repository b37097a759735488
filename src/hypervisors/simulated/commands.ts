/**
 * What the simulated hypervisor and throttle answer to a command: done, or refused with a reason. Pure.
 *
 * Fencing is done here, at the resource: a command whose token is smaller than the largest seen for its VM is refused,
 * whatever its sender believes.
 */
import { HostevacError, type Reason, reasonOf } from '../../domain/errors.ts';
import { formatSize } from '../../domain/units.ts';
import { strike } from './faults.ts';
import {
  beginMigration,
  cancelActive,
  changeBandwidth,
  changeCopy,
  changeDowntimeLimit,
  failMigration,
} from './migrations.ts';
import type { Command, GuestCommand, Migration, SimulatedHost, State } from './model.ts';
import { beginPostCopy, resumeArrival } from './post-copy.ts';
import { copyOf, type Draft, dropCopy, guestNamed, keyOf, migrationFrom, newCopy, own, putCopy } from './records.ts';
import { beginShutdown, isShuttingDown } from './shutdown.ts';

type CommandOf<K extends GuestCommand['kind']> = Extract<GuestCommand, { kind: K }>;

/** Carries the command out now. The refusal, or null when it was done; a refused command changes nothing but the token seen. */
export function carryOut(draft: Draft, command: Command): Reason | null {
  if (command.kind === 'fault') return refusalOf(() => strike(draft, command.fault));
  const seen = own(draft.tokens, command.vm) ?? 0;
  if (command.token < seen) {
    return {
      code: 'leaseLost',
      message: `${command.kind} of ${command.vm} came with token ${command.token}, but its holder has ${seen} by now`,
    };
  }
  if (command.token > seen) draft.tokens = { ...draft.tokens, [command.vm]: command.token };
  return refusalOf(() => obey(draft, command));
}

function refusalOf(act: () => void): Reason | null {
  try {
    act();
    return null;
  } catch (error) {
    if (error instanceof HostevacError && error.code !== 'internal') return reasonOf(error);
    throw error;
  }
}

/** Every branch checks all it needs before it changes anything. */
function obey(draft: Draft, command: GuestCommand): void {
  switch (command.kind) {
    case 'prepareDestination':
      prepareDestination(draft, command);
      break;
    case 'startMigration':
      startMigration(draft, command);
      break;
    case 'setBandwidth':
      adjust(draft, command, (active) => changeBandwidth(draft, active, command.bytesPerSec));
      break;
    case 'setDowntimeLimit':
      adjust(draft, command, (active) => changeDowntimeLimit(draft, active, command.downtimeLimitMs));
      break;
    case 'beginPostCopy':
      switchToPostCopy(draft, command);
      break;
    case 'recoverPostCopy':
      recoverPostCopy(draft, command);
      break;
    case 'cancelMigration':
      cancelMigration(draft, command);
      break;
    case 'discardIncoming':
      discardIncoming(draft, command);
      break;
    case 'retire':
      retire(draft, command);
      break;
    case 'shutdown':
      shutdown(draft, command);
      break;
    case 'setShare':
      setShare(draft, command);
      break;
    case 'releaseShare':
      liftThrottle(draft, command.host, command.vm);
      break;
  }
}

/** The host, if it answers. */
export function reachable(state: State, name: string): SimulatedHost {
  const host = own(state.hosts, name);
  if (host === undefined) {
    throw new HostevacError('unknownHost', `host ${name} is not in the simulated fleet; see the fleet file's hosts`);
  }
  if (host.dead) throw new HostevacError('hostUnreachable', `host ${name} does not answer`);
  return host;
}

function refuse(message: string): never {
  throw new HostevacError('hypervisorRefused', message);
}

/** A limit is taken also when the migration has just ended, as QEMU's `migrate-set-parameters` is: it then limits nothing. */
function adjust(
  draft: Draft,
  command: CommandOf<'setBandwidth' | 'setDowntimeLimit'>,
  change: (active: Migration) => void,
): void {
  const { source, vm } = command;
  reachable(draft, source);
  if (copyOf(draft, source, vm) === undefined) refuse(`${source} has no ${vm}`);
  const active = migrationFrom(draft, source, vm);
  if (active !== undefined) change(active);
}

/** The migration that sends into the copy at this host. */
function activeInto(state: State, destination: string, vm: string): Migration | undefined {
  return state.migrations.find((one) => one.vm === vm && one.destination === destination);
}

function prepareDestination(draft: Draft, { vm, source, destination }: CommandOf<'prepareDestination'>): void {
  const at = reachable(draft, destination);
  const there = copyOf(draft, destination, vm);
  if (there?.state === 'incoming') return;
  if (there !== undefined) refuse(`${destination} has a copy of ${vm} already, which is ${there.state}`);
  reachable(draft, source);
  const original = copyOf(draft, source, vm);
  if (original?.state !== 'running' && original?.state !== 'paused') {
    refuse(`${source} has no running ${vm} to migrate (${original?.state ?? 'no such VM'})`);
  }
  const free = freeMemoryBytes(draft, at);
  const { memoryBytes } = guestNamed(draft, vm);
  if (memoryBytes > free) {
    refuse(`${destination} cannot allocate ${formatSize(memoryBytes)} for ${vm}: ${formatSize(free)} are free`);
  }
  putCopy(draft, destination, vm, newCopy('incoming', draft.nowMs, original.state));
}

/** Every copy but a shut-off one holds its memory, also one that waits and one that has moved. */
function freeMemoryBytes(state: State, host: SimulatedHost): number {
  let free = host.memoryBytes;
  for (const [vm, copy] of Object.entries(host.copies)) {
    if (copy.state !== 'shutOff') free -= guestNamed(state, vm).memoryBytes;
  }
  return Math.max(0, free);
}

function startMigration(draft: Draft, command: CommandOf<'startMigration'>): void {
  const { vm, source, destination, migrationId, bandwidthBytesPerSec, downtimeLimitMs, postCopy } = command;
  reachable(draft, source);
  const original = copyOf(draft, source, vm);
  if (original?.state !== 'running' && original?.state !== 'paused') {
    refuse(`${source} has no running ${vm} to migrate (${original?.state ?? 'no such VM'})`);
  }
  if (original.arriving) refuse(`${vm} is arriving at ${source} in post-copy`);
  const { notMigratable } = guestNamed(draft, vm);
  if (notMigratable !== undefined) refuse(`${vm} cannot be migrated: ${notMigratable}`);
  if (isShuttingDown(draft, source, vm)) refuse(`${vm} is shutting down on ${source}`);
  if (migrationFrom(draft, source, vm) !== undefined) refuse(`${vm} is being migrated from ${source} already`);
  const waiting = copyOf(draft, destination, vm);
  if (waiting?.state !== 'incoming') refuse(`${destination} does not accept ${vm}: no incoming copy waits there`);
  if (activeInto(draft, destination, vm)) refuse(`the incoming copy of ${vm} on ${destination} is taken`);
  putCopy(draft, destination, vm, { ...waiting, wakesAs: original.state });
  beginMigration(draft, { vm, source, destination, migrationId, bandwidthBytesPerSec, downtimeLimitMs, postCopy });
}

function cancelMigration(draft: Draft, { vm, source }: CommandOf<'cancelMigration'>): void {
  reachable(draft, source);
  const active = migrationFrom(draft, source, vm);
  if (active === undefined) return;
  if (active.arrival !== null)
    refuse(`${vm} is in post-copy: its memory is at both ends, ending it would lose the guest`);
  cancelActive(draft, active);
}

function switchToPostCopy(draft: Draft, { vm, source }: CommandOf<'beginPostCopy'>): void {
  reachable(draft, source);
  const active = migrationFrom(draft, source, vm);
  if (active === undefined) {
    if (copyOf(draft, source, vm)?.lastOutgoing?.status === 'completed') return;
    refuse(`${vm} is not being migrated from ${source}`);
  }
  if (!active.postCopy) refuse(`the migration of ${vm} from ${source} was not started for post-copy`);
  // What is switching over is nearly there; what is in post-copy is.
  if (active.stage === 'precopy') beginPostCopy(draft, active);
}

/** While no byte passes between the two it stays as it is. */
function recoverPostCopy(draft: Draft, { vm, source, destination }: CommandOf<'recoverPostCopy'>): void {
  reachable(draft, source);
  reachable(draft, destination);
  const active = migrationFrom(draft, source, vm);
  if (active?.stage !== 'postCopy') return;
  if (copyOf(draft, destination, vm)?.arriving !== true) refuse(`${destination} has no copy of ${vm} that arrives`);
  resumeArrival(draft, active);
}

function discardIncoming(draft: Draft, { vm, destination }: CommandOf<'discardIncoming'>): void {
  reachable(draft, destination);
  const copy = copyOf(draft, destination, vm);
  if (copy === undefined) return;
  if (copy.state !== 'incoming') refuse(`the copy of ${vm} on ${destination} is ${copy.state}, not incoming`);
  dropCopy(draft, destination, vm);
  const feeding = activeInto(draft, destination, vm);
  if (feeding === undefined) return;
  failMigration(draft, feeding, { code: 'destinationDied', message: `${destination} closed the connection for ${vm}` });
}

/** Its guest hears it, and is off some seconds later; or it does not listen. */
function shutdown(draft: Draft, { vm, host }: CommandOf<'shutdown'>): void {
  reachable(draft, host);
  const copy = copyOf(draft, host, vm) ?? refuse(`${host} has no ${vm} to shut down`);
  if (copy.state === 'shutOff') return;
  if (copy.state !== 'running') refuse(`${vm} is ${copy.state} on ${host}: its guest cannot be asked to shut down`);
  if (copy.arriving) refuse(`${vm} is arriving at ${host} in post-copy`);
  if (migrationFrom(draft, host, vm) !== undefined) refuse(`${vm} is being migrated from ${host}`);
  beginShutdown(draft, host, vm);
}

function retire(draft: Draft, { vm, source }: CommandOf<'retire'>): void {
  reachable(draft, source);
  const copy = copyOf(draft, source, vm);
  if (copy === undefined) return;
  if (copy.state !== 'postMigrate') refuse(`the copy of ${vm} on ${source} is ${copy.state}: it has not moved away`);
  if (migrationFrom(draft, source, vm) !== undefined) refuse(`${vm} is in post-copy: it needs its source ${source}`);
  dropCopy(draft, source, vm);
}

function setShare(draft: Draft, { vm, host, share, validForMs }: CommandOf<'setShare'>): void {
  reachable(draft, host);
  const copy = copyOf(draft, host, vm) ?? refuse(`${host} has no ${vm} to throttle`);
  draft.throttled[keyOf(host, vm)] = draft.nowMs + validForMs;
  // A renewal changes nothing about the guest; leaving the anchors alone keeps it cheap.
  if (copy.share !== share) changeCopy(draft, host, vm, { share });
}

/** Harmless when there is nothing to lift, also when the host is gone with all its throttles. */
export function liftThrottle(draft: Draft, host: string, vm: string): void {
  delete draft.throttled[keyOf(host, vm)];
  if (copyOf(draft, host, vm)?.share !== 1) changeCopy(draft, host, vm, { share: 1 });
}
