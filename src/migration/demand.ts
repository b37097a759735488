/** What a migration asks of the bandwidth budget. */
import type { Demand } from '../bandwidth/budget.ts';
import type { MigrationContext } from './context.ts';
import { headStartOf } from './handover.ts';

/**
 * A migration that gets less than this part of its path is better off waiting: N migrations at B/N each re-dirty N times
 * longer (Kherbache et al., "Planning live-migrations to prepare servers for maintenance", 2014).
 */
const USEFUL_PART = 0.5;
/** Pages dirtied meanwhile are sent again; one more pass over a tenth of the memory is a mild guest's ordinary case. */
const RESEND = 1.1;

/** The most that it can be granted: what its path carries, links and lowered capacities too, and its policy allows. Bytes/s. */
export async function mostOnPath(ctx: MigrationContext): Promise<number> {
  const { source, destination } = ctx.record;
  const { capacity } = await ctx.deps.budget.room(source, destination);
  return Math.floor(Math.min(capacity, demandOf(ctx, 0).maxBytesPerSec));
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
    maxBytesPerSec: Math.min(path, ctx.handover.stepsBackTo ?? path),
    headStart: headStartOf(ctx, path, usesBytesPerSec !== null),
    endsSoon: ctx.handover.endsSoon,
    usesBytesPerSec,
  };
}
