/**
 * How an active migration runs, from its start to its end, once somebody has commanded it:
 *
 *   precopy, pass by pass --(what is left fits the downtime limit)--> switchover --(all bytes sent)--> handover
 *      --> completed; from any stage: failed, cancelled
 *
 * When a pass ends and what is left then is `passes.ts`; whether a command is allowed is `commands.ts`; what breaks is
 * `faults.ts`. Pure.
 */
import type { Reason } from '../../domain/errors.ts';
import { demandMs, handoverMs, passJitter, phaseAt } from './guest.ts';
import type { Copy, EndedMigration, Migration, State } from './model.ts';
import { LINK_TIMEOUT_MS, MAX_PASSES, OVERBOOKED_LENGTH } from './model.ts';
import { fairRates, isCut, overbookedBy } from './network.ts';
import { countedLeftBytes, countersAt, fittingBytes, newlyDirtyBytes, stageEndMs } from './passes.ts';
import type { Draft } from './records.ts';
import { copyOf, dropCopy, dropMigration, guestNamed, migrationFrom, own, putCopy, putMigration } from './records.ts';

/** CPU time the copy's vCPUs have got by then, ms. */
export function gotCpuMsAt(state: State, vm: string, copy: Copy, atMs: number): number {
  if (copy.state !== 'running' || copy.still) return copy.gotCpuMs;
  return copy.gotCpuMs + copy.share * demandMs(guestNamed(state, vm), copy.cpuSinceMs, atMs);
}

/** Changes a copy from now on, with its CPU counter and its migration's dirtying kept right. */
export function changeCopy(draft: Draft, host: string, vm: string, change: Partial<Copy>): void {
  const copy = copyOf(draft, host, vm);
  if (copy === undefined) return;
  const gotCpuMs = gotCpuMsAt(draft, vm, copy, draft.nowMs);
  putCopy(draft, host, vm, { ...copy, gotCpuMs, cpuSinceMs: draft.nowMs, ...change });
  const migration = migrationFrom(draft, host, vm);
  if (migration !== undefined) putMigration(draft, anchored(draft, migration));
}

/** Its destination is gone, though its source has not noticed yet: it will never complete. */
function isLost(migration: Migration): boolean {
  return migration.failsWith?.code === 'destinationDied';
}

/** Moves the anchor to now and sees from there what comes next, with the guest as it is and at this rate. */
function anchored(draft: Draft, migration: Migration, rateBytesPerSec = migration.rateBytesPerSec): Migration {
  const now = draft.nowMs;
  const guest = guestNamed(draft, migration.vm);
  const copy = copyOf(draft, migration.source, migration.vm);
  const { phase, endsAtMs } = phaseAt(guest, now);
  const runs = copy?.state === 'running' && !copy.still;
  const jitter = passJitter(draft.seed, migration.vm, migration.number, migration.pass);
  const anchor = { ...migration, ...countersAt(migration, now), atMs: now, rateBytesPerSec };
  return {
    ...anchor,
    stageEndsAtMs: isLost(migration) ? null : stageEndMs(anchor, guest),
    dirtySlopeBytesPerSec: runs ? phase.dirtyRateBytesPerSec * (copy?.share ?? 0) * jitter : 0,
    workingSetBytes: phase.workingSetBytes,
    phaseEndsAtMs: runs ? endsAtMs : null,
  };
}

/**
 * Shares the network out again. To be called whenever who sends, how fast each may, or what lies between them has
 * changed. A cut link, a dead destination and stuck progress stop the bytes; the guest goes on dirtying.
 */
export function reshare(draft: Draft): void {
  const migrations = [...draft.migrations];
  const sends = migrations.filter(
    (migration) =>
      migration.stage !== 'handover' &&
      own(draft.stuck, migration.vm) === undefined &&
      !isCut(draft, migration.source, migration.destination) &&
      !isLost(migration),
  );
  const rates = new Map(fairRates(draft, sends).map((rate, index) => [sends[index], rate]));
  for (const migration of migrations) {
    const rate = rates.get(migration) ?? 0;
    let next = rate === migration.rateBytesPerSec ? migration : anchored(draft, migration, rate);
    const cut = isCut(draft, migration.source, migration.destination);
    if (cut && next.failsAtMs === null) next = failing(next, draft.nowMs + LINK_TIMEOUT_MS, linkFailed(next));
    if (!cut && next.failsWith?.code === 'linkFailed') next = { ...next, failsAtMs: null, failsWith: null };
    if (next !== migration) putMigration(draft, next);
  }
}

