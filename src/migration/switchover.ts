/**
 * The end of a pre-copy: the last word while the guest stands still, and the wait for the last bytes.
 */
import { OVER } from '../clock/clock.ts';
import { HostevacError } from '../domain/errors.ts';
import type { MigrationSample, Sighting } from '../hypervisors/hypervisor.ts';
import { because, type MigrationContext, type StepOutcome } from './context.ts';
import { Progressing, SILENCE_MS } from './progressing.ts';

const SWITCHOVER_LOOK_MS = 100;
/**
 * Before its switchover the guest stands still while its destination is looked at. Measured: 5 to 70 ms for a guest with
 * memory in use; 300 to 800 ms on a busy machine where most pages of a small guest are zero: QEMU works through its
 * backlog of them in the main loop, in which its monitor waits. What steps in for a worker that says nothing waits longer
 * (`LAST_WORD_MS`): else it would send the guest to a destination that is found dead a moment later.
 */
export const LAST_LOOK_REAL_MS = 800;

/** What a sample means that ends a pre-copy, in whatever way; undefined while it goes on. */
export function ended(ctx: MigrationContext, sample: MigrationSample): StepOutcome | undefined {
  if (sample.status === 'completed') return { cause: 'finished' };
  // Somebody else has switched it: that is not undone.
  if (sample.status === 'postCopy' || sample.status === 'postCopyPaused') return { cause: 'inPostCopy' };
  if (sample.status === 'failed' || sample.status === 'cancelled') {
    return {
      cause: 'broken',
      reason:
        sample.failure ??
        because('hypervisorRefused', `${ctx.record.vm}: the hypervisor says that the migration was ${sample.status}`),
    };
  }
  return undefined;
}

/**
 * The guest stands still and nothing irreversible has been done: the last moment to call it off. Short, for every
 * millisecond is downtime; what is written down about it comes after.
 */
export async function lastWord(ctx: MigrationContext): Promise<StepOutcome> {
  const { source, destination, vm } = ctx.record;
  if (ctx.lastControl.cancel) {
    await ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm);
    return { cause: 'cancel', reason: because('cancelled', `${vm}: cancelled`) };
  }
  const there = await soon(ctx, ctx.destinationHypervisor.look(destination, vm));
  if (there?.present && there.state === 'incoming') {
    await ctx.sourceHypervisor.finishMigration(ctx.lease, source, vm);
    return { cause: 'switchingOver' };
  }
  // Called off first, for then the guest runs on at its source; what is wrong over there is told after that.
  await ctx.sourceHypervisor.cancelMigration(ctx.lease, source, vm);
  if (there?.present) return { cause: 'lostSight' };
  const what = there === null ? 'does not answer' : 'has lost the copy that waited there';
  return {
    cause: 'broken',
    reason: because('destinationDied', `${vm}: ${destination} ${what}; it stays at ${source}`),
  };
}

/** null: no answer in time, or none at all. */
async function soon(ctx: MigrationContext, look: Promise<Sighting>): Promise<Sighting | null> {
  const over = new AbortController();
  const late = ctx.deps.clock.sleepReal(LAST_LOOK_REAL_MS, over.signal).then(() => null);
  try {
    return await Promise.race([look, late]);
  } catch (error) {
    if (error instanceof HostevacError) return null;
    throw error;
  } finally {
    over.abort(OVER);
    // One that comes late says nothing any more.
    look.catch(() => undefined);
  }
}

export async function switchover(ctx: MigrationContext): Promise<StepOutcome> {
  const { source, vm } = ctx.record;
  const progressing = new Progressing();
  for (;;) {
    let sample: MigrationSample | null;
    try {
      sample = await ctx.sourceHypervisor.sample(source, vm);
    } catch (error) {
      if (error instanceof HostevacError && error.code === 'hostUnreachable') return { cause: 'lostSight' };
      throw error;
    }
    if (sample === null) return { cause: 'lostSight' };
    if (sample.status === 'active' || sample.status === 'preSwitchover') return { cause: 'resumed' };
    const over = ended(ctx, sample);
    if (over !== undefined) return over;
    // However long it stands still: that is the policy's word, given before it was stopped.
    if (progressing.silentFor(sample) >= SILENCE_MS) {
      return {
        cause: 'broken',
        reason: because('migrationStuck', `${vm}: no byte was sent for ${SILENCE_MS / 1_000}s while it stood still`),
      };
    }
    await ctx.paceOrChange(SWITCHOVER_LOOK_MS);
  }
}
