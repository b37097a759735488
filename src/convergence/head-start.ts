/**
 * What it costs to let a guest's migration begin a little ahead of its turn, with next to no bandwidth, so that it has
 * connected when the link is free. Pure.
 */
import type { DirtyModel, GuestFacts } from './dirty-model.ts';
import { dirtiedBytes } from './dirtying.ts';
import type { ThrottlePlan } from './forward.ts';

/**
 * Bytes that have to be sent once more because the guest has run free for `headStartMs` longer before its first pass ends.
 * Nothing for one that fills its working set in that pass anyway; as much as it dirties in that time for one that is to be
 * slowed from the start.
 */
export function headStartCostBytes(
  { model, guest, plan }: { readonly model: DirtyModel; readonly guest: GuestFacts; readonly plan: ThrottlePlan },
  bandwidthBytesPerSec: number,
  headStartMs: number,
): number {
  const slowed = plan.share < 1 && plan.begins === 'now';
  const passMs = slowed ? 0 : (guest.touchedBytes * 1_000) / Math.max(1, bandwidthBytesPerSec);
  return model.hypotheses.reduce(
    (sum, guess) => sum + guess.weight * (dirtiedBytes(guess, passMs + headStartMs) - dirtiedBytes(guess, passMs)),
    0,
  );
}
