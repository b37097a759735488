/** Snapshots for planning tests: written by hand in one line per host, or drawn at random. */
import fc from 'fast-check';
import type { FleetRule } from '../../src/domain/fleet.ts';
import type { PlacementInput, PlacementTask } from '../../src/planning/placement.ts';
import type { PlanningHost, PlanningReservation, PlanningVm, Reserve } from '../../src/planning/snapshot.ts';

export const GIB = 2 ** 30;
export const NO_RESERVE: Reserve = { memory: 0, cpus: 0 };

export function host(name: string, memoryGiB: number, cpus: number, more: Partial<PlanningHost> = {}): PlanningHost {
  return {
    name,
    cpus,
    memoryBytes: memoryGiB * GIB,
    cordoned: false,
    vms: [],
    reservations: [],
    unusable: null,
    ...more,
  };
}

export function vm(name: string, memoryGiB: number, cpus: number, state: PlanningVm['state'] = 'running'): PlanningVm {
  return { name, memoryBytes: memoryGiB * GIB, cpus, state };
}

export function reserved(name: string, memoryGiB: number, cpus: number, operationId: string): PlanningReservation {
  return { vm: name, memoryBytes: memoryGiB * GIB, cpus, operationId };
}

export function task(
  name: string,
  memoryGiB: number,
  cpus: number,
  more: Partial<Pick<PlacementTask, 'source' | 'wanted' | 'avoid' | 'touchedBytes'>> = {},
): PlacementTask {
  return { vm: name, source: 'a', memoryBytes: memoryGiB * GIB, cpus, wanted: null, avoid: [], ...more };
}

/** Defaults for what a test does not talk about. */
export function input(of: Partial<PlacementInput>): PlacementInput {
  return { hosts: [], rules: [], reserve: NO_RESERVE, tasks: [], ...of };
}

const HOSTS = ['a', 'b', 'c', 'd', 'e'];
const OPERATIONS = ['op-1', 'op-2'];

interface DrawnVm {
  readonly size: { readonly memory: number; readonly cpus: number };
  readonly at: number;
  readonly state: PlanningVm['state'];
  readonly moves: boolean;
  readonly wanted: number | null;
  readonly avoid: number[];
  /** A reservation elsewhere: this VM is on its way there. */
  readonly going: { readonly to: number; readonly operation: number } | null;
}

