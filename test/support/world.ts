/**
 * A whole fleet with its workers in one process and virtual time: the real workflows on in-memory ports. `crew()` starts a
 * "process" (its own leases and consumers) that can be closed like a real one or lost like a killed one.
 */

import type { z } from 'zod';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { type Fleet, fleetSchema, hostOf } from '../../src/domain/fleet.ts';
import {
  ENDED_OPERATION_STATES,
  type MoveRecord,
  type OperationEvent,
  type OperationRecord,
} from '../../src/domain/operation.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import type { OperationRequest } from '../../src/domain/request.ts';
import type { Hypervisor } from '../../src/hypervisors/hypervisor.ts';
import { SimulatedHypervisor } from '../../src/hypervisors/simulated/hypervisor.ts';
import { MemorySimulationLog } from '../../src/hypervisors/simulated/memory-log.ts';
import { SimulatedFleet } from '../../src/hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../../src/hypervisors/simulated/throttle.ts';
import type { MigrationDeps, Transition } from '../../src/migration/context.ts';
import { afterFault, migrate } from '../../src/migration/migrate.ts';
import type { OperationDeps } from '../../src/operations/deps.ts';
import { operationTurn } from '../../src/operations/turn.ts';
import type { Consumer } from '../../src/queue/delivery.ts';
import { MemoryDelivery } from '../../src/queue/memory-delivery.ts';
import { Claims } from '../../src/store/claims.ts';
import { isLease, type LeaseOwner, type Leases } from '../../src/store/lease.ts';
import { MemoryLeases, MemoryLeaseTable } from '../../src/store/memory-leases.ts';
import { MemoryCellStore, MemoryEventLog, MemoryWakeups } from '../../src/store/memory-store.ts';
import { INVENTORY_TOPIC, Presence } from '../../src/store/presence.ts';
import { Records } from '../../src/store/records.ts';
import type { Throttle } from '../../src/throttling/throttle.ts';

export type FleetInput = z.input<typeof fleetSchema>;
type HostInput = Extract<FleetInput['hosts'][number], { driver: 'simulated' }>;
type VmInput = HostInput['simulated']['vms'][number];

/** A quiet guest; override what the story is about. */
export function vm(name: string, over: Partial<VmInput> = {}): VmInput {
  return { name, memory: '4GiB', cpus: 2, dirtyRate: '5MiB/s', workingSet: '64MiB', cpuUse: 0.3, ...over };
}

export function host(name: string, vms: VmInput[] = [], over: Partial<HostInput> = {}): HostInput {
  return {
    name,
    driver: 'simulated',
    migrationAddress: '127.0.0.1',
    egress: '1GiB/s',
    ingress: '1GiB/s',
    cpus: 32,
    memory: '64GiB',
    simulated: { vms },
    ...over,
  };
}

export function evacuate(name: string, over: Partial<Policy> = {}, deadlineMs: number | null = null): OperationRequest {
  return {
    kind: 'evacuateNode',
    host: name,
    policy: { ...POLICY_PRESETS.maintenance, ...over },
    overrides: {},
    deadlineMs,
  };
}

export function balance(moves: { vm: string; to: string }[], over: Partial<Policy> = {}): OperationRequest {
  return {
    kind: 'loadBalance',
    moves,
    policy: { ...POLICY_PRESETS.rebalance, ...over },
    overrides: {},
    deadlineMs: null,
  };
}

/** What a test may put between a "process" and its hypervisor or throttle. */
export interface CrewOptions {
  readonly hosts?: readonly string[];
  readonly operations?: boolean;
  readonly hypervisor?: (real: Hypervisor) => Hypervisor;
  readonly throttle?: (real: Throttle) => Throttle;
  /** Policies of the user's own modules. */
  readonly behaviours?: MigrationDeps['behaviours'];
  /** Runs while a migration tells of an event, before it goes on. */
  readonly onEvent?: (event: OperationEvent) => Promise<void> | void;
}

export interface Crew {
  readonly owner: LeaseOwner;
  /** As SIGTERM would. */
  close(): Promise<void>;
  /** As kill -9 would: what it was doing never goes on, and others may know that it is dead. */
  kill(): void;
  /** As SIGSTOP would: it does nothing any more, and nobody can know that. */
  freeze(): void;
}

