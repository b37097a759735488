/**
 * An active migration as it stands: its counters and their rates, its share of the network, its start and its ends. How
 * its stages follow each other is `stages.ts`, what post-copy is `post-copy.ts`; when a pass ends and what is left then is
 * `passes.ts`; whether a command is allowed is `commands.ts`; what breaks is `faults.ts`. Pure.
 */
import type { Reason } from '../../domain/errors.ts';
import { demandMs, fedShare, passJitter, phaseAt } from './guest.ts';
import type { Copy, EndedMigration, Migration, State } from './model.ts';
import { LINK_TIMEOUT_MS, OVERBOOKED_LENGTH } from './model.ts';
import { fairRates, isCut, overbookedBy } from './network.ts';
import { countersAt, stageEndMs } from './passes.ts';
import type { Draft } from './records.ts';
import { copyOf, dropCopy, dropMigration, guestNamed, migrationFrom, own, putCopy, putMigration } from './records.ts';

/** CPU time the copy's vCPUs have got by then, ms. */
export function gotCpuMsAt(state: State, vm: string, copy: Copy, atMs: number): number {
  if (copy.state !== 'running' || copy.still) return copy.gotCpuMs;
  return copy.gotCpuMs + copy.share * copy.fed * demandMs(guestNamed(state, vm), copy.cpuSinceMs, atMs);
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
export function anchored(draft: Draft, migration: Migration, rateBytesPerSec = migration.rateBytesPerSec): Migration {
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
  for (const migration of [...draft.migrations]) {
    const { stage, arrival, source, destination } = migration;
    if (stage !== 'postCopy' || arrival === null || arrival.paused || !isCut(draft, source, destination)) continue;
    putMigration(draft, { ...migration, arrival: { ...arrival, paused: true } });
  }
  const migrations = [...draft.migrations];
  const sends = migrations.filter(
    (migration) =>
      migration.stage !== 'handover' &&
      migration.stage !== 'postCopyHandover' &&
      migration.arrival?.paused !== true &&
      own(draft.stuck, migration.vm) === undefined &&
      !isCut(draft, migration.source, migration.destination) &&
      !isLost(migration),
  );
  const rates = new Map(fairRates(draft, sends).map((rate, index) => [sends[index], rate]));
  for (const migration of migrations) {
    const rate = rates.get(migration) ?? 0;
    let next = rate === migration.rateBytesPerSec ? migration : anchored(draft, migration, rate);
    const cut = migration.stage !== 'postCopy' && isCut(draft, migration.source, migration.destination);
    if (cut && next.failsAtMs === null) next = failing(next, draft.nowMs + LINK_TIMEOUT_MS, linkFailed(next));
    if (!cut && next.failsWith?.code === 'linkFailed') next = { ...next, failsAtMs: null, failsWith: null };
    if (next !== migration) putMigration(draft, next);
    if (next.stage === 'postCopy') feed(draft, next);
  }
}

/** How much of its demand a guest can use whose pages are still coming; see post-copy.ts. */
export function feed(draft: Draft, { vm, destination, arrival, rateBytesPerSec }: Migration): void {
  if (arrival === null) return;
  const fed = fedShare(arrival, rateBytesPerSec);
  if (copyOf(draft, destination, vm)?.fed !== fed) changeCopy(draft, destination, vm, { fed });
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
  readonly postCopy: boolean;
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
    arrival: null,
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

/** Its counters as they are now. */
export function counted(draft: Draft, migration: Migration): Migration {
  return { ...migration, ...countersAt(migration, draft.nowMs), atMs: draft.nowMs };
}

export function noteOverbooking(draft: Draft, migration: Migration): void {
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

/** All of it is there. In post-copy the guest has gone over long before. */
export function complete(draft: Draft, migration: Migration): void {
  const { vm, source, destination } = migration;
  end(draft, migration, 'completed', null);
  goOver(draft, { vm, source, destination }, false);
  reshare(draft);
}

/** From now on the guest goes on at its destination. */
export function goOver(
  draft: Draft,
  { vm, source, destination }: Pick<Migration, 'vm' | 'source' | 'destination'>,
  arriving: boolean,
): void {
  const there = copyOf(draft, destination, vm);
  changeCopy(draft, source, vm, { state: 'postMigrate', still: false });
  const state = there?.state === 'incoming' ? (there.wakesAs ?? 'running') : (there?.state ?? 'running');
  changeCopy(draft, destination, vm, { state, wakesAs: null, arriving, fed: 1 });
}

/**
 * Ends it without success: the VM runs on at its source. The incoming copy ends with the connection, as QEMU's does; where
 * the link is cut its host cannot know, and the copy stays until somebody discards it.
 */
export function failMigration(draft: Draft, migration: Migration, failure: Reason): void {
  if (migration.stage === 'postCopy') {
    // It has no way back: what goes wrong breaks the connection only. That has happened then, and is not due any more.
    const arrival = migration.arrival === null ? null : { ...migration.arrival, paused: true };
    putMigration(draft, { ...migration, arrival, failsAtMs: null, failsWith: null });
    reshare(draft);
    return;
  }
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
  const there = copyOf(draft, destination, vm);
  if (there?.state === 'incoming') dropCopy(draft, destination, vm);
  // In post-copy it waits for ever for a page that nobody has any more.
  if (there?.arriving === true) changeCopy(draft, destination, vm, { fed: 0 });
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
    remainingBytes: migration.passBytes - sentBytes + (migration.arrival?.laterBytes ?? 0),
    transferredBytes: migration.sentBeforeBytes + sentBytes,
    dirtyRateBytesPerSec: migration.lastDirtyRateBytesPerSec,
    downtimeMs:
      status === 'completed' ? (migration.arrival?.downtimeMs ?? now - (migration.switchoverAtMs ?? now)) : null,
    failure,
  };
  dropMigration(draft, migration);
  changeCopy(draft, migration.source, migration.vm, { lastOutgoing });
}
