/**
 * Moves that ended while a host did not answer, and bandwidth that nobody asks for any more: looked at again, under the
 * VM's lease and only while no operation has the VM, until nothing is left of them. A migration that runs without an owner
 * is ended, a waiting copy discarded, a VM that has arrived is made sure of, bandwidth given back once nothing sends.
 */
import type { Entered } from '../bandwidth/budget.ts';
import { HostevacError } from '../domain/errors.ts';
import type { OutgoingStatus } from '../hypervisors/hypervisor.ts';
import { ABANDONED_TOPIC, type AbandonedMove } from '../store/abandoned.ts';
import type { WakeupListener } from '../store/cell.ts';
import { isLease, type Lease } from '../store/lease.ts';
import { assess, isSending, type Seen } from './assess.ts';
import { keeping, type MigrationDeps } from './context.ts';
import { Doubts } from './doubt.ts';
import { succeedAlone } from './predecessors.ts';
import { seenAt } from './sight.ts';

/** Between two rounds while something is listed or confirmed down, and while nothing is (real ms). */
const AGAIN_REAL_MS = 5_000;
const IDLE_REAL_MS = 30_000;
/** What was acted on is looked at again that often at once: an order takes a moment to be carried out. */
const ROUNDS = 3;
const ROUND_MS = 1_000;

/** `acted`: look again. `waits`: a host does not answer, or something is under way that must end by itself. */
type Settled = 'settled' | 'acted' | 'waits';

/** Goes on until `signal` aborts. `onError` hears what was thrown; the next round comes all the same. */
export async function tendAbandoned(
  deps: MigrationDeps,
  hosts: readonly string[],
  signal: AbortSignal,
  onError: (error: unknown) => void,
): Promise<void> {
  const doubts = new Doubts(deps, hosts);
  let listener: WakeupListener | null = null;
  while (!signal.aborted) {
    let busy = true;
    try {
      listener ??= await deps.wakeups.listen(ABANDONED_TOPIC);
      const { down } = await deps.abandoned.read();
      const inDoubt = await doubts.tell(new Set(Object.keys(down)));
      busy = (await tend(deps, hosts, signal)) || inDoubt;
    } catch (error) {
      onError(error);
    }
    const waitMs = busy ? AGAIN_REAL_MS : IDLE_REAL_MS;
    await (listener?.next(waitMs, signal) ?? deps.clock.sleepReal(waitMs, signal));
  }
  await listener?.close();
}

/** One round, over what concerns these hosts. True: something is left to look at soon. */
async function tend(deps: MigrationDeps, hosts: readonly string[], signal: AbortSignal): Promise<boolean> {
  const { moves, down } = await deps.abandoned.read();
  for (const host of Object.keys(down)) {
    if (hosts.includes(host) && (await answers(deps, host))) await deps.abandoned.isBack(host);
  }
  const listed = Object.values(moves);
  const ours = listed.filter(({ source, destination }) => hosts.includes(source) || hosts.includes(destination));
  for (const move of ours) {
    if (signal.aborted) return true;
    await underLease(deps, move, (lease) => settle(deps, lease, move, signal));
  }
  for (const entry of await deps.budget.entries()) {
    if (signal.aborted) return true;
    if (!hosts.includes(entry.source) && !Object.hasOwn(down, entry.source)) continue;
    if (listed.some(({ vm }) => vm === entry.vm)) continue;
    if ((await deps.claimedBy(entry.vm)) !== null) continue;
    await underLease(deps, entry, (lease) => giveBack(deps, lease, entry));
  }
  return listed.length > 0 || Object.keys(down).length > 0;
}

async function answers(deps: MigrationDeps, host: string): Promise<boolean> {
  try {
    await deps.hypervisorOf(host).inventory(host);
    return true;
  } catch (error) {
    if (error instanceof HostevacError && error.code === 'hostUnreachable') return false;
    throw error;
  }
}

/** Nothing is done for a VM that somebody drives, or that an operation has: its next move reconciles by itself. */
async function underLease(
  deps: MigrationDeps,
  { vm, source, operationId }: Pick<AbandonedMove, 'vm' | 'source' | 'operationId'>,
  work: (lease: Lease) => Promise<void>,
): Promise<void> {
  if ((await deps.claimedBy(vm)) !== null) return;
  const lease = await deps.leases.acquire(`vm:${vm}`);
  if (!isLease(lease)) return;
  try {
    if (deps.hypervisorOf(source).fencing === 'process' && !(await succeedAlone(deps, lease, operationId))) return;
    // Asked again under the lease: whoever claims it from now on waits for that.
    if ((await deps.claimedBy(vm)) !== null) return;
    await keeping(deps.clock, lease, work(lease));
  } catch (error) {
    // Somebody else has it now, or a host fell silent in the middle: the next round sees.
    if (!(error instanceof HostevacError) || !PASSING.has(error.code)) throw error;
  } finally {
    await lease.release();
  }
}

