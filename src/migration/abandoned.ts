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
import { type Fence, isLease, type Lease } from '../store/lease.ts';
import { assess, isSending, type Seen } from './assess.ts';
import { keeping, type MigrationDeps } from './context.ts';
import { Doubts } from './doubt.ts';
import { succeedAlone } from './predecessors.ts';
import { SETTLE_MS } from './reconcile.ts';
import { seenAt, unlessSilent } from './sight.ts';

/** Between two rounds while something is listed or confirmed down, and while nothing is (real ms). */
const AGAIN_REAL_MS = 5_000;
const IDLE_REAL_MS = 30_000;
/** What was acted on is looked at again that often at once: an order takes a moment to be carried out. */
const ROUNDS = 3;
const ROUND_MS = 1_000;

/** Listing takes no lease: it changes nothing of the VM. */
const NOBODYS: Fence = { token: 0, assertHeld: () => undefined };

/** `acted`: look again. `waits`: a host does not answer, or something is under way that must end by itself. */
type Settled = 'settled' | 'acted' | 'waits';

/** Goes on until `signal` aborts. `onError` hears what was thrown; the next round comes all the same. */
export async function tendAbandoned(
  deps: MigrationDeps,
  hosts: readonly string[],
  signal: AbortSignal,
  onError: (error: unknown) => void,
): Promise<void> {
  // Whoever drives or claims its VM now: that is seen to before anything is done about it.
  const doubts = new Doubts(deps, hosts, (move) => deps.abandoned.list(move, NOBODYS));
  const verdicts: Verdicts = new Map();
  let listener: WakeupListener | null = null;
  while (!signal.aborted) {
    let busy = true;
    try {
      listener ??= await deps.wakeups.listen(ABANDONED_TOPIC);
      const { down } = await deps.abandoned.read();
      const inDoubt = await doubts.tell(new Set(Object.keys(down)));
      busy = (await tend({ deps, hosts, signal, onError, verdicts })) || inDoubt;
    } catch (error) {
      onError(error);
    }
    const waitMs = busy ? AGAIN_REAL_MS : IDLE_REAL_MS;
    await (listener?.next(waitMs, signal) ?? deps.clock.sleepReal(waitMs, signal));
  }
  await listener?.close();
}

/** What was seen of each listed move last, and since when: what two looks at one moment could not tell has to last. */
type Verdicts = Map<string, { readonly what: string; readonly sinceMs: number }>;

interface Rounds {
  readonly deps: MigrationDeps;
  readonly hosts: readonly string[];
  readonly signal: AbortSignal;
  readonly onError: (error: unknown) => void;
  readonly verdicts: Verdicts;
}

