/**
 * Plans what is left of an operation: which tasks there are, where each goes. Placement is the pure planner's; here its
 * answer is turned into claims and reservations (one atomic change) and into tasks that move, wait or are blocked.
 */
import { networkOf } from '../bandwidth/resources.ts';
import type { Reason } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { newTask, type OperationRecord, type VmTask } from '../domain/operation.ts';
import { tasksForMoves } from '../planning/balancing.ts';
import type { Load } from '../planning/busy-links.ts';
import { notMigratableReason, taskOf, tasksForEvacuation } from '../planning/evacuation.ts';
import { type Placed, type Placement, place, type Unplaced } from '../planning/placement.ts';
import { inStartOrder } from '../planning/schedule.ts';
import type { CellChange } from '../store/cell.ts';
import { type ClaimsState, holderOf, withClaims } from '../store/claims.ts';
import type { PublishedInventory } from '../store/presence.ts';
import { isPending } from './collect.ts';
import { type FleetView, outdated, planningHosts } from './fleet-view.ts';

type PublishedVm = PublishedInventory['vms'][number];

/**
 * The tasks of an evacuation, with those added that its host's inventory calls for: VMs that appeared, VMs that had been
 * moved away and are here again, and what is left of VMs that run elsewhere already: a move that was given up unseen
 * (its destination did not answer) leaves its source to be tidied. The inventory must be younger than the last move's end.
 */