function linkFailed({ vm, source, destination }: Migration): Reason {
  const seconds = LINK_TIMEOUT_MS / 1_000;
  return {
    code: 'linkFailed',
    message: `no byte of ${vm} passed from ${source} to ${destination} for ${seconds}s`,
  };
}

function failing(migration: Migration, failsAtMs: number, failsWith: Reason): Migration {
  return { ...migration, failsAtMs, failsWith };
}

/** The source will notice at `atMs` that this migration is lost. */
export function failLater(draft: Draft, migration: Migration, atMs: number, reason: Reason): void {
  putMigration(draft, anchored(draft, failing(migration, atMs, reason)));
  reshare(draft);
}

export interface Start {
  readonly vm: string;
  readonly source: string;
  readonly destination: string;
  readonly migrationId: string | null;
  readonly bandwidthBytesPerSec: number;
  readonly downtimeLimitMs: number;
}

/** Begins to send; the incoming copy is there already. */
export function beginMigration(draft: Draft, start: Start): void {
  const number = (own(draft.starts, start.vm) ?? 0) + 1;
  draft.starts = { ...draft.starts, [start.vm]: number };
  const migration: Migration = {
    ...start,
    number,
    startedAtMs: draft.nowMs,
    stage: 'precopy',
    switchoverAtMs: null,
    pass: 1,
    passStartedAtMs: draft.nowMs,
    passBytes: guestNamed(draft, start.vm).touchedBytes,
    sentBeforeBytes: 0,
    lastDirtyRateBytesPerSec: 0,
    atMs: draft.nowMs,
    sentBytes: 0,
    dirtiedBytes: 0,
    rateBytesPerSec: 0,
    dirtySlopeBytesPerSec: 0,
    workingSetBytes: 0,
    stageEndsAtMs: null,
    phaseEndsAtMs: null,
    failsAtMs: null,
    failsWith: null,
  };
  putMigration(draft, anchored(draft, migration));
  reshare(draft);
  noteOverbooking(draft, migration);
}

export function changeBandwidth(draft: Draft, migration: Migration, bandwidthBytesPerSec: number): void {
  const changed = { ...migration, bandwidthBytesPerSec };
  putMigration(draft, changed);
  reshare(draft);
  noteOverbooking(draft, changed);
}

export function changeDowntimeLimit(draft: Draft, migration: Migration, downtimeLimitMs: number): void {
  putMigration(draft, anchored(draft, { ...migration, downtimeLimitMs }));
}

function noteOverbooking(draft: Draft, migration: Migration): void {
  for (const { name, capacity, limits } of overbookedBy(draft, migration)) {
    const { count, last } = draft.overbooked;
    draft.overbooked = {
      count: count + 1,
      last: [...last, { atMs: draft.nowMs, resource: name, limits, capacity }].slice(-OVERBOOKED_LENGTH),
    };
  }
}

/** When something happens next to this migration by itself; infinity: nothing in sight. Asked of all, at every event. */
export function nextEventMs({ failsAtMs, stageEndsAtMs, phaseEndsAtMs }: Migration): number {
  const never = Number.POSITIVE_INFINITY;
  return Math.min(failsAtMs ?? never, stageEndsAtMs ?? never, phaseEndsAtMs ?? never);
}

/** Carries out the event that is due now. */
export function stepMigration(draft: Draft, migration: Migration): void {
  const due = (atMs: number | null) => atMs !== null && atMs <= draft.nowMs;
  if (due(migration.failsAtMs) && migration.failsWith !== null) failMigration(draft, migration, migration.failsWith);
  else if (due(migration.stageEndsAtMs)) endStage(draft, migration);
  else putMigration(draft, anchored(draft, migration));
}

function endStage(draft: Draft, migration: Migration): void {
  if (migration.stage === 'handover') complete(draft, migration);
  else if (migration.stage === 'switchover') beginHandover(draft, migration);
  else endPass(draft, migration);
}

/** Its counters as they are now. */
function counted(draft: Draft, migration: Migration): Migration {
  return { ...migration, ...countersAt(migration, draft.nowMs), atMs: draft.nowMs };
}

