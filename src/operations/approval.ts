/**
 * An operation that waits for a person to approve its plan: what it proposes, whether that still stands, and how exactly what
 * was approved is begun. Until then it claims nothing, cordons nothing and moves nothing. A proposal stands as long as it could
 * be carried out as it is; only then another one is made.
 */
import { approvalOf, type OperationRecord, type Proposal, type VmTask } from '../domain/operation.ts';
import { hostOfRequest, nonMigratableOf } from '../domain/request.ts';
import type { CellChange } from '../store/cell.ts';
import { type ClaimsState, withCordon, withoutOperation } from '../store/claims.ts';
import type { Fence } from '../store/lease.ts';
import { INVENTORY_TOPIC } from '../store/presence.ts';
import { afterPlan, begins, type Told, toldOfPlan } from './after-plan.ts';
import type { OperationDeps } from './deps.ts';
import type { FleetView } from './fleet-view.ts';
import { forgetLostOperations } from './lost.ts';
import { type PlanInput, type Planned, planRound } from './plan.ts';
import { type Preview, previewOf } from './preview.ts';

/** What a look at an operation that waits for approval came to. */
export interface Step {
  readonly change: Partial<OperationRecord> | null;
  readonly told: readonly Told[];
  /** What was approved and is not what is proposed now. */
  readonly voided: string | null;
  /** null: nothing was planned that counts. */
  readonly planned: Planned | null;
}

const NOTHING: Step = { change: null, told: [], voided: null, planned: null };

/** Proposes, or begins what was approved if that can be done as it was. */
export async function towardsApproval(
  deps: Pick<OperationDeps, 'claims' | 'clock' | 'fleet' | 'records' | 'wakeups'>,
  fence: Fence,
  now: {
    readonly record: OperationRecord;
    readonly view: FleetView;
    /** What somebody has approved. */
    readonly approved: string | null;
    /** Hosts that nobody can see have been waited for long enough. */
    readonly outOfPatience: boolean;
  },
): Promise<Step> {
  const { record, view, approved, outOfPatience } = now;
  const { id: operationId, tasks, request, round, proposal } = record;
  const nonMigratable = nonMigratableOf(request);
  const input = { fleet: deps.fleet, view, operationId, tasks, round: round + 1, nonMigratable };
  const host = hostOfRequest(request);
  const propose = async (): Promise<Step> => {
    const planned = proposed(input, host, await deps.claims.read(), { before: proposal, outOfPatience });
    return 'outdated' in planned ? await later(deps, planned) : shown(record, planned, approved);
  };
  if (approved === null || proposal === null || approved !== approvalOf(proposal)) {
    return await propose();
  }
  await forgetLostOperations(deps);
  fence.assertHeld();
  const begun = await deps.claims.transact(approvedRound(input, host, proposal), fence);
  if (begun.planned.outdated.length > 0) return await later(deps, begun.planned);
  if (!begun.isAsApproved) return await propose();
  const after = afterPlan(tasks, begun.planned, null);
  const nowMs = deps.clock.now();
  const message = `plan ${proposal.hash} was approved${host === null ? '' : `; ${host} is cordoned`}`;
  return {
    change: {
      tasks: after,
      proposal: null,
      approvedAtMs: nowMs,
      // What it takes is counted from here on; its deadline is not.
      startedAtMs: nowMs,
      ...(begins(begun.planned) ? { round: round + 1 } : {}),
    },
    told: [ofOperation('operation.approved', message), ...toldOfPlan(after, begun.planned)],
    voided: null,
    planned: begun.planned,
  };
}

async function later({ wakeups }: Pick<OperationDeps, 'wakeups'>, planned: Planned): Promise<Step> {
  if (planned.outdated.length > 0) await wakeups.wake(INVENTORY_TOPIC);
  return { ...NOTHING, planned };
}

/** What is proposed from now on, and what is said of it. */
function shown({ id, state, proposal }: OperationRecord, made: Proposal, approved: string | null): Step {
  // One that stands is the same object; one that was approved in vain is shown as another, to be approved anew.
  const isAnother = made.hash !== proposal?.hash || approved !== null;
  const next = { ...made, number: (proposal?.number ?? 0) + (isAnother ? 1 : 0) };
  const isNew = next.hash !== proposal?.hash;
  // Also when it was approved and cannot be begun, and then can again: it is shown once more.
  if (!isNew && approved === null && state === 'awaitingApproval') return NOTHING;
  const what = `plan ${next.hash} waits for approval (${summaryOf(next)}): hostevac approve ${id}`;
  const why = proposal === null || !isNew ? '' : `the fleet has changed: ${differenceOf(proposal, next)}; `;
  const unlike = approved === null ? '' : `what was approved (plan ${approved.split(' ')[0]}) was not begun; `;
  return {
    change: { proposal: next, state: 'awaitingApproval', waitingFor: [waitsForApproval(id, next)] },
    told: isNew || approved !== null ? [ofOperation('operation.awaitingApproval', `${unlike}${why}${what}`)] : [],
    voided: approved,
    planned: null,
  };
}

function ofOperation(kind: string, message: string): Told {
  return { kind, message, vm: null, moveId: null };
}

/** As it is said where it stands among what an operation waits for. */
export function waitsForApproval(id: string, { hash }: Proposal): string {
  return `approval of plan ${hash}; \`hostevac approve ${id}\` lets it begin`;
}

/**
 * The proposal that stands: the one before as long as it could be carried out as it is. A plan, where it is too early for one:
 * hosts are about to be seen that would make another one of it.
 */
