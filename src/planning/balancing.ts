/**
 * Explicit moves of a load-balance request, checked against what is where. Not here: choosing moves, or whether the
 * destination has room (placement.ts).
 */
import type { Problem, Reason } from '../domain/errors.ts';
import type { PlacementTask } from './bins.ts';
import { type InventoriedVm, notMigratableReason, taskOf } from './evacuation.ts';
import { byName } from './snapshot.ts';

interface MoveRequest {
  readonly vm: string;
  readonly to: string;
}

export interface BalancingInput {
  readonly moves: readonly MoveRequest[];
  /** Every host of the fleet; `vms` null: it has never reported. */
  readonly hosts: readonly { readonly host: string; readonly vms: readonly InventoriedVm[] | null }[];
}

/** A move that cannot be meant: the edge refuses all of a request's at once. */
interface MoveFault {
  readonly index: number;
  readonly vm: string;
  readonly reason: Reason;
  readonly problem: Problem;
}

export interface BalancingTasks {
  readonly tasks: readonly PlacementTask[];
  /** VMs that are where they should be already. */
  readonly done: readonly { readonly vm: string; readonly host: string }[];
  /** VMs that are known and cannot be moved now, each with its reason. */
  readonly blocked: readonly { readonly vm: string; readonly reason: Reason }[];
  readonly faults: readonly MoveFault[];
}

/** Each move ends up in exactly one of the four lists. */
export function tasksForMoves({ moves, hosts }: BalancingInput): BalancingTasks {
  const known = new Set(hosts.map(({ host }) => host));
  const silent = hosts.filter(({ vms }) => vms === null).map(({ host }) => host);
  const copies = copiesByVm(hosts);
  const firstUse = new Map<string, number>();
  const tasks: PlacementTask[] = [];
  const done: { vm: string; host: string }[] = [];
  const blocked: { vm: string; reason: Reason }[] = [];
  const faults: MoveFault[] = [];

  for (const [index, { vm, to }] of moves.entries()) {
    const fault = (field: 'vm' | 'to', code: Reason['code'], message: string, remedy: string): void => {
      const value = field === 'vm' ? vm : to;
      faults.push({
        index,
        vm,
        reason: { code, message: `${value}: ${message}; ${remedy}` },
        problem: { path: `moves[${index}].${field}`, value, message, remedy },
      });
    };
    const earlier = firstUse.get(vm);
    if (earlier !== undefined) {
      fault('vm', 'badInput', `moves[${earlier}] moves this VM already`, 'name each VM once');
      continue;
    }
    firstUse.set(vm, index);
    if (!known.has(to)) {
      fault('to', 'unknownHost', 'the fleet has no such host', 'name a host of the fleet file');
      continue;
    }
    const here = copies.get(vm) ?? [];
    const live = here.filter((copy) => copy.vm.state === 'running' || copy.vm.state === 'paused');
    const [only] = live;
    if (here.length === 0 && silent.length === 0) {
      fault('vm', 'unknownVm', 'no host of the fleet has this VM', 'check the name with `hostevac status`');
    } else if (live.length > 1) {
      const places = live.map(({ host }) => host).join(' and ');
      // Inventories are not of one moment: this is more likely a migration that has just ended than a doubled VM, and
      // crying `vmDoubled` is for those who asked both ends at once.
      const message = `${vm} is seen running on ${places}: a migration of it may have just ended; ask again`;
      blocked.push({ vm, reason: { code: 'foreignMigration', message } });
    } else if (only === undefined) {
      blocked.push({ vm, reason: notRunningReason(vm, here, silent) });
    } else if (only.host === to) {
      done.push({ vm, host: to });
    } else {
      const refused = notMigratableReason(only.vm);
      if (refused === null) tasks.push(taskOf(only.vm, only.host, to));
      else blocked.push({ vm, reason: refused });
    }
  }
  return { tasks, done, blocked, faults };
}

interface Copy {
  readonly host: string;
  readonly vm: InventoriedVm;
}

function copiesByVm(hosts: BalancingInput['hosts']): Map<string, Copy[]> {
  const copies = new Map<string, Copy[]>();
  for (const { host, vms } of [...hosts].sort((a, b) => byName(a.host, b.host))) {
    for (const vm of vms ?? []) {
      const known = copies.get(vm.name);
      if (known === undefined) copies.set(vm.name, [{ host, vm }]);
      else known.push({ host, vm });
    }
  }
  return copies;
}

/** It is known but nowhere running or paused, or it may be on a host that has never reported. */
function notRunningReason(vm: string, here: readonly Copy[], silent: readonly string[]): Reason {
  const off = here.find((copy) => copy.vm.state === 'shutOff');
  if (here.length === 0 || (off === undefined && silent.length > 0)) {
    const hosts = silent.length > 5 ? `${silent.slice(0, 5).join(', ')}, ... (${silent.length})` : silent.join(', ');
    return {
      code: 'hostUnreachable',
      message: `${vm} is not on any host that has reported; start a worker for ${hosts}`,
    };
  }
  if (off !== undefined) {
    return { code: 'noDestination', message: `${vm} is shut off on ${off.host}; only running or paused VMs are moved` };
  }
  const states = here.map((copy) => `${copy.vm.state} on ${copy.host}`).join(', ');
  return { code: 'foreignMigration', message: `${vm} is being migrated now (${states}); ask again when it has ended` };
}
