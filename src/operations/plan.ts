/**
 * Plans what is left of an operation: where each VM goes, or what is done with one that cannot go. Placement is the pure
 * planner's; here its answer is turned into claims and reservations (one atomic change) and into tasks that move, wait,
 * are shut down, skipped or blocked. Which tasks there are is find.ts.
 */
import { networkOf } from '../bandwidth/resources.ts';
import type { Reason } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { NonMigratable } from '../domain/non-migratable.ts';
import type { VmTask } from '../domain/operation.ts';
import type { Load } from '../planning/busy-links.ts';
import { taskOf } from '../planning/evacuation.ts';
import { type Placed, type Placement, place, type Unplaced } from '../planning/placement.ts';
import { inStartOrder } from '../planning/schedule.ts';
import { treatmentOf } from '../planning/treatment.ts';
import type { CellChange } from '../store/cell.ts';
import { type ClaimsState, holderOf, withClaims } from '../store/claims.ts';
import { isActive, isPending } from './collect.ts';
import { others, type PublishedVm } from './find.ts';
import { type FleetView, outdated, planningHosts } from './fleet-view.ts';

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
  /** Nothing that we could wait for changes it. `cannotMove`: the hypervisor does not migrate it at all. */
  readonly blocked: readonly Blocked[];
  /** Cannot be migrated and stay where they are on purpose. */
  readonly skipped: readonly { readonly vm: string; readonly reason: Reason }[];
  /** Cannot be migrated and are shut down. `moveId` null: when the others have left. */
  readonly shutdowns: readonly { readonly vm: string; readonly moveId: string | null; readonly why: string }[];
  readonly waiting: readonly Waiting[];
  /** Hosts whose inventories must be taken anew first; then nothing was planned. */
  readonly outdated: readonly string[];
}

interface Blocked {
  readonly vm: string;
  readonly reason: Reason;
  readonly cannotMove?: boolean;
}

/** Everything that planning a round needs; the same inputs give the same plan. */
export interface PlanInput {
  readonly fleet: Fleet;
  readonly view: FleetView;
  readonly operationId: string;
  readonly tasks: readonly VmTask[];
  readonly round: number;
  /** null: every one of them is blocked. */
  readonly nonMigratable: NonMigratable | null;
}

/** One atomic change of the claims: places the pending tasks, claims their VMs and reserves their destinations. */
export function planRound(input: PlanInput): (claims: ClaimsState) => CellChange<ClaimsState, Planned> {
  return (claims) => {
    const late = outdated(input.view, claims);
    if (late.length > 0) return { unchanged: true, result: { ...NOTHING, outdated: late } };
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

const NOTHING: Planned = { assigned: [], blocked: [], skipped: [], shutdowns: [], waiting: [], outdated: [] };

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
  readonly toShutDown: readonly { readonly task: VmTask; readonly vm: PublishedVm; readonly why: string }[];
  readonly skipped: readonly { readonly vm: string; readonly reason: Reason }[];
  readonly blocked: Blocked[];
  readonly waiting: Waiting[];
}

/** Which pending tasks can be planned at all now. */
function sortOut({ tasks, view, operationId, nonMigratable }: PlanInput, claims: ClaimsState): SortedOut {
  const found: { task: VmTask; vm: PublishedVm }[] = [];
  const arrived: { vm: PublishedVm; placed: Placed }[] = [];
  const toShutDown: { task: VmTask; vm: PublishedVm; why: string }[] = [];
  const skipped: { vm: string; reason: Reason }[] = [];
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
      const treated = treatmentOf(vm, nonMigratable);
      if (treated === null) found.push({ task, vm });
      else if (treated.treatment === 'shutdown') toShutDown.push({ task, vm, why: treated.reason.message });
      else if (treated.treatment === 'skip') skipped.push({ vm: task.vm, reason: treated.reason });
      else blocked.push({ vm: task.vm, reason: treated.reason, cannotMove: true });
    }
  }
  return { found, arrived, toShutDown, skipped, blocked, waiting };
}

function carryOut(
  input: PlanInput,
  claims: ClaimsState,
  sorted: SortedOut,
  placement: Placement,
): CellChange<ClaimsState, Planned> {
  const { found, arrived, skipped, blocked, waiting } = sorted;
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
  const isLast = assigned.length === 0 && waiting.length === 0 && !input.tasks.some(isMoving);
  const due = isLast ? dueShutdowns(input, sorted.toShutDown) : new Map<string, string>();
  const result: Planned = {
    assigned: assigned.map(({ vm, moveId, placed }) => ({
      vm,
      moveId,
      destination: placed.destination,
      why: placed.why,
    })),
    blocked,
    skipped,
    shutdowns: sorted.toShutDown.map(({ task, why }) => ({ vm: task.vm, moveId: due.get(task.vm) ?? null, why })),
    waiting,
    outdated: [],
  };
  const items = assigned.map(({ vm, moveId, touchedBytes, placed, size }) => ({
    moveId,
    vm,
    host: placed.destination,
    memoryBytes: size.memoryBytes,
    cpus: size.cpus,
    source: placed.source,
    touchedBytes,
  }));
  const inPlace = sorted.toShutDown.flatMap(({ vm, task }) => {
    const moveId = due.get(task.vm);
    // Room at its own host, where it has that already: the host counts as changed when this has ended.
    return moveId === undefined ? [] : [{ moveId, vm: vm.name, host: task.source, memoryBytes: 0, cpus: 0 }];
  });
  if (items.length + inPlace.length === 0) return { unchanged: true, result };
  return { value: withClaims(claims, input.operationId, [...items, ...inPlace]).state, result };
}

/** It is under way to a destination. */
function isMoving(task: VmTask): boolean {
  return isActive(task) && task.treatment !== 'shutdown';
}

/**
 * Guests are shut down last, when the moves of the others have come to their ends, so that they are down for no longer than
 * they must. The move that carries it out, by VM; one that has failed before is given time.
 */
function dueShutdowns(input: PlanInput, toShutDown: SortedOut['toShutDown']): Map<string, string> {
  const due = toShutDown.filter(({ task }) => task.moveIds.length === 0 || task.retryAtMs <= input.view.atMs);
  return new Map(due.map(({ task }, index) => [task.vm, `${input.operationId}-${input.round}-${index + 1}`]));
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