export function withFound(tasks: readonly VmTask[], inventory: PublishedInventory, view: FleetView): VmTask[] {
  const { tasks: movable, blocked } = tasksForEvacuation(inventory);
  const left = inventory.vms.filter((vm) => vm.state === 'postMigrate' && others(view, inventory.host, vm).length > 0);
  const here = new Set([...[...movable, ...blocked].map(({ vm }) => vm), ...left.map(({ name }) => name)]);
  const kept = tasks
    // Gone before anything was done for it: it is not in the way any more.
    .filter((task) => here.has(task.vm) || !(task.needsMove && task.moveIds.length === 0))
    .map((task) =>
      task.state === 'done' && here.has(task.vm) ? { ...task, state: 'queued' as const, needsMove: true } : task,
    );
  const known = new Set(tasks.map(({ vm }) => vm));
  return [...kept, ...[...here].filter((vm) => !known.has(vm)).map((vm) => newTask(vm, inventory.host))];
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

export interface Assigned {
  readonly vm: string;
  readonly moveId: string;
  readonly destination: string;
  readonly why: string;
}

export interface Waiting {
  readonly vm: string;
  readonly why: string;
  /** For a host to be seen again, which nobody promises; else for something that ends by itself. */
  readonly onInventory: boolean;
}

export interface Planned {
  readonly assigned: readonly Assigned[];
  /** Nothing that we could wait for changes it. */
  readonly blocked: readonly { readonly vm: string; readonly reason: Reason }[];
  readonly waiting: readonly Waiting[];
  /** Hosts whose inventories must be taken anew first; then nothing was planned. */
  readonly outdated: readonly string[];
}

/** Everything that planning a round needs; the same inputs give the same plan. */
export interface PlanInput {
  readonly fleet: Fleet;
  readonly view: FleetView;
  readonly operationId: string;
  readonly tasks: readonly VmTask[];
  readonly round: number;
}

/** One atomic change of the claims: places the pending tasks, claims their VMs and reserves their destinations. */
export function planRound(input: PlanInput): (claims: ClaimsState) => CellChange<ClaimsState, Planned> {
  return (claims) => {
    const late = outdated(input.view, claims);
    if (late.length > 0) return { unchanged: true, result: { assigned: [], blocked: [], waiting: [], outdated: late } };
    const tidy = withoutOrphans(input, claims);
    const sorted = sortOut(input, tidy);
    const placement = place({
      hosts: planningHosts(input.fleet, input.view, tidy),
      rules: input.fleet.rules,
      reserve: input.fleet.reserve,
      operationId: input.operationId,
      network: { links: networkOf(input.fleet), loads: loadsOf(tidy) },
      tasks: sorted.found.map(({ task, vm }) => ({ ...taskOf(vm, task.source, task.wanted), avoid: task.avoid })),
    });
    return carryOut(input, tidy, sorted, placement);
  };
}

/** What is on its way already, of this operation and of others. */
function loadsOf({ reservations }: ClaimsState): Load[] {
  return Object.values(reservations).flatMap(({ source, host, touchedBytes }) =>
    source === undefined || touchedBytes === undefined ? [] : [{ source, destination: host, bytes: touchedBytes }],
  );
}

/** Without room kept for moves that a crash between plan and record left unmade. */
function withoutOrphans({ tasks, operationId }: PlanInput, claims: ClaimsState): ClaimsState {
  const made = new Set(tasks.flatMap((task) => task.moveIds));
  const reservations = Object.entries(claims.reservations).filter(
    ([id, held]) => held.operationId !== operationId || made.has(id),
  );
  return { ...claims, reservations: Object.fromEntries(reservations) };
}

interface SortedOut {
  readonly found: readonly { readonly task: VmTask; readonly vm: PublishedVm }[];
  /** VMs that have left already and run at `at`: a move there finds that, and tidies the source. */
  readonly arrived: readonly { readonly vm: PublishedVm; readonly placed: Placed }[];
  readonly blocked: { vm: string; reason: Reason }[];
  readonly waiting: Waiting[];
}

/** Which pending tasks can be planned at all now. */
function sortOut({ tasks, view, operationId }: PlanInput, claims: ClaimsState): SortedOut {
  const found: { task: VmTask; vm: PublishedVm }[] = [];
  const arrived: { vm: PublishedVm; placed: Placed }[] = [];
  const blocked: SortedOut['blocked'] = [];
  const waiting: Waiting[] = [];
  for (const task of tasks.filter(isPending)) {
    const holder = holderOf(claims, task.vm);
    const source = view.hosts.get(task.source);
    const vm = source?.inventory?.vms.find((one) => one.name === task.vm);
    if (holder !== null && holder !== operationId) {
      waiting.push({
        vm: task.vm,
        why: `${task.vm} waits for operation ${holder}, which is moving it`,
        onInventory: false,
      });
    } else if (source === undefined || source.unusable !== null) {
      waiting.push({
        vm: task.vm,
        why: source?.unusable ?? `no host ${task.source} in the fleet file`,
        onInventory: true,
      });
    } else if (vm?.state === 'postMigrate' && others(view, task.source, vm).length === 1) {
      const [destination = ''] = others(view, task.source, vm);
      const why = `it runs on ${destination} already; what is left of it on ${task.source} is removed`;
      arrived.push({ vm, placed: { vm: task.vm, source: task.source, destination, why } });
    } else if (vm === undefined || (vm.state !== 'running' && vm.state !== 'paused')) {
      const what = vm === undefined ? `not at ${task.source} any more` : vm.state;
      const message = `${task.vm} is ${what}; there is nothing to move`;
      blocked.push({ vm: task.vm, reason: { code: 'sourceDied', message } });
    } else if (others(view, task.source, vm).length > 0) {
      const places = [task.source, ...others(view, task.source, vm)].join(' and ');
      const message = `${task.vm} RUNS TWICE, on ${places}; nothing was touched: decide which copy is right and end the other`;
      blocked.push({ vm: task.vm, reason: { code: 'vmDoubled', message } });
    } else {
      const refused = notMigratableReason(vm);
      if (refused === null) found.push({ task, vm });
      else blocked.push({ vm: task.vm, reason: refused });
    }
  }
  return { found, arrived, blocked, waiting };
}

/** Other hosts on which a copy of the very same VM runs. */
function others(view: FleetView, source: string, vm: PublishedVm): string[] {
  return [...view.hosts.values()].flatMap(({ host, inventory }) => {
    const copy =
      host === source ? undefined : inventory?.vms.find((one) => one.name === vm.name && one.uuid === vm.uuid);
    return copy?.state === 'running' || copy?.state === 'paused' ? [host] : [];
  });
}

function carryOut(
  input: PlanInput,
  claims: ClaimsState,
  { found, arrived, blocked, waiting }: SortedOut,
  placement: Placement,
): CellChange<ClaimsState, Planned> {
  const byVm = new Map(found.map((one) => [one.task.vm, one]));
  const going: { vm: string; touchedBytes: number; placed: Placed; size: PublishedVm }[] = arrived.map(
    ({ vm, placed }) => ({ vm: vm.name, touchedBytes: 0, placed, size: vm }),
  );
  for (const placed of placement.placed) {
    const one = byVm.get(placed.vm);
    if (one === undefined) continue;
    const retryInMs = one.task.avoid.includes(placed.destination) ? one.task.retryAtMs - input.view.atMs : 0;
    if (retryInMs > 0) {
      const why = `${placed.vm}: ${placed.destination} failed; it is tried again in ${Math.ceil(retryInMs / 1_000)}s`;
      waiting.push({ vm: placed.vm, why, onInventory: false });
    } else {
      going.push({ vm: placed.vm, touchedBytes: one.vm.touchedBytes, placed, size: one.vm });
    }
  }
  for (const one of placement.unplaced) {
    const waits = whatItWaitsFor(one, input.view);
    if (waits === null) blocked.push({ vm: one.vm, reason: one.reason });
    else waiting.push(waits);
  }

  const assigned = inStartOrder(going).map((one, index) => ({
    ...one,
    moveId: `${input.operationId}-${input.round}-${index + 1}`,
  }));
  const result: Planned = {
    assigned: assigned.map(({ vm, moveId, placed }) => ({
      vm,
      moveId,
      destination: placed.destination,
      why: placed.why,
    })),
    blocked,
    waiting,
    outdated: [],
  };
  if (assigned.length === 0) return { unchanged: true, result };
  const items = assigned.map(({ vm, moveId, touchedBytes, placed, size }) => ({
    moveId,
    vm,
    host: placed.destination,
    memoryBytes: size.memoryBytes,
    cpus: size.cpus,
    source: placed.source,
    touchedBytes,
  }));
  return { value: withClaims(claims, input.operationId, items).state, result };
}

function whatItWaitsFor(one: Unplaced, view: FleetView): Waiting | null {
  const { vm, reason } = one;
  if (one.waitsFor.length > 0) {
    return { vm, why: `${reason.message}; waits for operation ${one.waitsFor.join(', ')}`, onInventory: false };
  }
  if (one.waitsForVms.length > 0) {
    return { vm, why: `${reason.message}; waits until ${one.waitsForVms.join(', ')} has left`, onInventory: false };
  }
  if (one.waitsForHosts.length > 0) {
    const hosts = one.waitsForHosts.map((host) => view.hosts.get(host)?.unusable ?? host);
    return { vm, why: `${reason.message}; ${hosts.join('; ')}`, onInventory: true };
  }
  return null;
}
