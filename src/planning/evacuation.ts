/** What must leave a host for it to be empty: every running or paused VM. Not here: where to, or in which order. */
import type { Reason } from '../domain/errors.ts';
import type { PlacementTask } from './bins.ts';
import { byName, type PlanningVm } from './snapshot.ts';

/** A VM as its host's inventory has it. */
export interface InventoriedVm extends PlanningVm {
  /** The hypervisor's reason why it cannot be migrated; null: it can. */
  readonly notMigratable: string | null;
  /** What is to be sent of it: pages that are not zero. */
  readonly touchedBytes: number;
}

export interface EvacuationTasks {
  readonly tasks: readonly PlacementTask[];
  /** VMs that keep the host from becoming empty, each with its reason. */
  readonly blocked: readonly { readonly vm: string; readonly reason: Reason }[];
  /** Listed for the operator, not moved: a host with shut-off VMs counts as empty. */
  readonly shutOff: readonly string[];
}

/**
 * `incoming` and `postMigrate` copies are left out: the first belong to a migration to here that its own worker drives,
 * the second have left already. Ordered by name.
 */
export function tasksForEvacuation(inventory: {
  readonly host: string;
  readonly vms: readonly InventoriedVm[];
}): EvacuationTasks {
  const tasks: PlacementTask[] = [];
  const blocked: { vm: string; reason: Reason }[] = [];
  const shutOff: string[] = [];
  for (const vm of [...inventory.vms].sort((a, b) => byName(a.name, b.name))) {
    if (vm.state === 'shutOff') shutOff.push(vm.name);
    if (vm.state !== 'running' && vm.state !== 'paused') continue;
    const refused = notMigratableReason(vm);
    if (refused === null) tasks.push(taskOf(vm, inventory.host, null));
    else blocked.push({ vm: vm.name, reason: refused });
  }
  return { tasks, blocked, shutOff };
}

export function notMigratableReason(vm: Pick<InventoriedVm, 'name' | 'notMigratable'>): Reason | null {
  if (vm.notMigratable === null) return null;
  return { code: 'hypervisorRefused', message: `${vm.name} cannot be migrated: ${vm.notMigratable}` };
}

export function taskOf(vm: InventoriedVm, source: string, wanted: string | null): PlacementTask {
  const { name, memoryBytes, cpus, touchedBytes } = vm;
  return { vm: name, source, memoryBytes, cpus, touchedBytes, wanted, avoid: [] };
}
