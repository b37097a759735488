/**
 * How an active migration runs, from its start to its end, once somebody has commanded it:
 *
 *   precopy, pass by pass --(what is left fits the downtime limit)--> switchover --(all bytes sent)--> handover
 *      --> completed; from any of these stages: failed, cancelled
 *   precopy --(told to)--> postCopyHandover --> postCopy, stretch by stretch --> completed; from the last one nothing else
 *
 * Pure.
 */
import { handoverMs } from './guest.ts';
import { anchored, changeCopy, complete, counted, failMigration, reshare } from './migrations.ts';
import type { Migration } from './model.ts';
import { MAX_PASSES } from './model.ts';
import { countedLeftBytes, fittingBytes, newlyDirtyBytes } from './passes.ts';
import { arrive, endStretch } from './post-copy.ts';
import type { Draft } from './records.ts';
import { guestNamed, putMigration } from './records.ts';

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
  else if (migration.stage === 'postCopyHandover') arrive(draft, migration);
  else if (migration.stage === 'postCopy') endStretch(draft, migration);
  else endPass(draft, migration);
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