/** One round, over what concerns these hosts. True: something is left to look at soon. What goes wrong with one keeps no other. */
async function tend({ deps, hosts, signal, onError, verdicts }: Rounds): Promise<boolean> {
  // Read anew: the doubt before may have taken long.
  const { moves, down } = await deps.abandoned.read();
  for (const moveId of verdicts.keys()) if (!Object.hasOwn(moves, moveId)) verdicts.delete(moveId);
  for (const host of Object.keys(down)) {
    if (!hosts.includes(host)) continue;
    if ((await unlessSilent(deps.hypervisorOf(host).inventory(host))) !== null) await deps.abandoned.isBack(host);
  }
  const listed = Object.values(moves);
  const ours = listed.filter(({ source, destination }) => hosts.includes(source) || hosts.includes(destination));
  for (const move of ours) {
    if (signal.aborted) return true;
    await underLease(deps, move, (lease) => settle(deps, lease, { move, verdicts, signal })).catch(onError);
  }
  for (const entry of await deps.budget.entries()) {
    if (signal.aborted) return true;
    if (!hosts.includes(entry.source) && !Object.hasOwn(down, entry.source)) continue;
    if (listed.some(({ vm, source }) => vm === entry.vm && source === entry.source)) continue;
    if ((await deps.claimedBy(entry.vm)) !== null) continue;
    await underLease(deps, entry, (lease) => giveBack(deps, lease, entry)).catch(onError);
  }
  return listed.length > 0 || Object.keys(down).length > 0;
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

interface Settling {
  readonly move: AbandonedMove;
  readonly verdicts: Verdicts;
  readonly signal: AbortSignal;
}

async function settle(deps: MigrationDeps, lease: Lease, { move, verdicts, signal }: Settling): Promise<void> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const how = await step(deps, lease, move, verdicts);
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

async function step(deps: MigrationDeps, lease: Lease, move: AbandonedMove, verdicts: Verdicts): Promise<Settled> {
  const { vm, source, destination } = move;
  const lookBegan = deps.clock.now();
  const [there, here] = await Promise.all([seenAt(deps, destination, vm), seenAt(deps, source, vm)]);
  if (here === null) return 'waits';
  const { verdict, reason } = assess(await asAssessed(deps, move, here), here, there);
  const what = `${verdict} ${reason.code}`;
  const known = verdicts.get(move.moveId);
  const sinceMs = known?.what === what ? known.sinceMs : lookBegan;
  verdicts.set(move.moveId, { what, sinceMs });
  // A source that died right after its last byte leaves a destination that is about to run.
  if (DOUBTFUL.has(verdict) && lookBegan - sinceMs < SETTLE_MS) return 'waits';
  switch (verdict) {
    case 'finished':
      if (there === null) return 'waits';
      if (there.present) await deps.hypervisorOf(destination).keepDefinition(lease, destination, vm);
      if (here.present) await deps.hypervisorOf(source).retire(lease, source, vm);
      return released(deps, lease, move, 'settled');
    case 'runningOurs':
    case 'leftovers':
      if (isSending(here)) await deps.hypervisorOf(source).cancelMigration(lease, source, vm);
      // Defined there, and off: nothing that waits.
      else if (there?.present && there.state === 'shutOff') return released(deps, lease, move, 'settled');
      else if (there?.present) await deps.hypervisorOf(destination).discardIncoming(lease, destination, vm);
      return 'acted';
    case 'neverStarted':
      return released(deps, lease, move, 'settled');
    case 'refused':
      return refused(deps, lease, { move, here, there, foreign: reason.code === 'foreignMigration' });
    case 'contradiction':
      // Not at its source any more: it has gone elsewhere since, or has died; what waits for it waits for nothing.
      if (reason.code === 'sourceDied') return refused(deps, lease, { move, here, there, foreign: false });
      if (await isOutlived(deps, move, here, there)) {
        await deps.hypervisorOf(source).retire(lease, source, vm);
        return released(deps, lease, move, 'settled');
      }
      // Left as it is, and was told; what is counted for it is not in use once nothing is sent.
      return isSending(here) ? 'waits' : released(deps, lease, move, 'settled');
    case 'unknown':
      // Its source has sent all, or nothing any more; what has become of it is to be seen when the other end answers.
      return isSending(here) ? 'waits' : released(deps, lease, move, 'waits');
    case 'switchingOver':
    case 'inPostCopy':
      return 'waits';
  }
}

/**
 * What is left at the source of a forgotten move, all of it sent, while its VM has gone on from its destination to a third
 * host and runs there. Of a move that is known this is a person's to look at.
 */
async function isOutlived(deps: MigrationDeps, move: AbandonedMove, here: Seen, there: Seen): Promise<boolean> {
  if (!here?.present || here.state !== 'postMigrate' || there?.present !== false) return false;
  if ((await deps.records.move(move.moveId)) !== null) return false;
  const { vm, source, destination } = move;
  const others = (await deps.runningAt(vm, here.uuid)).filter((host) => host !== source && host !== destination);
  const seen = await Promise.all(others.map((host) => seenAt(deps, host, vm)));
  return seen.some(
    (one) => one?.present === true && one.uuid === here.uuid && one.state === 'running' && !one.arriving,
  );
}

/** The VM is not where this move would take it from, or its destination does not answer: nothing of ours is sent. */
async function refused(
  deps: MigrationDeps,
  lease: Lease,
  { move, here, there, foreign }: { move: AbandonedMove; here: Seen; there: Seen; foreign: boolean },
): Promise<Settled> {
  if (foreign || isSending(here)) return 'waits';
  const { vm, destination } = move;
  if (there === null) return released(deps, lease, move, 'waits');
  const waiting = there.present && there.state === 'incoming' && (move.uuid === null || there.uuid === move.uuid);
  if (!waiting) return released(deps, lease, move, 'settled');
  await deps.hypervisorOf(destination).discardIncoming(lease, destination, vm);
  return 'acted';
}

/** What is entered for its VM may be a later move's, out of another host: that is looked at there (`giveBack`). */
async function released(
  deps: MigrationDeps,
  lease: Lease,
  { vm, source }: AbandonedMove,
  then: Settled,
): Promise<Settled> {
  const entry = (await deps.budget.entries()).find((one) => one.vm === vm);
  if (entry?.source === source) await deps.budget.release(vm, lease);
  return then;
}

/** Believed only when they last: two looks that are not of one moment can tell them by themselves. */
const DOUBTFUL: ReadonlySet<string> = new Set(['refused', 'contradiction']);

/** Under the lease of an unclaimed VM whatever one of our moves has started there has no owner any more. */
async function asAssessed(deps: MigrationDeps, move: AbandonedMove, here: Seen) {
  const outgoing = here?.present ? (here.outgoing?.migrationId ?? null) : null;
  const starter = outgoing === null ? null : await deps.records.move(outgoing);
  // One that was halted was left as it is on purpose.
  const isOurs =
    outgoing !== null && starter?.vm === move.vm && starter.source === move.source && starter.step !== 'halted';
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
  const outgoing = here.present ? here.outgoing : null;
  if (outgoing === null || outgoing.migrationId === null || !ENDABLE.has(outgoing.status)) return;
  const starter = await deps.records.move(outgoing.migrationId);
  // Adopted ones carry the id of an earlier move.
  const isOurs = outgoing.migrationId === moveId || (starter?.vm === vm && starter.source === source);
  if (isOurs && starter?.step !== 'halted') await deps.hypervisorOf(source).cancelMigration(lease, source, vm);
}

/** Its guest runs at its source. */
const ENDABLE: ReadonlySet<OutgoingStatus> = new Set(['setup', 'active']);
