/**
 * What there is to do for an operation, from what its hosts were last seen to hold: which tasks there are, and which of
 * those that had come to an end have to be looked at again. Where each goes is plan.ts. Pure.
 */
import type { NonMigratable } from '../domain/non-migratable.ts';
import { newTask, type OperationRecord, type VmTask } from '../domain/operation.ts';
import { tasksForMoves } from '../planning/balancing.ts';
import { tasksForEvacuation } from '../planning/evacuation.ts';
import { treatmentOf } from '../planning/treatment.ts';
import type { PublishedInventory } from '../store/presence.ts';
import type { FleetView } from './fleet-view.ts';

export type PublishedVm = PublishedInventory['vms'][number];

/**
 * The tasks of an evacuation, with those added that its host's inventory calls for: VMs that appeared, VMs that had been
 * moved away and are here again, and what is left of VMs that run elsewhere already: a move that was given up unseen
 * (its destination did not answer) leaves its source to be tidied. The inventory must be younger than the last move's end.
 */
export function withFound(
  tasks: readonly VmTask[],
  inventory: PublishedInventory,
  view: FleetView,
  choice: NonMigratable,
): VmTask[] {
  const { tasks: movable, blocked } = tasksForEvacuation(inventory);
  const left = inventory.vms.filter((vm) => vm.state === 'postMigrate' && others(view, inventory.host, vm).length > 0);
  const here = new Set([...[...movable, ...blocked].map(({ vm }) => vm), ...left.map(({ name }) => name)]);
  const seen = new Map(inventory.vms.map((vm) => [vm.name, vm]));
  const kept = tasks
    // Gone before anything was done for it: it is not in the way any more.
    .filter((task) => here.has(task.vm) || !isUntouched(task))
    .map((task) => seenAgain(task, { vm: seen.get(task.vm), isHere: here.has(task.vm), choice }));
  const known = new Set(tasks.map(({ vm }) => vm));
  return [...kept, ...[...here].filter((vm) => !known.has(vm)).map((vm) => newTask(vm, inventory.host))];
}

function isUntouched({ needsMove, state, moveIds }: VmTask): boolean {
  return moveIds.length === 0 && (needsMove || state === 'skipped');
}

/** An ended task whose end is not true any more. */
function seenAgain(
  task: VmTask,
  { vm, isHere, choice }: { vm: PublishedVm | undefined; isHere: boolean; choice: NonMigratable },
): VmTask {
  const again: VmTask = { ...task, state: 'queued', needsMove: true };
  const isShutdown = task.treatment === 'shutdown';
  if (!isHere || vm === undefined) {
    // It took longer than its time, and shut down.
    return isShutdown && task.state === 'blocked' && vm?.state === 'shutOff'
      ? { ...task, state: 'shutOff', reason: null }
      : task;
  }
  if (task.state === 'done') return again;
  const now = treatmentOf(vm, choice)?.treatment ?? null;
  if (task.state === 'shutOff') return now === 'shutdown' ? startedAgain(task) : again;
  const wasTreated = task.treatment !== null && (task.state === 'skipped' || task.state === 'blocked');
  return wasTreated && now !== task.treatment ? { ...again, reason: null } : task;
}

/** Whoever did that wants it to run: it is not shut down a second time. */
function startedAgain(task: VmTask): VmTask {
  const message = `${task.vm} was shut down and runs again: somebody has started it; it is not shut down twice`;
  return { ...task, state: 'blocked', reason: { code: 'changedSincePlanned', message } };
}

/** The tasks of explicit moves; VMs that are where they should be need none. */
export function tasksOfMoves(
  request: Extract<OperationRecord['request'], { kind: 'loadBalance' }>,
  view: FleetView,
): VmTask[] {
  const hosts = [...view.hosts.values()].map(({ host, inventory }) => ({ host, vms: inventory?.vms ?? null }));
  const { tasks, blocked, faults } = tasksForMoves({ moves: request.moves, hosts });
  const stopped = [...blocked, ...faults].map(({ vm, reason }): VmTask => {
    const at = hosts.find(({ vms }) => vms?.some((one) => one.name === vm))?.host;
    const to = request.moves.find((move) => move.vm === vm)?.to ?? null;
    return { ...newTask(vm, at ?? to ?? vm, to), state: 'blocked', needsMove: false, reason };
  });
  return [...tasks.map((task) => newTask(task.vm, task.source, task.wanted)), ...stopped];
}

/** Other hosts on which a copy of the very same VM runs. */
export function others(view: FleetView, source: string, vm: PublishedVm): string[] {
  return [...view.hosts.values()].flatMap(({ host, inventory }) => {
    const copy =
      host === source ? undefined : inventory?.vms.find((one) => one.name === vm.name && one.uuid === vm.uuid);
    return copy?.state === 'running' || copy?.state === 'paused' ? [host] : [];
  });
}
