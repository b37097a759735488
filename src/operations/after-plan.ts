/** What a plan makes of the tasks it was made for, and what watchers are told of it. Pure. */
import type { Reason } from '../domain/errors.ts';
import type { VmTask } from '../domain/operation.ts';
import { isPending } from './collect.ts';
import type { Planned } from './plan.ts';

/** `givenUp`: VMs that are not waited for any longer, and why. */
export function afterPlan(
  tasks: readonly VmTask[],
  planned: Planned,
  givenUp: ReadonlyMap<string, string> | null,
): VmTask[] {
  const moves = new Map(planned.assigned.map((one) => [one.vm, one.moveId]));
  const shutdowns = new Map(planned.shutdowns.map((one) => [one.vm, one.moveId]));
  const skipped = new Map(planned.skipped.map((one) => [one.vm, one.reason]));
  const blocked = new Map(planned.blocked.map((one) => [one.vm, one]));
  return tasks.map((task): VmTask => {
    if (!isPending(task)) return task;
    const to = moves.get(task.vm);
    if (to !== undefined) return begun({ ...task, treatment: null }, to);
    const off = shutdowns.get(task.vm);
    if (typeof off === 'string') return begun({ ...task, treatment: 'shutdown' }, off);
    if (off === null) return task.treatment === 'shutdown' ? task : { ...task, treatment: 'shutdown' };
    const stays = skipped.get(task.vm);
    if (stays !== undefined) return { ...task, state: 'skipped', treatment: 'skip', needsMove: false, reason: stays };
    const stopped = blocked.get(task.vm);
    if (stopped?.cannotMove === true)
      return { ...task, state: 'blocked', treatment: 'block', needsMove: false, reason: stopped.reason };
    const why = stopped?.reason ?? toReason(givenUp?.get(task.vm));
    if (why === undefined) return task;
    // One that was tried and failed keeps its own reason beside the planner's.
    const failed = task.moveIds.length > 0;
    const message = failed && task.reason !== null ? `${task.reason.message}; then: ${why.message}` : why.message;
    // What was meant to be done with it when it could not be migrated is forgotten, or it would be looked at again for ever.
    const state = failed ? 'failed' : 'blocked';
    return { ...task, state, treatment: null, needsMove: false, reason: { code: why.code, message } };
  });
}

function begun(task: VmTask, moveId: string): VmTask {
  return { ...task, state: 'queued', needsMove: false, moveIds: [...task.moveIds, moveId] };
}

function toReason(why: string | undefined): Reason | undefined {
  return why === undefined ? undefined : { code: 'hostUnreachable', message: why };
}

/** Whether a plan has moves, or guests to shut down, that begin now. */
export function begins({ assigned, shutdowns }: Pick<Planned, 'assigned' | 'shutdowns'>): boolean {
  return assigned.length > 0 || shutdowns.some(({ moveId }) => moveId !== null);
}

export interface Told {
  readonly kind: string;
  readonly message: string;
  /** null: it is about the operation itself. */
  readonly vm: string | null;
  readonly moveId: string | null;
}

/** One line for each VM that a plan has decided about; `tasks`: after it. */
export function toldOfPlan(tasks: readonly VmTask[], planned: Planned): Told[] {
  const told: Told[] = [];
  const decided = new Set([...planned.blocked, ...planned.skipped].map(({ vm }) => vm));
  for (const task of tasks) {
    if (!decided.has(task.vm) || isPending(task)) continue;
    const kind = task.state === 'skipped' ? 'move.skipped' : 'move.blocked';
    told.push({ kind, message: `${task.vm}: ${task.reason?.message ?? task.state}`, vm: task.vm, moveId: null });
  }
  for (const { vm, moveId, destination, why } of planned.assigned) {
    told.push({ kind: 'move.planned', message: `${vm} goes to ${destination}: ${why}`, vm, moveId });
  }
  for (const { vm, moveId, why } of planned.shutdowns) {
    if (moveId !== null) told.push({ kind: 'move.planned', message: `${vm} is shut down: ${why}`, vm, moveId });
  }
  return told;
}