const PUBLISH_MS = 2_000;

export class World {
  readonly clock = new VirtualClock({ startMs: 1_000_000 });
  readonly fleet: Fleet;
  readonly wakeups = new MemoryWakeups(this.clock);
  readonly cells = new MemoryCellStore(this.clock, this.wakeups);
  readonly events = new MemoryEventLog(this.clock, this.wakeups);
  readonly records = new Records(this.cells);
  readonly claims = new Claims(this.cells);
  readonly presence = new Presence(this.cells);
  readonly delivery = new MemoryDelivery(this.clock);
  readonly leaseTable = new MemoryLeaseTable();
  readonly simulated: SimulatedFleet;
  readonly hypervisor: SimulatedHypervisor;
  readonly budget: CellBudget;
  readonly transitions: Transition[] = [];
  /** Processes that a successor has ended. */
  readonly endedProcesses: string[] = [];
  readonly #dead = new Set<string>();
  readonly #frozen = new Set<string>();
  #processes = 0;
  #operations = 0;

  constructor(fleet: FleetInput) {
    this.fleet = fleetSchema.parse(fleet);
    this.simulated = new SimulatedFleet({ fleet: this.fleet, log: new MemorySimulationLog(this.clock) });
    this.hypervisor = new SimulatedHypervisor(this.simulated, this.clock);
    this.budget = new CellBudget(this.cells, this.fleet);
  }