function beginHandover(draft: Draft, migration: Migration): void {
  const stageEndsAtMs = draft.nowMs + handoverMs(draft.seed, migration.vm, migration.number);
  putMigration(draft, { ...counted(draft, migration), stage: 'handover', stageEndsAtMs });
  reshare(draft);
}

/** What is left of this pass and what was dirtied meanwhile is the next pass, or fits the downtime limit and is the last. */
function endPass(draft: Draft, ended: Migration): void {
  const now = draft.nowMs;
  const migration = counted(draft, ended);
  const passMs = now - migration.passStartedAtMs;
  const guest = guestNamed(draft, migration.vm);
  const dirtyBytes = newlyDirtyBytes(migration, guest);
  const passBytes = migration.passBytes - migration.sentBytes + dirtyBytes;
  const next: Migration = {
    ...migration,
    pass: migration.pass + 1,
    passStartedAtMs: now,
    passBytes,
    sentBeforeBytes: migration.sentBeforeBytes + migration.sentBytes,
    lastDirtyRateBytesPerSec: passMs > 0 ? (dirtyBytes / passMs) * 1_000 : 0,
    sentBytes: 0,
    dirtiedBytes: 0,
  };
  // Rounding must not cost a pass.
  if (countedLeftBytes(migration, guest) + dirtyBytes <= fittingBytes(migration) * (1 + 1e-9)) {
    putMigration(draft, { ...next, stage: 'switchover', switchoverAtMs: now });
    changeCopy(draft, migration.source, migration.vm, { still: true });
    // The limit is off.
    reshare(draft);
  } else if (next.pass <= MAX_PASSES) {
    putMigration(draft, anchored(draft, next));
  } else {
    failMigration(draft, next, {
      code: 'hypervisorRefused',
      message: `the simulated hypervisor gave up on ${migration.vm} after ${MAX_PASSES} passes`,
    });
  }
}

function complete(draft: Draft, migration: Migration): void {
  const { vm, source, destination } = migration;
  const wakesAs = copyOf(draft, destination, vm)?.wakesAs ?? 'running';
  end(draft, migration, 'completed', null);
  changeCopy(draft, source, vm, { state: 'postMigrate', still: false });
  changeCopy(draft, destination, vm, { state: wakesAs, wakesAs: null });
  reshare(draft);
}

/**
 * Ends it without success: the VM runs on at its source. The incoming copy ends with the connection, as QEMU's does; where
 * the link is cut its host cannot know, and the copy stays until somebody discards it.
 */
export function failMigration(draft: Draft, migration: Migration, failure: Reason): void {
  end(draft, migration, 'failed', failure);
  abandon(draft, migration);
}

export function cancelActive(draft: Draft, migration: Migration): void {
  end(draft, migration, 'cancelled', null);
  abandon(draft, migration);
}

function abandon(draft: Draft, { vm, source, destination }: Migration): void {
  changeCopy(draft, source, vm, { still: false });
  const incoming = copyOf(draft, destination, vm)?.state === 'incoming';
  if (incoming && !isCut(draft, source, destination)) dropCopy(draft, destination, vm);
  reshare(draft);
}

/** The source of this migration is gone, with all it knew. */
export function forget(draft: Draft, migration: Migration): void {
  dropMigration(draft, migration);
  const { vm, destination } = migration;
  if (copyOf(draft, destination, vm)?.state === 'incoming') dropCopy(draft, destination, vm);
  reshare(draft);
}

function end(draft: Draft, migration: Migration, status: EndedMigration['status'], failure: Reason | null): void {
  const now = draft.nowMs;
  const { sentBytes } = countersAt(migration, now);
  const lastOutgoing: EndedMigration = {
    status,
    destination: migration.destination,
    migrationId: migration.migrationId,
    startedAtMs: migration.startedAtMs,
    endedAtMs: now,
    pass: migration.pass,
    remainingBytes: migration.passBytes - sentBytes,
    transferredBytes: migration.sentBeforeBytes + sentBytes,
    dirtyRateBytesPerSec: migration.lastDirtyRateBytesPerSec,
    downtimeMs: status === 'completed' ? now - (migration.switchoverAtMs ?? now) : null,
    failure,
  };
  dropMigration(draft, migration);
  changeCopy(draft, migration.source, migration.vm, { lastOutgoing });
}
