/**
 * What a planner sees of the fleet: hosts, what is on them and what is on its way to them, at one moment. Also the
 * arithmetic of free room. Not here: where the figures come from (inventories, claims), and any choice.
 */

/** As hypervisors report it: `incoming` and `postMigrate` copies hold memory although their CPUs stand still. */
type PlanningVmState = 'running' | 'paused' | 'incoming' | 'postMigrate' | 'shutOff';

export interface PlanningVm {
  readonly name: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly state: PlanningVmState;
}

/** Room kept for a VM that an operation is moving here. */
export interface PlanningReservation {
  readonly vm: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly operationId: string;
}

export interface PlanningHost {
  readonly name: string;
  /** vCPUs it may carry; an operator who overcommits gives a larger number in the fleet file. */
  readonly cpus: number;
  readonly memoryBytes: number;
  readonly cordoned: boolean;
  readonly vms: readonly PlanningVm[];
  readonly reservations: readonly PlanningReservation[];
  /** Why no VM may be placed here now (inventory stale, host unreachable); null when it may. */
  readonly unusable: string | null;
}

/** Shares of every destination that stay free. */
export interface Reserve {
  readonly memory: number;
  readonly cpus: number;
}

export interface Size {
  readonly memoryBytes: number;
  readonly cpus: number;
}

/** One VM's room on one host, whether it is there, on its way, or both. */
export interface Occupant extends Size {
  readonly vm: string;
  /** A copy with a life of its own is here: it does not vanish when an operation ends. */
  readonly settled: boolean;
  /** Operations that are bringing it here. */
  readonly operationIds: readonly string[];
}

/**
 * Who takes room on a host, by VM name. A VM that is there (also as an incoming copy) and reserved counts once, with
 * the larger figures; a shut-off VM takes none.
 */
export function occupantsOf(host: PlanningHost): Map<string, Occupant> {
  const occupants = new Map<string, Occupant>();
  const add = (next: Occupant): void => {
    const known = occupants.get(next.vm);
    occupants.set(next.vm, {
      vm: next.vm,
      memoryBytes: Math.max(known?.memoryBytes ?? 0, next.memoryBytes),
      cpus: Math.max(known?.cpus ?? 0, next.cpus),
      settled: next.settled || (known?.settled ?? false),
      operationIds: [...new Set([...(known?.operationIds ?? []), ...next.operationIds])].sort(),
    });
  };
  for (const { name, memoryBytes, cpus, state } of host.vms) {
    if (state === 'shutOff') continue;
    add({ vm: name, memoryBytes, cpus, settled: state !== 'incoming', operationIds: [] });
  }
  for (const { vm, memoryBytes, cpus, operationId } of host.reservations) {
    add({ vm, memoryBytes, cpus, settled: false, operationIds: [operationId] });
  }
  return occupants;
}

/** Free room after the reserve; negative where a host carries more than it may. */
export function roomOf(host: PlanningHost, occupants: ReadonlyMap<string, Occupant>, reserve: Reserve): Size {
  let memoryBytes = host.memoryBytes - kept(host.memoryBytes, reserve.memory);
  let cpus = host.cpus - kept(host.cpus, reserve.cpus);
  for (const occupant of occupants.values()) {
    memoryBytes -= occupant.memoryBytes;
    cpus -= occupant.cpus;
  }
  return { memoryBytes, cpus };
}

/** Rounded to a millionth: 55% of 100 CPUs is 55, not 55.00000000000001, which would refuse the 45th that is left. */
function kept(amount: number, share: number): number {
  return Math.round(amount * share * 1e6) / 1e6;
}

/** Code-unit order: the same everywhere, unlike a locale's. */
export function byName(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