/** Random fleets, crowded enough that planning fails often: full hosts, rules, reservations, cordons, stale hosts. */
export const anyInput: fc.Arbitrary<PlacementInput> = fc
  .record({
    hosts: fc.array(
      fc.record({
        memory: fc.integer({ min: 1, max: 40 }),
        cpus: fc.integer({ min: 1, max: 24 }),
        cordoned: fc.boolean(),
        usable: fc.integer({ min: 0, max: 5 }),
      }),
      { minLength: 1, maxLength: HOSTS.length },
    ),
    vms: fc.array(
      fc.record<DrawnVm>({
        size: fc.record({ memory: fc.integer({ min: 1, max: 16 }), cpus: fc.integer({ min: 1, max: 8 }) }),
        at: fc.nat({ max: HOSTS.length - 1 }),
        state: fc.constantFrom('running', 'running', 'running', 'paused', 'shutOff', 'incoming', 'postMigrate'),
        moves: fc.boolean(),
        wanted: fc.option(fc.nat({ max: HOSTS.length - 1 }), { freq: 4 }),
        avoid: fc.array(fc.nat({ max: HOSTS.length - 1 }), { maxLength: 2 }),
        going: fc.option(
          fc.record({ to: fc.nat({ max: HOSTS.length - 1 }), operation: fc.nat({ max: OPERATIONS.length - 1 }) }),
          { freq: 3 },
        ),
      }),
      { maxLength: 14 },
    ),
    rules: fc.array(
      fc.oneof(
        fc.record({ antiAffinity: fc.uniqueArray(fc.nat({ max: 13 }), { minLength: 2, maxLength: 4 }) }),
        fc.record({
          pinned: fc.uniqueArray(fc.nat({ max: 13 }), { minLength: 1, maxLength: 2 }),
          hosts: fc.option(fc.uniqueArray(fc.constantFrom(...HOSTS), { minLength: 1, maxLength: 3 })),
        }),
      ),
      { maxLength: 3 },
    ),
    reserve: fc.constantFrom(NO_RESERVE, { memory: 0.05, cpus: 0 }, { memory: 0.1, cpus: 0.25 }),
    operationId: fc.constantFrom('op-1', 'op-9'),
    network: fc.option(
      fc.record({
        ingress: fc.array(fc.integer({ min: 0, max: 4 }), { minLength: HOSTS.length, maxLength: HOSTS.length }),
        inRack: fc.subarray(HOSTS),
        uplink: fc.boolean(),
        loads: fc.array(
          fc.record({
            source: fc.constantFrom(...HOSTS),
            destination: fc.constantFrom(...HOSTS),
            gib: fc.nat({ max: 40 }),
          }),
          { maxLength: 6 },
        ),
      }),
    ),
  })
  .map(({ hosts, vms, rules, reserve, operationId, network }) => {
    const name = (index: number): string => `vm-${index}`;
    const at = (index: number): string => HOSTS[index % hosts.length] ?? 'a';
    const planned = hosts.map(({ memory, cpus, cordoned, usable }, index) =>
      host(HOSTS[index] ?? 'a', memory, cpus, {
        cordoned: cordoned && index % 2 === 1,
        unusable: usable === 0 ? 'its inventory is old' : null,
        vms: vms.flatMap((one, n) =>
          at(one.at) === HOSTS[index] ? [vm(name(n), one.size.memory, one.size.cpus, one.state)] : [],
        ),
        reservations: vms.flatMap((one, n) =>
          one.going !== null && !one.moves && at(one.going.to) === HOSTS[index] && at(one.going.to) !== at(one.at)
            ? [reserved(name(n), one.size.memory, one.size.cpus, OPERATIONS[one.going.operation] ?? 'op-1')]
            : [],
        ),
      }),
    );
    const tasks = vms.flatMap((one, n) =>
      one.moves && (one.state === 'running' || one.state === 'paused')
        ? [
            task(name(n), one.size.memory, one.size.cpus, {
              source: at(one.at),
              wanted: one.wanted === null ? null : at(one.wanted),
              avoid: one.avoid.map(at),
            }),
          ]
        : [],
    );
    const named: FleetRule[] = rules.map((rule) => {
      if ('antiAffinity' in rule) return { antiAffinity: rule.antiAffinity.map(name) };
      return { pinned: rule.pinned.map(name), ...(rule.hosts === null ? {} : { hosts: rule.hosts }) };
    });
    return {
      hosts: planned,
      rules: named,
      reserve,
      tasks: tasks.map((one) => ({ ...one, touchedBytes: one.memoryBytes })),
      operationId,
      ...(network === null ? {} : { network: networkOf(network) }),
    };
  });

interface DrawnNetwork {
  readonly ingress: readonly number[];
  readonly inRack: readonly string[];
  readonly uplink: boolean;
  readonly loads: readonly { readonly source: string; readonly destination: string; readonly gib: number }[];
}

function networkOf({ ingress, inRack, uplink, loads }: DrawnNetwork): NonNullable<PlacementInput['network']> {
  return {
    links: {
      capacities: Object.fromEntries(
        HOSTS.map((name, index) => [name, { egress: 2 * GIB, ingress: (ingress[index] ?? 0) * GIB }]),
      ),
      links: {
        capacities: { rack: GIB },
        ofHost: Object.fromEntries(inRack.map((name) => [name, ['rack']])),
        uplinks: uplink ? ['rack'] : [],
      },
    },
    loads: loads.map(({ source, destination, gib }) => ({ source, destination, bytes: gib * GIB })),
  };
}
