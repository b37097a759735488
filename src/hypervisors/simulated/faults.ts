/** What breaks in a simulated fleet, and what happens to the migrations in its way. Pure. */
import { HostevacError } from '../../domain/errors.ts';
import { guestOf } from './guest.ts';
import { chance } from './hash.ts';
import { beginMigration, changeCopy, failLater, failMigration, forget, reshare } from './migrations.ts';
import type { InjectedFault, Migration } from './model.ts';
import { DEATH_NOTICED_MS } from './model.ts';
import { pauseArrival } from './post-copy.ts';
import { copyOf, type Draft, dropCopy, migrationFrom, newCopy, own, putCopy } from './records.ts';

/** QEMU's own default, which a person at a monitor gets; bytes per second. */
const FOREIGN_BANDWIDTH = 128 * 2 ** 20;

/** Makes it happen now. Throws `HostevacError` when the fault names something that is not there. */
export function strike(draft: Draft, fault: InjectedFault): void {
  switch (fault.kind) {
    case 'linkCut':
      linkCut(draft, fault);
      break;
    case 'hostDies':
      hostDies(draft, fault.host);
      break;
    case 'hypervisorError':
      hypervisorError(draft, fault.vm);
      break;
    case 'stuckProgress':
      stuckProgress(draft, fault);
      break;
    case 'vmAppears':
      vmAppears(draft, fault);
      break;
    case 'vmDies':
      needHost(draft, fault.host);
      if (copyOf(draft, fault.host, fault.vm) === undefined) refuse(`${fault.host} has no ${fault.vm}`);
      copyDies(draft, fault.host, fault.vm);
      break;
    case 'doubleRunning':
      doubleRunning(draft, fault);
      break;
    case 'vmChanges':
      vmChanges(draft, fault);
      break;
    case 'foreignMigration':
      foreignMigration(draft, fault);
      break;
  }
}

type FaultOf<K extends InjectedFault['kind']> = Extract<InjectedFault, { kind: K }>;

function linkCut(draft: Draft, { from, to, durationMs }: FaultOf<'linkCut'>): void {
  needHost(draft, from);
  needHost(draft, to);
  draft.cuts = [...draft.cuts, { from, to, untilMs: draft.nowMs + durationMs }];
  reshare(draft);
}

function hypervisorError(draft: Draft, vm: string): void {
  const active = migrationsOf(draft, vm)[0];
  if (active === undefined) return;
  failMigration(draft, active, {
    code: 'hypervisorRefused',
    message: `the hypervisor on ${active.source} ended the migration of ${vm} with an error`,
  });
}

function stuckProgress(draft: Draft, { vm, durationMs }: FaultOf<'stuckProgress'>): void {
  const untilMs = Math.max(own(draft.stuck, vm) ?? 0, draft.nowMs + durationMs);
  draft.stuck = { ...draft.stuck, [vm]: untilMs };
  reshare(draft);
}

function vmAppears(draft: Draft, { host, spec }: FaultOf<'vmAppears'>): void {
  needHost(draft, host);
  if (hostsWith(draft, spec.name).length > 0) refuse(`there is a VM ${spec.name} in the fleet already`);
  draft.guests = { ...draft.guests, [spec.name]: guestOf(spec, draft.seed) };
  putCopy(draft, host, spec.name, newCopy(spec.state ?? 'running', draft.nowMs));
}

function doubleRunning(draft: Draft, { vm, host }: FaultOf<'doubleRunning'>): void {
  needHost(draft, host);
  if (own(draft.guests, vm) === undefined) refuse(`there is no VM ${vm} in the fleet`);
  if (copyOf(draft, host, vm)?.state === 'running') return;
  for (const into of migrationsOf(draft, vm)) {
    if (into.destination !== host) continue;
    failMigration(draft, into, { code: 'destinationDied', message: `${host} closed the connection for ${vm}` });
  }
  putCopy(draft, host, vm, newCopy('running', draft.nowMs));
}

