/**
 * Post-copy, simply: the guest stands still while its devices are switched, goes on at its destination, and what is
 * missing there is sent at the migration's rate, pages of its working set first, because it asks for those. Until they are
 * there it waits for a page now and then: it gets the part of its demand that the part of its working set is that has
 * arrived, but at least `LEAST_FED`. (A real hot guest of 64 MiB over 40 MiB/s lost 0.5 CPU-seconds of the 1.6 that took,
 * this one loses 0.7.) While nothing is sent, a guest that misses some of its working set stands still. Pure.
 */
import { handoverMs, phaseAt } from './guest.ts';
import { anchored, changeCopy, complete, counted, feed, goOver, noteOverbooking, reshare } from './migrations.ts';
import type { Migration } from './model.ts';
import { newlyDirtyBytes } from './passes.ts';
import type { Draft } from './records.ts';
import { guestNamed, putMigration } from './records.ts';

/** Its working set arrives in so many stretches; during one it is fed as at its beginning. */
const STRETCHES = 10;
/** What real post-copy takes beside what every handover does: 40 to 60 ms together, where 50 were measured. */
const EXTRA_HANDOVER_MS = 20;

/** Stops the guest at its source. It was started for post-copy, and is in its pre-copy. */
export function beginPostCopy(draft: Draft, precopy: Migration): void {
  const migration = counted(draft, precopy);
  const guest = guestNamed(draft, migration.vm);
  const missing = migration.passBytes - migration.sentBytes + newlyDirtyBytes(migration, guest);
  const setBytes = phaseAt(guest, draft.nowMs).phase.workingSetBytes;
  const downtimeMs = EXTRA_HANDOVER_MS + handoverMs(draft.seed, migration.vm, migration.number);
  changeCopy(draft, migration.source, migration.vm, { still: true });
  putMigration(draft, {
    ...migration,
    stage: 'postCopyHandover',
    switchoverAtMs: draft.nowMs,
    pass: migration.pass + 1,
    passStartedAtMs: draft.nowMs,
    passBytes: 0,
    sentBeforeBytes: migration.sentBeforeBytes + migration.sentBytes,
    sentBytes: 0,
    dirtiedBytes: 0,
    dirtySlopeBytesPerSec: 0,
    stageEndsAtMs: draft.nowMs + downtimeMs,
    phaseEndsAtMs: null,
    arrival: {
      setBytes,
      missingSetBytes: Math.min(missing, setBytes),
      laterBytes: missing,
      paused: false,
      downtimeMs,
    },
  });
  reshare(draft);
}

/** The guest goes on at its destination. */
export function arrive(draft: Draft, migration: Migration): void {
  goOver(draft, migration, true);
  beginStretch(draft, { ...counted(draft, migration), stage: 'postCopy', stageEndsAtMs: null });
  reshare(draft);
}

/** A stretch has been sent. */
export function endStretch(draft: Draft, ended: Migration): void {
  const { arrival } = ended;
  if (arrival === null || arrival.laterBytes <= 0) complete(draft, ended);
  else beginStretch(draft, counted(draft, ended));
}

function beginStretch(draft: Draft, migration: Migration): void {
  const { arrival, passBytes } = migration;
  if (arrival === null) return;
  const missingSetBytes = Math.max(0, arrival.missingSetBytes - passBytes);
  // What rounding leaves is no stretch of its own.
  const ofSet = missingSetBytes < 1 ? 0 : Math.min(missingSetBytes, Math.max(arrival.setBytes / STRETCHES, 1));
  const nextBytes = ofSet === 0 ? arrival.laterBytes : Math.min(ofSet, arrival.laterBytes);
  const next: Migration = {
    ...migration,
    passBytes: nextBytes,
    sentBeforeBytes: migration.sentBeforeBytes + migration.sentBytes,
    sentBytes: 0,
    arrival: { ...arrival, missingSetBytes, laterBytes: arrival.laterBytes - nextBytes },
  };
  const anchor = anchored(draft, next);
  putMigration(draft, anchor);
  feed(draft, anchor);
}

/** The connection is broken; nothing heals that but `resumeArrival`. */
export function pauseArrival(draft: Draft, migration: Migration): void {
  changePaused(draft, migration, true);
}

export function resumeArrival(draft: Draft, migration: Migration): void {
  changePaused(draft, migration, false);
}

function changePaused(draft: Draft, migration: Migration, paused: boolean): void {
  if (migration.arrival === null) return;
  const changed = { ...migration, arrival: { ...migration.arrival, paused } };
  putMigration(draft, changed);
  reshare(draft);
  noteOverbooking(draft, changed);
}
