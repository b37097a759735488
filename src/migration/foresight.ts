/** What a migration is predicted to come to, before its start: kept with its record, and said when it cannot be done. */
import type { GuestFacts } from '../convergence/dirty-model.ts';
import { fitDirtyModel } from '../convergence/fit.ts';
import { headStartCostBytes } from '../convergence/head-start.ts';
import { behaviourOf } from '../convergence/policies/behaviours.ts';
import { type WhatIf, whatIf } from '../convergence/what-if.ts';
import type { Reason } from '../domain/errors.ts';
import { briefingOf } from './briefing.ts';
import type { MigrationContext } from './context.ts';
import { demandOf } from './demand.ts';
import { HEAD_START_REAL_MS } from './handover.ts';

/** What is foreseen is foreseen again after this, also where nothing new was seen (fleet ms). */
const STANDS_MS = 10_000;

/**
 * Notes the prediction for the bandwidth granted. Not null: it is clear that the requirements cannot be kept even with all
 * that its path could carry, and the policy gives up where they cannot; nothing has been touched yet. Other policies have
 * their way at the deadline, and go on. What is known already, from the same looks and for the same bandwidth, stands: a
 * prediction takes a tenth of a second, and the link would idle for it.
 */
export async function foresee(ctx: MigrationContext, sent: SentWith): Promise<Reason | null> {
  const known = ctx.foreseen;
  const fresh = known !== null && ctx.now() - known.atMs < STANDS_MS;
  const same = known?.bytesPerSec === sent.bytesPerSec && known.othersWait === sent.othersWait;
  if (fresh && same && known.evidence === ctx.record.evidence) return known.hopeless;
  const foreseen = await predictStart(ctx, sent);
  const hopeless = foreseen === null ? null : hopelessWith(ctx, sent, foreseen);
  const headStartPays = foreseen?.headStartPays ?? false;
  ctx.foreseen = { ...sent, atMs: ctx.now(), evidence: ctx.record.evidence, hopeless, headStartPays };
  return hopeless;
}

/** In which circumstances. */
export interface SentWith {
  readonly bytesPerSec: number;
  /** Other evacuations wait for that. */
  readonly othersWait: boolean;
}

function hopelessWith(ctx: MigrationContext, sent: SentWith, { now, guest, sentWith }: Foreseen): Reason | null {
  const { policy, record } = ctx;
  if (now.givesUp === null || policy.atDeadline !== 'abort') return null;
  // A grant that is small now may be more in a moment.
  const path = demandOf(ctx, guest.touchedBytes).maxBytesPerSec;
  const { givesUp } = path > sent.bytesPerSec ? sentWith(path) : now;
  return givesUp === null ? null : { code: 'maxTimeExceeded', message: `${record.vm}: not begun, for it ${givesUp}` };
}

interface Foreseen {
  readonly now: WhatIf;
  readonly guest: GuestFacts;
  readonly headStartPays: boolean;
  sentWith(bytesPerSec: number): WhatIf;
}

/** Briefs the controller and notes what it is predicted to come to, by what is known now. null: its controller has no model. */
export async function predictStart(
  ctx: MigrationContext,
  { bytesPerSec, othersWait }: SentWith,
): Promise<Foreseen | null> {
  const { policy } = ctx;
  ctx.briefing = await briefingOf(ctx);
  if (policy.controller !== 'leastHarm') return null;
  const { guest, evidence, nowMs } = ctx.briefing;
  const model = fitDirtyModel(evidence, guest, nowMs);
  const seen = evidence.some(({ source }) => source !== 'history');
  const sentWith = (pathBytesPerSec: number): WhatIf =>
    whatIf({
      model,
      guest,
      policy,
      behaviour: behaviourOf(policy.name, ctx.deps.behaviours),
      pathBytesPerSec,
      othersWait,
      certain: seen && model.change === null,
    });
  const now = sentWith(bytesPerSec);
  const plan = now.rows.find(({ chosen }) => chosen);
  await ctx.save({ predicted: plan?.prediction ?? null });
  return { now, guest, sentWith, headStartPays: plan !== undefined && pays(ctx, { model, guest, plan }, now) };
}

/** What it saves is the time to connect, some tenths of a second; it may cost half of that. */
const MAY_COST_REAL_MS = 100;

function pays(
  ctx: MigrationContext,
  of: Parameters<typeof headStartCostBytes>[0],
  { bandwidthBytesPerSec }: WhatIf,
): boolean {
  const { clock } = ctx.deps;
  const costBytes = headStartCostBytes(of, bandwidthBytesPerSec, clock.fleetMs(HEAD_START_REAL_MS));
  return costBytes * 1_000 <= bandwidthBytesPerSec * clock.fleetMs(MAY_COST_REAL_MS);
}