function vmChanges(draft: Draft, { vm, labels, notMigratable, start }: FaultOf<'vmChanges'>): void {
  const guest = own(draft.guests, vm) ?? refuse(`there is no VM ${vm} in the fleet`);
  const { notMigratable: before, ...rest } = guest;
  const why = notMigratable === undefined ? before : (notMigratable ?? undefined);
  const changed = {
    ...rest,
    ...(labels === undefined ? {} : { labels }),
    ...(why === undefined ? {} : { notMigratable: why }),
  };
  draft.guests = { ...draft.guests, [vm]: changed };
  if (start !== true) return;
  for (const host of hostsWith(draft, vm)) {
    if (copyOf(draft, host, vm)?.state === 'shutOff') changeCopy(draft, host, vm, { state: 'running' });
  }
}

function foreignMigration(draft: Draft, { vm, to }: FaultOf<'foreignMigration'>): void {
  needHost(draft, to);
  const source = hostsWith(draft, vm).find((host) => copyOf(draft, host, vm)?.state === 'running');
  if (source === undefined || copyOf(draft, source, vm)?.arriving === true || migrationsOf(draft, vm).length > 0)
    refuse(`${vm} cannot be migrated now`);
  const there = copyOf(draft, to, vm);
  if (there !== undefined && there.state !== 'incoming') refuse(`${to} has a copy of ${vm} already`);
  putCopy(draft, to, vm, newCopy('incoming', draft.nowMs, 'running'));
  beginMigration(draft, {
    vm,
    source,
    destination: to,
    migrationId: null,
    bandwidthBytesPerSec: FOREIGN_BANDWIDTH,
    downtimeLimitMs: 300,
    postCopy: false,
  });
}

function refuse(message: string): never {
  throw new HostevacError('hypervisorRefused', message);
}

function needHost(draft: Draft, name: string): void {
  const host = own(draft.hosts, name);
  if (host === undefined) throw new HostevacError('unknownHost', `host ${name} is not in the simulated fleet`);
  if (host.dead) throw new HostevacError('hostUnreachable', `host ${name} does not answer`);
}

/** Active migrations of a VM: one, unless it was doubled. */
function migrationsOf(draft: Draft, vm: string): Migration[] {
  return draft.migrations.filter((migration) => migration.vm === vm);
}

function hostsWith(draft: Draft, vm: string): string[] {
  return Object.keys(draft.hosts).filter((host) => copyOf(draft, host, vm) !== undefined);
}

function hostDies(draft: Draft, name: string): void {
  needHost(draft, name);
  for (const vm of Object.keys(draft.hosts[name]?.copies ?? {})) copyDies(draft, name, vm);
  const host = own(draft.hosts, name);
  if (host !== undefined) draft.hosts = { ...draft.hosts, [name]: { ...host, dead: true } };
  reshare(draft);
}

/** The copy is gone. A migration out of it is forgotten; one into it fails as soon as its source notices. */
function copyDies(draft: Draft, host: string, vm: string): void {
  const outgoing = migrationFrom(draft, host, vm);
  if (outgoing !== undefined) forget(draft, outgoing);
  for (const migration of migrationsOf(draft, vm)) {
    if (migration.destination !== host) continue;
    if (migration.stage === 'postCopy') {
      pauseArrival(draft, migration);
      continue;
    }
    const noticed = draft.nowMs + DEATH_NOTICED_MS * (0.2 + 0.8 * chance(draft.seed, 'noticed', vm, migration.number));
    failLater(draft, migration, noticed, {
      code: 'destinationDied',
      message: `the connection of ${vm} to ${host} was closed: the destination is gone`,
    });
  }
  dropCopy(draft, host, vm);
  reshare(draft);
}

/** What is over by now: links heal, stuck migrations go on. */
export function heal(draft: Draft): void {
  draft.cuts = draft.cuts.filter(({ untilMs }) => untilMs > draft.nowMs);
  draft.stuck = Object.fromEntries(Object.entries(draft.stuck).filter(([, untilMs]) => untilMs > draft.nowMs));
  reshare(draft);
}