const PASSING: ReadonlySet<string> = new Set(['leaseLost', 'hostUnreachable', 'hypervisorRefused']);

async function settle(deps: MigrationDeps, lease: Lease, move: AbandonedMove, signal: AbortSignal): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const how = await step(deps, lease, move);
    if (how === 'waits') return;
    if (how === 'settled') {
      await deps.abandoned.settled(move.moveId, lease);
      await deps.hostsChanged([move.source, move.destination]);
      return;
    }
    await deps.clock.sleep(ROUND_MS, signal);
    if (signal.aborted) return;
  }
}

async function step(deps: MigrationDeps, lease: Lease, move: AbandonedMove): Promise<Settled> {
  const { vm, source, destination } = move;
  const [there, here] = await Promise.all([seenAt(deps, destination, vm), seenAt(deps, source, vm)]);
  if (here === null) return 'waits';
  const { verdict, reason } = assess(await asAssessed(deps, move, here), here, there);
  switch (verdict) {
    case 'finished':
      if (there === null) return 'waits';
      if (there.present) await deps.hypervisorOf(destination).keepDefinition(lease, destination, vm);
      if (here.present) await deps.hypervisorOf(source).retire(lease, source, vm);
      return released(deps, lease, vm, 'settled');
    case 'runningOurs':
    case 'leftovers':
      if (isSending(here)) await deps.hypervisorOf(source).cancelMigration(lease, source, vm);
      else if (there?.present) await deps.hypervisorOf(destination).discardIncoming(lease, destination, vm);
      return 'acted';
    case 'neverStarted':
      return released(deps, lease, vm, 'settled');
    case 'refused':
      return refused(deps, lease, { move, here, there, foreign: reason.code === 'foreignMigration' });
    case 'contradiction':
      // Not at its source any more: it has gone elsewhere since, or has died; what waits for it waits for nothing.
      if (reason.code === 'sourceDied') return refused(deps, lease, { move, here, there, foreign: false });
      // Left as it is, and was told; what is counted for it is not in use once nothing is sent.
      return isSending(here) ? 'waits' : released(deps, lease, vm, 'settled');
    case 'unknown':
    case 'switchingOver':
    case 'inPostCopy':
      return 'waits';
  }
}

/** The VM is not where this move would take it from, or its destination does not answer: nothing of ours is sent. */
async function refused(
  deps: MigrationDeps,
  lease: Lease,
  { move, here, there, foreign }: { move: AbandonedMove; here: Seen; there: Seen; foreign: boolean },
): Promise<Settled> {
  if (foreign || isSending(here)) return 'waits';
  const { vm, destination } = move;
  if (there === null) return released(deps, lease, vm, 'waits');
  const waiting = there.present && there.state === 'incoming' && (move.uuid === null || there.uuid === move.uuid);
  if (!waiting) return released(deps, lease, vm, 'settled');
  await deps.hypervisorOf(destination).discardIncoming(lease, destination, vm);
  return 'acted';
}

async function released(deps: MigrationDeps, lease: Lease, vm: string, then: Settled): Promise<Settled> {
  await deps.budget.release(vm, lease);
  return then;
}

/** Under the lease of an unclaimed VM whatever one of our moves has started there has no owner any more. */
async function asAssessed(deps: MigrationDeps, move: AbandonedMove, here: Seen) {
  const outgoing = here?.present ? (here.outgoing?.migrationId ?? null) : null;
  const starter = outgoing === null ? null : await deps.records.move(outgoing);
  const isOurs = outgoing !== null && starter?.vm === move.vm && starter.source === move.source;
  return {
    ...move,
    id: move.moveId,
    postCopy: false,
    earlierIds: new Set(isOurs ? [outgoing] : []),
  };
}

/**
 * Bandwidth of a VM that no operation has any more, as after a halt, or when Redis lost what was written. A migration of
 * ours that runs on without a request is ended, unless it was left as it is on purpose; in post-copy it has to arrive.
 */
async function giveBack(deps: MigrationDeps, lease: Lease, { source, vm, moveId }: Entered): Promise<void> {
  const here = await seenAt(deps, source, vm);
  if (here === null) return;
  if (!isSending(here)) return deps.budget.release(vm, lease);
  if (!here.present || here.outgoing?.migrationId !== moveId || !ENDABLE.has(here.outgoing.status)) return;
  const step = (await deps.records.move(moveId))?.step;
  if (step !== 'halted') await deps.hypervisorOf(source).cancelMigration(lease, source, vm);
}

/** Its guest runs at its source. */
const ENDABLE: ReadonlySet<OutgoingStatus> = new Set(['setup', 'active']);