  async crew(options: CrewOptions = {}): Promise<Crew> {
    this.#processes += 1;
    const owner: LeaseOwner = {
      id: `process-${this.#processes}`,
      machine: 'here',
      pid: this.#processes,
      startTicks: 1,
    };
    const stopping = new AbortController();
    const hosts = options.hosts ?? this.fleet.hosts.map((one) => one.name);
    // A killed process never goes on: whatever it awaits stays pending for ever.
    const mortal = <T extends object>(port: T): T =>
      whileAlive(port, () => !this.#dead.has(owner.id) && !this.#frozen.has(owner.id));
    const held = new MemoryLeases(this.clock, owner, {
      table: this.leaseTable,
      isDead: (other) => this.#dead.has(other.id),
    });
    const leases = mortal<Leases>({
      acquire: async (name) => {
        const lease = await held.acquire(name);
        return isLease(lease) ? mortal(lease) : lease;
      },
    });
    const hypervisor = mortal(options.hypervisor?.(this.hypervisor) ?? this.hypervisor);
    const simulatedThrottle: Throttle = new SimulatedThrottle(this.simulated, this.clock);
    const throttle = mortal(options.throttle?.(simulatedThrottle) ?? simulatedThrottle);
    const shared = {
      clock: this.clock,
      leases,
      records: this.records,
      events: this.events,
      wakeups: this.wakeups,
    };
    const migration: MigrationDeps = {
      ...shared,
      events: {
        read: (...args) => this.events.read(...args),
        append: async (event) => {
          await this.events.append(event);
          await options.onEvent?.(event);
        },
      },
      hypervisorOf: () => hypervisor,
      throttleOf: () => throttle,
      budget: this.budget,
      capacityOf: (name) => hostOf(this.fleet, name) ?? { egress: 0, ingress: 0 },
      behaviours: options.behaviours ?? new Map(),
      endProcess: async (other) => {
        this.endedProcesses.push(other.id);
        this.#dead.add(other.id);
        return true;
      },
      wakeOperation: (id) => this.delivery.wakeOperation(id),
      hostsChanged: () => this.wakeups.wake(INVENTORY_TOPIC),
      onTransition: (transition) => {
        this.transitions.push(transition);
        TAKEN.add(`${transition.from} ${transition.cause}`);
      },
    };
    const consumers: Consumer[] = [];
    for (const name of hosts) {
      consumers.push(
        await this.delivery.consumeMoves(name, (job, signal) =>
          migrate(migration, job, signal).catch((error: unknown) => {
            this.delivery.errors.push(error);
            return afterFault(error).turn;
          }),
        ),
      );
    }
    if (options.operations !== false) {
      const deps: OperationDeps = {
        ...shared,
        fleet: this.fleet,
        claims: this.claims,
        presence: this.presence,
        delivery: this.delivery,
      };
      consumers.push(await this.delivery.consumeOperations((id) => operationTurn(deps, id)));
    }
    void this.#live(owner, hosts, options.operations !== false, stopping.signal);
    return {
      owner,
      close: async () => {
        await Promise.all(consumers.map((consumer) => consumer.close(5_000)));
        stopping.abort();
        await this.presence.leave(owner.id);
      },
      freeze: () => {
        this.#frozen.add(owner.id);
        stopping.abort();
        for (const consumer of consumers) void consumer.close(0);
      },
      kill: () => {
        this.#dead.add(owner.id);
        stopping.abort();
        for (const consumer of consumers) void consumer.close(0);
      },
    };
  }

  async request(request: OperationRequest, idempotencyKey: string | null = null): Promise<string> {
    this.#operations += 1;
    const created = await this.records.create({
      id: `op-${this.#operations}`,
      request,
      createdAtMs: this.clock.now(),
      idempotencyKey,
    });
    await this.delivery.addOperation(created.id);
    return created.id;
  }

  async operation(id: string): Promise<OperationRecord> {
    const record = await this.records.operation(id);
    if (record === null) throw new Error(`no operation ${id}`);
    return record;
  }

  /** All moves of an operation, in the order in which they were made. */
  async moves(id: string): Promise<MoveRecord[]> {
    const record = await this.operation(id);
    const moves = await this.records.moves(record.tasks.flatMap((task) => task.moveIds));
    return moves.filter((move) => move !== null);
  }

  async move(id: string, vmName: string): Promise<MoveRecord | undefined> {
    return (await this.moves(id)).findLast((move) => move.vm === vmName);
  }

  async ended(id: string, limitMs = 3_600_000): Promise<OperationRecord> {
    await this.clock.runUntil(async () => ENDED_OPERATION_STATES.has((await this.operation(id)).state), limitMs);
    return this.operation(id);
  }

  /** Lets time pass until the VM's current move is in this state of the table. */
  async reaches(id: string, vmName: string, step: string, limitMs = 600_000): Promise<MoveRecord> {
    let found: MoveRecord | undefined;
    await this.clock.runUntil(async () => {
      found = await this.move(id, vmName);
      return found?.step === step;
    }, limitMs);
    if (found === undefined) throw new Error('unreachable');
    return found;
  }

  async told(id: string): Promise<OperationEvent[]> {
    return this.events.read(id, '0', 0);
  }

  /** Where copies of a VM are, `host:state`, sorted. */
  async copies(vmName: string): Promise<string[]> {
    const found: string[] = [];
    for (const { name } of this.fleet.hosts) {
      const seen = await this.hypervisor.look(name, vmName).catch(() => null);
      if (seen?.present) found.push(`${name}:${seen.state}`);
    }
    return found.sort();
  }

  /** As a live process does: heartbeat and inventories. */
  async #live(owner: LeaseOwner, hosts: readonly string[], operations: boolean, signal: AbortSignal): Promise<void> {
    const listener = await this.wakeups.listen(INVENTORY_TOPIC);
    while (!signal.aborted) {
      await this.presence.beat({ id: owner.id, pid: owner.pid, hosts: [...hosts], operations, fleetHash: 'same' });
      for (const name of hosts) {
        const inventory = await this.hypervisor.inventory(name).catch((error: Error) => error);
        await this.presence.publish(
          inventory instanceof Error
            ? { host: name, takenAtMs: this.clock.now(), unreachable: inventory.message, vms: [] }
            : { host: name, takenAtMs: inventory.takenAtMs, unreachable: null, vms: [...inventory.vms] },
        );
      }
      await listener.next(PUBLISH_MS, signal);
      // An instant later, so that what woke us is older than what is published.
      await this.clock.sleepReal(1, signal);
    }
    await listener.close();
  }
}

/** Every pair of the migration's table that any test of this process has taken. */
export const TAKEN = new Set<string>();

function whileAlive<T extends object>(port: T, alive: () => boolean): T {
  return new Proxy(port, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]): unknown => {
        if (!alive()) return new Promise(() => undefined);
        const result: unknown = Reflect.apply(value, target, args);
        if (!(result instanceof Promise)) return result;
        return result.then((answer: unknown) => (alive() ? answer : new Promise(() => undefined)));
      };
    },
  });
}
