/**
 * Before a VM is touched whose driver cannot refuse a stale writer: whoever held its lease before, and may not know that
 * it lost it, must have stopped. A process that runs well says so itself within moments; one that does not is ended.
 */
import type { Lease } from '../store/lease.ts';
import type { MigrationDeps } from './context.ts';

/** A healthy process that lost its lease (its Redis was away) has stopped driving and said so by then; real ms. */
const GRACE_MS = 2_000;
const LOOK_AGAIN_MS = 100;

/** True: nobody else can write any more. False: somebody may, on another machine; or this lease was lost meanwhile. */
export async function succeedAlone(deps: MigrationDeps, lease: Lease, operationId: string): Promise<boolean> {
  const graceEndsAt = deps.clock.monotonic() + GRACE_MS;
  for (;;) {
    const left = await lease.predecessors();
    if (left.length === 0) return true;
    if (!(await lease.keep())) return false;
    if (deps.clock.monotonic() < graceEndsAt) {
      await deps.clock.sleepReal(LOOK_AGAIN_MS);
      continue;
    }
    for (const owner of left) {
      const message = `${lease.name}: process ${owner.pid} lost its lease and did not say that it stopped`;
      if (!(await deps.endProcess(owner))) return false;
      const event = { atMs: deps.clock.now(), operationId, kind: 'move.predecessorEnded', vm: null, moveId: null };
      await deps.events.append({ ...event, message: `${message}; it has ended` });
    }
    await lease.forgetPredecessors();
    return lease.keep();
  }
}
