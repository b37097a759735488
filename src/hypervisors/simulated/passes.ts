/**
 * The arithmetic of a pre-copy pass: what has been sent and dirtied, when the pass ends, what is left then. The passes are
 * QEMU's (10.0: migration_iteration_run and migration_rate_limit in migration/migration.c, ram_state_pending_exact in
 * migration/ram.c), and test/lab/calibration.qemu.test.ts holds them against it:
 *
 * - A pass ends, and what the guest has dirtied meanwhile is looked for, as soon as what is left of it would fit the
 *   downtime limit, not when all of it has been sent. What is left and what was found are the next pass together; where
 *   they still fit the downtime limit they are sent while the guest stands still.
 * - In the first pass all memory is left at first, zero pages as well: these cost nothing to send, but they count in what is
 *   left. They are taken to lie evenly among the others.
 * - That is looked at after each burst: QEMU sends at once what a tenth of a second may carry, and waits for the next. So
 *   a pass takes a whole number of tenths of a second. Bytes flow evenly here; QEMU's come up to one burst sooner.
 *
 * Knows one migration at a time, no fleet and no events. Pure.
 */
import { uniqueDirtied } from './guest.ts';
import type { Guest, Migration } from './model.ts';
import { BURST_MS, PAGE_BYTES } from './model.ts';

/** Bytes sent in this pass and unique bytes dirtied in it, at a time. */
export function countersAt(migration: Migration, atMs: number): { sentBytes: number; dirtiedBytes: number } {
  const ms = atMs - migration.atMs;
  return {
    sentBytes: Math.min(migration.passBytes, migration.sentBytes + (migration.rateBytesPerSec * ms) / 1_000),
    dirtiedBytes: uniqueDirtied(migration.dirtiedBytes, migration.dirtySlopeBytesPerSec, migration.workingSetBytes, ms),
  };
}

/** What can be sent within the downtime limit, as far as the source knows: at the rate at which it sends now. */
export function fittingBytes({ rateBytesPerSec, downtimeLimitMs }: Migration): number {
  return (rateBytesPerSec * downtimeLimitMs) / 1_000;
}

/** What is left of this pass as the source counts it: with the zero pages among what is left. */
export function countedLeftBytes({ pass, passBytes, sentBytes }: Migration, guest: Guest): number {
  return (passBytes - sentBytes) * countedPerByte(pass, guest);
}

function countedPerByte(pass: number, { memoryBytes, touchedBytes }: Guest): number {
  return pass === 1 ? memoryBytes / Math.max(1, touchedBytes) : 1;
}

/** When the stage ends if nothing changes from its anchor on; null: not at this rate. */
export function stageEndMs(migration: Migration, guest: Guest): number | null {
  const { stage, atMs, pass, passBytes, sentBytes, rateBytesPerSec, passStartedAtMs } = migration;
  if (stage === 'handover' || stage === 'postCopyHandover') return migration.stageEndsAtMs;
  const mayBeLeft = stage === 'precopy' ? fittingBytes(migration) / countedPerByte(pass, guest) : 0;
  const toSend = passBytes - sentBytes - mayBeLeft;
  if (toSend > 0 && rateBytesPerSec === 0) return null;
  const sentAtMs = toSend > 0 ? atMs + (toSend / rateBytesPerSec) * 1_000 : atMs;
  if (stage !== 'precopy') return sentAtMs;
  // Rounding must not cost a burst.
  const bursts = Math.max(1, Math.ceil((sentAtMs - passStartedAtMs) / BURST_MS - 1e-6));
  return Math.max(atMs, passStartedAtMs + bursts * BURST_MS);
}

/**
 * Bytes that this pass has made dirty so far and that are not waiting to be sent anyway. A guest that goes through its
 * working set writes a page again only when it has written all others: so these are all that it wrote, up to what of the
 * set does not wait. At random some pages come twice, and it is a little less.
 */
export function newlyDirtyBytes(migration: Migration, { touchedBytes }: Guest): number {
  const { pass, passBytes, sentBytes, dirtiedBytes, workingSetBytes } = migration;
  // Less than a page is not dirty.
  if (dirtiedBytes < PAGE_BYTES) return 0;
  const leftBytes = passBytes - sentBytes;
  // The first pass sends all memory, later ones what has been written: so much of what waits is of the working set.
  const waiting = pass === 1 ? leftBytes * (workingSetBytes / Math.max(1, touchedBytes)) : leftBytes;
  // It may have been larger a moment ago.
  const setBytes = Math.max(workingSetBytes, dirtiedBytes);
  return Math.min(dirtiedBytes, Math.max(0, setBytes - waiting));
}