function proposed(
  input: PlanInput,
  host: string | null,
  claims: ClaimsState,
  { before, outOfPatience }: { readonly before: Proposal | null; readonly outOfPatience: boolean },
): Proposal | Planned {
  // What an earlier try may have claimed and died over is not in its own way.
  const seen = cordoned(withoutOperation(claims, input.operationId, input.view.atMs), host, input.operationId);
  if (before !== null) {
    const again = planRound({ ...input, tasks: pinnedTo(input.tasks, before) })(seen).result;
    if (again.outdated.length > 0) return again;
    if (hashOf(previewOf(input.tasks, again)) === before.hash) return before;
  }
  const { result } = planRound(input)(seen);
  if (result.outdated.length > 0) return result;
  if (!outOfPatience && result.waiting.some(({ onInventory }) => onInventory)) return result;
  const preview = previewOf(input.tasks, result);
  return { ...preview, madeAtMs: input.view.atMs, number: 1, hash: hashOf(preview) };
}

/**
 * One atomic change of the claims: the host is cordoned, and what was approved is claimed, if that is what a plan with those
 * destinations comes to now. If not, nothing is claimed, nor stays claimed of an earlier try.
 */
function approvedRound(
  input: PlanInput,
  host: string | null,
  approved: Proposal,
): (claims: ClaimsState) => CellChange<ClaimsState, { readonly planned: Planned; readonly isAsApproved: boolean }> {
  return (claims) => {
    const seen = cordoned(claims, host, input.operationId);
    const outcome = planRound({ ...input, tasks: pinnedTo(input.tasks, approved) })(seen);
    const planned = withReasonsOf(outcome.result, approved);
    if (planned.outdated.length > 0) return { unchanged: true, result: { planned, isAsApproved: false } };
    if (hashOf(previewOf(input.tasks, planned)) !== approved.hash) {
      const value = withoutOperation(claims, input.operationId, input.view.atMs);
      return { value, result: { planned, isAsApproved: false } };
    }
    return { value: 'value' in outcome ? outcome.value : seen, result: { planned, isAsApproved: true } };
  };
}

function cordoned(claims: ClaimsState, host: string | null, operationId: string): ClaimsState {
  return host === null ? claims : withCordon(claims, host, operationId);
}

/** Each VM that was to be moved goes where it was to go, or nowhere. */
function pinnedTo(tasks: readonly VmTask[], { moves }: Proposal): VmTask[] {
  const destinations = new Map(moves.map(({ vm, destination }) => [vm, destination]));
  return tasks.map((task) => ({ ...task, wanted: task.wanted ?? destinations.get(task.vm) ?? null }));
}

/** Why each goes where it goes is what was said when that was proposed. */
function withReasonsOf(planned: Planned, { moves }: Proposal): Planned {
  const reasons = new Map(moves.map(({ vm, why }) => [vm, why]));
  return { ...planned, assigned: planned.assigned.map((one) => ({ ...one, why: reasons.get(one.vm) ?? one.why })) };
}

/** Of who goes where, who is shut down and who stays: not of the order, nor of the words. */
export function hashOf({ moves, shutdowns, skipped, blocked }: Preview): string {
  return digest(
    JSON.stringify([
      moves.map(({ vm, source, destination }) => [vm, source, destination].join(' ')).sort(),
      shutdowns.map(({ vm, host }) => `${vm} ${host}`).sort(),
      skipped.map(({ vm }) => vm).sort(),
      blocked.map(({ vm }) => vm).sort(),
    ]),
  );
}

/** FNV-1a, 64 bit: to tell plans apart, no more. */
function digest(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (let index = 0; index < text.length; index += 1) {
    hash = BigInt.asUintN(64, (hash ^ BigInt(text.charCodeAt(index))) * 0x100000001b3n);
  }
  return hash.toString(16).padStart(16, '0');
}

/** `7 moves, 1 shut down, 2 blocked`. */
export function summaryOf({ moves, shutdowns, skipped, blocked }: Preview): string {
  const parts = [
    ...(moves.length === 0 ? [] : [`${moves.length} ${moves.length === 1 ? 'move' : 'moves'}`]),
    ...(shutdowns.length === 0 ? [] : [`${shutdowns.length} shut down`]),
    ...(skipped.length === 0 ? [] : [`${skipped.length} left there on purpose`]),
    ...(blocked.length === 0 ? [] : [`${blocked.length} blocked`]),
  ];
  return parts.length === 0 ? 'nothing to move' : parts.join(', ');
}

const DIFFERENCES_SHOWN = 3;

/** What happens to each VM that something else happens to, the first few of them. */
function differenceOf(before: Preview, after: Preview): string {
  const [was, is] = [fatesOf(before), fatesOf(after)];
  const vms = [...new Set([...was.keys(), ...is.keys()])].sort().filter((vm) => was.get(vm) !== is.get(vm));
  const shownOnes = vms
    .slice(0, DIFFERENCES_SHOWN)
    .map((vm) => `${vm} ${is.get(vm) ?? 'is not there any more'}${was.has(vm) ? '' : ' (it was not there)'}`);
  const more = vms.length - shownOnes.length;
  return `${shownOnes.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

function fatesOf({ moves, shutdowns, skipped, blocked }: Preview): Map<string, string> {
  return new Map([
    ...moves.map(({ vm, source, destination }) => [vm, `goes from ${source} to ${destination}`] as const),
    ...shutdowns.map(({ vm, host }) => [vm, `is shut down on ${host}`] as const),
    ...skipped.map(({ vm }) => [vm, 'is left where it is'] as const),
    ...blocked.map(({ vm, reason }) => [vm, `cannot be moved (${reason})`] as const),
  ]);
}
