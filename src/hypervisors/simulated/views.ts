/** What the ports show of a state: a host's inventory, a sighting, a migration's counters, a guest's CPU. Pure. */
import { HostevacError } from '../../domain/errors.ts';
import type { GuestCpu } from '../../throttling/throttle.ts';
import type { HostInventory, MigrationSample, OutgoingStatus, Sighting, VmOnHost } from '../hypervisor.ts';
import { reachable } from './commands.ts';
import { phaseAt } from './guest.ts';
import { gotCpuMsAt } from './migrations.ts';
import type { Copy, Migration, State } from './model.ts';
import { countersAt } from './passes.ts';
import { guestNamed, migrationFrom, own } from './records.ts';

/** Throws `unknownHost`, `hostUnreachable`. */
export function inventoryOf(state: State, host: string): HostInventory {
  const vms = Object.entries(reachable(state, host).copies).map(([name, copy]): VmOnHost => {
    const guest = guestNamed(state, name);
    return {
      name,
      uuid: guest.uuid,
      state: copy.state,
      memoryBytes: guest.memoryBytes,
      touchedBytes: guest.touchedBytes,
      cpus: guest.cpus,
      demandCores: demandCores(state, name, copy),
      notMigratable: whyNot(copy) ?? guest.notMigratable ?? null,
      ...(guest.labels === undefined ? {} : { labels: guest.labels }),
    };
  });
  return { host, takenAtMs: state.nowMs, vms };
}

function whyNot({ state, arriving }: Copy): string | null {
  if (arriving) return 'it arrives here in post-copy: some of its memory is at its source';
  return state === 'shutOff' ? 'it is shut off: there is nothing to migrate live' : null;
}

function demandCores(state: State, vm: string, copy: Copy): number {
  if (copy.state !== 'running') return 0;
  const guest = guestNamed(state, vm);
  return phaseAt(guest, state.nowMs).phase.cpuUse * guest.cpus;
}

/** Throws `unknownHost`, `hostUnreachable`. */
export function sightingOf(state: State, host: string, vm: string): Sighting {
  const copy = own(reachable(state, host).copies, vm);
  if (copy === undefined) return { present: false };
  const active = migrationFrom(state, host, vm);
  const last = copy.lastOutgoing;
  const outgoing = active === undefined ? last : { ...active, status: statusOf(active) };
  return {
    present: true,
    uuid: guestNamed(state, vm).uuid,
    state: copy.state,
    arriving: copy.arriving,
    outgoing:
      outgoing === null
        ? null
        : { status: outgoing.status, destination: outgoing.destination, migrationId: outgoing.migrationId },
  };
}

export function statusOf(migration: Migration): OutgoingStatus {
  if (migration.stage === 'postCopy') return migration.arrival?.paused === true ? 'postCopyPaused' : 'postCopy';
  return migration.stage === 'precopy' ? 'active' : 'switchover';
}

/** null: there is no migration now. Throws `unknownHost`, `hostUnreachable`. */
export function limitOf(state: State, source: string, vm: string): number | null {
  reachable(state, source);
  const limit = migrationFrom(state, source, vm)?.bandwidthBytesPerSec ?? null;
  return limit === 0 ? Number.POSITIVE_INFINITY : limit;
}

/** null: the source knows of no migration. Throws `unknownHost`, `hostUnreachable`. */
export function sampleOf(state: State, source: string, vm: string): MigrationSample | null {
  const copy = own(reachable(state, source).copies, vm);
  if (copy === undefined) return null;
  const totalBytes = guestNamed(state, vm).touchedBytes;
  const active = migrationFrom(state, source, vm);
  if (active !== undefined) {
    const { sentBytes } = countersAt(active, state.nowMs);
    return {
      atMs: state.nowMs,
      status: statusOf(active),
      pass: active.pass,
      remainingBytes: active.passBytes - sentBytes + (active.arrival?.laterBytes ?? 0),
      transferredBytes: active.sentBeforeBytes + sentBytes,
      totalBytes,
      rateBytesPerSec: active.rateBytesPerSec,
      dirtyRateBytesPerSec: active.lastDirtyRateBytesPerSec,
      downtimeMs: active.stage === 'postCopy' ? (active.arrival?.downtimeMs ?? null) : null,
      failure: null,
    };
  }
  const last = copy.lastOutgoing;
  if (last === null) return null;
  return {
    atMs: state.nowMs,
    status: last.status,
    pass: last.pass,
    remainingBytes: last.remainingBytes,
    transferredBytes: last.transferredBytes,
    totalBytes,
    rateBytesPerSec: 0,
    dirtyRateBytesPerSec: last.dirtyRateBytesPerSec,
    downtimeMs: last.downtimeMs,
    failure: last.failure,
  };
}

/** Throws `unknownHost`, `hostUnreachable`, and `hypervisorRefused` when the VM is not there. */
export function guestCpuOf(state: State, host: string, vm: string): GuestCpu {
  const copy = own(reachable(state, host).copies, vm);
  if (copy === undefined) throw new HostevacError('hypervisorRefused', `${host} has no ${vm}`);
  return {
    atMs: state.nowMs,
    gotCpuMs: gotCpuMsAt(state, vm, copy, state.nowMs),
    demandCores: demandCores(state, vm, copy),
    share: copy.share,
  };
}
