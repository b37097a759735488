/** What is kept of a migration for the VM's later ones: how its guest dirtied memory, and how far off the prediction was. */
import { fitDirtyModel } from '../convergence/fit.ts';
import { toHistory } from '../convergence/history.ts';
import type { MigrationContext } from './context.ts';

/** After its end, however it ended. Without evidence there is nothing to learn. */
export async function learn(ctx: MigrationContext): Promise<void> {
  const { record, guest } = ctx;
  const { uuid, evidence, predicted, figures } = record;
  if (uuid === null || guest === null || evidence.length === 0) return;
  const endedAtMs = ctx.now();
  const model = fitDirtyModel(evidence, guest, endedAtMs);
  const actual = record.state === 'done' ? { totalMs: figures.totalMs, harmCpuMs: figures.harmCpuMs } : null;
  await ctx.deps.records.learn(ctx.lease, uuid, (kept) =>
    toHistory(kept, { endedAtMs, evidence, model, predicted, actual }),
  );
}
