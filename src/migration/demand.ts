/** What a migration asks of the bandwidth budget. */
import { HEAD_START_BYTES_PER_SEC } from '../bandwidth/allocate.ts';
import type { Demand } from '../bandwidth/budget.ts';
import type { MigrationContext } from './context.ts';

/**
 * A migration that gets less than this part of its path is better off waiting: N migrations at B/N each re-dirty N times
 * longer (Kherbache et al., "Planning live-migrations to prepare servers for maintenance", 2014).
 */
const USEFUL_PART = 0.5;
/** Pages dirtied meanwhile are sent again; one more pass over a tenth of the memory is a mild guest's ordinary case. */
const RESEND = 1.1;

/** On a path that carries less than so many times what a head start takes, stepping back for one costs more than it gains. */
const HEAD_START_FROM = 32;
/** The next one takes some 0.2 s to connect, more on a busy machine. */
export const HEAD_START_REAL_MS = 500;
const SOON_REAL_MS = 600;
/** One that was thought to end soon is not any more. */
const NOT_SOON_REAL_MS = 2_000;

/** The most that it can be granted: what its path carries, links and lowered capacities too, and its policy allows. Bytes/s. */
export async function mostOnPath(ctx: MigrationContext): Promise<number> {
  const { source, destination } = ctx.record;
  const { capacity } = await ctx.deps.budget.room(source, destination);
  return Math.floor(Math.min(capacity, demandOf(ctx, 0).maxBytesPerSec));
}

/**
 * Whether it steps back for the next one, from what it has been granted: while it ends (until it clearly does not) and
 * somebody stands by.
 */
export function stepBack(
  ctx: MigrationContext,
  etaMs: number | null,
  grant: { bytesPerSec: number; isAwaited: boolean },
): void {
  const { clock } = ctx.deps;
  ctx.endsSoon = etaMs !== null && etaMs <= clock.fleetMs(ctx.endsSoon ? NOT_SOON_REAL_MS : SOON_REAL_MS);
  const pays =
    ctx.stepsBackTo !== null || (grant.isAwaited && grant.bytesPerSec >= HEAD_START_FROM * HEAD_START_BYTES_PER_SEC);
  ctx.stepsBackTo = ctx.endsSoon && pays ? (ctx.stepsBackTo ?? grant.bytesPerSec - HEAD_START_BYTES_PER_SEC) : null;
}

/** When to look next so as not to miss the moment at which the next one could begin; null: not near. */
export function lookBeforeEndMs(ctx: MigrationContext, etaMs: number | null): number | null {
  const beforeMs = (etaMs ?? 0) - ctx.deps.clock.fleetMs(HEAD_START_REAL_MS);
  return beforeMs > 0 ? beforeMs : null;
}

/** What this migration asks of the budget. `usesBytesPerSec`: its hypervisor's limit now; null: nothing is sent yet. */
export function demandOf(ctx: MigrationContext, touchedBytes: number, usesBytesPerSec: number | null = null): Demand {
  const { record, policy } = ctx;
  const path = Math.min(
    ctx.deps.capacityOf(record.source).egress,
    ctx.deps.capacityOf(record.destination).ingress,
    ctx.bandwidthCap ?? Number.POSITIVE_INFINITY,
  );
  const inTime = (touchedBytes * RESEND * 1_000) / policy.maxTimeMs;
  return {
    migrationId: ctx.budgetId,
    operationId: record.operationId,
    moveId: record.id,
    vm: record.vm,
    source: record.source,
    destination: record.destination,
    tier: ctx.tier,
    order: record.order,
    usefulBytesPerSec: Math.min(path, Math.max(path * USEFUL_PART, inTime)),
    maxBytesPerSec: Math.min(path, ctx.stepsBackTo ?? path),
    headStart:
      ctx.isPrepared && ctx.foreseen?.headStartPays === true && path >= HEAD_START_FROM * HEAD_START_BYTES_PER_SEC,
    endsSoon: ctx.endsSoon,
    usesBytesPerSec,
  };
}
