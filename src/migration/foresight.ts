/** What a migration is predicted to come to, before its start: kept with its record, and said when it cannot be done. */
import { fitDirtyModel } from '../convergence/fit.ts';
import { behaviourOf } from '../convergence/policies/behaviours.ts';
import { whatIf } from '../convergence/what-if.ts';
import type { Reason } from '../domain/errors.ts';
import { briefingOf } from './briefing.ts';
import type { MigrationContext } from './context.ts';

/**
 * Notes the prediction for the bandwidth granted. Not null: it is clear that the requirements cannot be kept, and the policy
 * gives up where they cannot; nothing has been touched yet. Other policies have their way at the deadline, and go on.
 */
export async function foresee(ctx: MigrationContext, grantBytesPerSec: number): Promise<Reason | null> {
  const { policy, record } = ctx;
  ctx.briefing = await briefingOf(ctx);
  if (policy.controller !== 'leastHarm') return null;
  const { guest, evidence, nowMs } = ctx.briefing;
  const model = fitDirtyModel(evidence, guest, nowMs);
  const seen = evidence.some(({ source }) => source !== 'history');
  const { rows, givesUp } = whatIf({
    model,
    guest,
    policy,
    behaviour: behaviourOf(policy.name, ctx.deps.behaviours),
    pathBytesPerSec: grantBytesPerSec,
    certain: seen && model.change === null,
  });
  const row = rows.find(({ chosen }) => chosen);
  await ctx.save({ predicted: row?.prediction ?? null });
  if (givesUp === null || policy.atDeadline !== 'abort') return null;
  const message = `${record.vm}: not begun, for it ${givesUp}`;
  return { code: 'maxTimeExceeded', message };
}
