/**
 * A whole fleet with its workers in one process and virtual time: the real workflows on in-memory ports. `crew()` starts a
 * "process" (its own leases and consumers) that can be closed like a real one or lost like a killed one.
 */

import type { z } from 'zod';
import type { Budget } from '../../src/bandwidth/budget.ts';
import { CellBudget } from '../../src/bandwidth/cell-budget.ts';
import type { Clock } from '../../src/clock/clock.ts';
import { VirtualClock, type VirtualClockOptions } from '../../src/clock/virtual-clock.ts';
import { HostevacError } from '../../src/domain/errors.ts';
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
import type { SimulationLog } from '../../src/hypervisors/simulated/log.ts';
import { MemorySimulationLog } from '../../src/hypervisors/simulated/memory-log.ts';
import type { Command } from '../../src/hypervisors/simulated/model.ts';
import { SimulatedFleet } from '../../src/hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../../src/hypervisors/simulated/throttle.ts';
import { tendAbandoned } from '../../src/migration/abandoned.ts';
import type { MigrationDeps, Transition } from '../../src/migration/context.ts';
import { afterFault, migrate } from '../../src/migration/migrate.ts';
import type { OperationDeps } from '../../src/operations/deps.ts';
import { sweepOperations } from '../../src/operations/sweep.ts';
import { operationTurn } from '../../src/operations/turn.ts';
import type { Consumer, Delivery } from '../../src/queue/delivery.ts';
import { MemoryDelivery } from '../../src/queue/memory-delivery.ts';
import { Abandoned } from '../../src/store/abandoned.ts';
import type { WakeupListener, Wakeups } from '../../src/store/cell.ts';
import { Claims, holderOf } from '../../src/store/claims.ts';
import { isLease, type LeaseOwner, type Leases } from '../../src/store/lease.ts';
import { MemoryLeases, MemoryLeaseTable } from '../../src/store/memory-leases.ts';
import { MemoryCellStore, MemoryEventLog, MemoryWakeups } from '../../src/store/memory-store.ts';
import { INVENTORY_TOPIC, Presence } from '../../src/store/presence.ts';
import { Records } from '../../src/store/records.ts';
import type { Throttle } from '../../src/throttling/throttle.ts';
import { direct, type Link, linked, VirtualProcess } from './process.ts';

export type FleetInput = z.input<typeof fleetSchema>;
type HostInput = Extract<FleetInput['hosts'][number], { driver: 'simulated' }>;
type VmInput = HostInput['simulated']['vms'][number];

type Evacuation = Extract<OperationRequest, { kind: 'evacuateNode' }>;

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

export function evacuate(
  name: string,
  over: Partial<Policy> = {},
  deadlineMs: number | null = null,
  others: Partial<Pick<Evacuation, 'nonMigratable' | 'shutdownTimeoutMs' | 'approveFirst'>> = {},
): OperationRequest {
  return {
    kind: 'evacuateNode',
    host: name,
    policy: { ...POLICY_PRESETS.maintenance, ...over },
    overrides: {},
    deadlineMs,
    nonMigratable: 'block',
    approveFirst: false,
    shutdownTimeoutMs: 120_000,
    ...others,
  };
}

export function balance(moves: { vm: string; to: string }[], over: Partial<Policy> = {}): OperationRequest {
  return {
    kind: 'loadBalance',
    moves,
    policy: { ...POLICY_PRESETS.rebalance, ...over },
    overrides: {},
    deadlineMs: null,
    approveFirst: false,
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
  /** Between this process and the store, its leases and its queues. */
  readonly store?: Link;
  /** Between this process and the fleet. */
  readonly wire?: Link;
  /** Called with what it sends to the fleet, in the tick of sending. */
  readonly onSend?: (command: Command) => void;
  /** What arrives at the fleet's log. */
  readonly log?: (real: SimulationLog) => SimulationLog;
  readonly leases?: (real: Leases) => Leases;
  /** Its budget, over its store. */
  readonly budget?: (real: Budget) => Budget;
  /** It works on what the queue gives it as long as it renews its locks; without: for ever. */
  readonly locks?: boolean;
}

export interface Crew {
  readonly owner: LeaseOwner;
  /** As SIGTERM would. */
  close(): Promise<void>;
  /** As kill -9 would: what it was doing never goes on, and others may know that it is dead. */
  kill(): void;
  /** As SIGSTOP would: it does nothing any more, and nobody can know that. */
  freeze(): void;
  /** SIGSTOP, SIGCONT: what it was doing goes on, and it does not know how long it was stopped. */
  readonly process: VirtualProcess;
}

const PUBLISH_MS = 2_000;

/** Virtual hours are simulated: more seldom than workers do. */
const SWEEP_REAL_MS = 60_000;

export class World {
  readonly clock: VirtualClock;
  readonly fleet: Fleet;
  readonly wakeups: MemoryWakeups;
  readonly cells: MemoryCellStore;
  readonly events: MemoryEventLog;
  readonly records: Records;
  readonly claims: Claims;
  readonly abandoned: Abandoned;
  readonly presence: Presence;
  readonly delivery: MemoryDelivery;
  readonly leaseTable = new MemoryLeaseTable();
  readonly log: MemorySimulationLog;
  readonly simulated: SimulatedFleet;
  readonly hypervisor: SimulatedHypervisor;
  readonly budget: CellBudget;
  readonly transitions: Transition[] = [];
  /** Processes that a successor has ended. */
  readonly endedProcesses: string[] = [];
  readonly #alive = new Map<string, VirtualProcess>();
  #processes = 0;
  #operations = 0;

  constructor(fleet: FleetInput, { turnEvery = 1 }: Pick<VirtualClockOptions, 'turnEvery'> = {}) {
    this.clock = new VirtualClock({ startMs: 1_000_000, turnEvery });
    this.wakeups = new MemoryWakeups(this.clock);
    this.cells = new MemoryCellStore(this.clock, this.wakeups);
    this.events = new MemoryEventLog(this.clock, this.wakeups);
    this.records = new Records(this.cells);
    this.claims = new Claims(this.cells);
    this.abandoned = new Abandoned(this.cells);
    this.presence = new Presence(this.cells);
    this.delivery = new MemoryDelivery(this.clock);
    this.log = new MemorySimulationLog(this.clock);
    this.fleet = fleetSchema.parse(fleet);
    this.simulated = new SimulatedFleet({ fleet: this.fleet, log: this.log });
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
    const process = new VirtualProcess();
    this.#alive.set(owner.id, process);
    const isDead = (other: LeaseOwner): boolean => this.#alive.get(other.id)?.dead ?? false;
    const { store = direct, wire } = options;
    const mortal = <T extends object>(port: T): T => process.port(port);
    const clock = process.clock(this.clock);
    const held = new MemoryLeases(clock, owner, { table: this.leaseTable, isDead, link: store });
    const given = options.leases?.(held) ?? held;
    const leases = mortal<Leases>({
      acquire: async (name) => {
        const lease = await given.acquire(name);
        return isLease(lease) ? mortal(lease) : lease;
      },
    });
    const log = options.log?.(this.log) ?? this.log;
    const fleet =
      wire === undefined
        ? this.simulated
        : new SimulatedFleet({ fleet: this.fleet, log: told(linked(log, wire), options.onSend) });
    const simulatedHypervisor = new SimulatedHypervisor(fleet, clock);
    const hypervisor = mortal(options.hypervisor?.(simulatedHypervisor) ?? simulatedHypervisor);
    const simulatedThrottle: Throttle = new SimulatedThrottle(fleet, clock);
    const throttle = mortal(options.throttle?.(simulatedThrottle) ?? simulatedThrottle);
    const cells = mortal(linked(this.cells, store));
    const budget = new CellBudget(cells, this.fleet);
    const events = mortal(linked(this.events, store));
    const delivery: Delivery = mortal(linked(this.delivery, store));
    const presence = new Presence(cells);
    const claims = new Claims(cells);
    const wakeups: Wakeups = mortal({
      wake: (topic: string) => store(() => this.wakeups.wake(topic)),
      listen: async (topic: string) => mortal(await store(() => this.wakeups.listen(topic))),
    });
    const shared = { clock, leases, records: new Records(cells), events, wakeups };
    const migration: MigrationDeps = {
      ...shared,
      events: {
        read: (...args) => events.read(...args),
        readFleet: (...args) => events.readFleet(...args),
        lastOfFleet: () => events.lastOfFleet(),
        firstOfFleet: (after) => events.firstOfFleet(after),
        append: async (event) => {
          await events.append(event);
          await options.onEvent?.(event);
        },
      },
      hypervisorOf: () => hypervisor,
      throttleOf: () => throttle,
      budget: options.budget?.(budget) ?? budget,
      abandoned: new Abandoned(cells),
      servedHosts: async () => (await presence.alive()).flatMap((one) => one.hosts),
      runningAt: (name, uuid) =>
        presence.runningAt(
          this.fleet.hosts.map((one) => one.name),
          name,
          uuid,
        ),
      claimedBy: async (name) => holderOf(await claims.read(), name),
      capacityOf: (name) => hostOf(this.fleet, name) ?? { egress: 0, ingress: 0 },
      behaviours: options.behaviours ?? new Map(),
      endProcess: async (other) => {
        this.endedProcesses.push(other.id);
        this.#alive.get(other.id)?.kill();
        return true;
      },
      wakeOperation: (id) => delivery.wakeOperation(id),
      hostsChanged: () => wakeups.wake(INVENTORY_TOPIC),
      onTransition: (transition) => {
        this.transitions.push(transition);
        TAKEN.add(`${transition.from} ${transition.cause}`);
      },
    };
    const queues = this.delivery.consumersOf(options.locks === true ? () => process.running : null);
    const consumers: Consumer[] = [];
    for (const name of hosts) {
      consumers.push(
        await queues.consumeMoves(name, (job, signal) =>
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
        claims,
        presence,
        delivery,
      };
      consumers.push(await queues.consumeOperations((id) => operationTurn(deps, id)));
      const failed = (error: unknown): void => void this.delivery.errors.push(error);
      sweepOperations(deps, stopping.signal, failed, SWEEP_REAL_MS).catch(failed);
    }
    tendAbandoned(migration, hosts, stopping.signal, (error) => this.delivery.errors.push(error)).catch(
      (error: unknown) => this.delivery.errors.push(error),
    );
    const life = { owner, hosts, operations: options.operations !== false, signal: stopping.signal };
    live({ ...life, clock, hypervisor, presence, wakeups }).catch((error: unknown) => this.delivery.errors.push(error));
    return {
      owner,
      process,
      close: async () => {
        await Promise.all(consumers.map((consumer) => consumer.close(5_000)));
        stopping.abort();
        await presence.leave(owner.id);
        // What is still under way ends with its process.
        process.kill();
      },
      freeze: () => {
        process.stop();
        stopping.abort();
        for (const consumer of consumers) void consumer.close(0);
      },
      kill: () => {
        process.kill();
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
}

function told(log: SimulationLog, onSend: CrewOptions['onSend']): SimulationLog {
  return {
    readSince: (index) => log.readSince(index),
    compact: (state) => log.compact(state),
    append: (command, since) => {
      onSend?.(command);
      return log.append(command, since);
    },
  };
}

interface Life {
  readonly owner: LeaseOwner;
  readonly hosts: readonly string[];
  readonly operations: boolean;
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly hypervisor: Hypervisor;
  readonly presence: Presence;
  readonly wakeups: Wakeups;
}

/** As a live process does: heartbeat and inventories. What the store does not take is told again at the next turn. */
async function live({ owner, hosts, operations, signal, clock, hypervisor, presence, wakeups }: Life): Promise<void> {
  let listener: WakeupListener | undefined;
  while (!signal.aborted) {
    listener ??= await unlessAway(wakeups.listen(INVENTORY_TOPIC));
    await unlessAway(presence.beat({ id: owner.id, pid: owner.pid, hosts: [...hosts], operations, fleetHash: 'same' }));
    for (const name of hosts) {
      const inventory = await hypervisor.inventory(name).catch((error: Error) => error);
      await unlessAway(
        presence.publish(
          inventory instanceof Error
            ? { host: name, takenAtMs: clock.now(), unreachable: inventory.message, vms: [] }
            : { host: name, takenAtMs: inventory.takenAtMs, unreachable: null, vms: [...inventory.vms] },
        ),
      );
    }
    await (listener?.next(PUBLISH_MS, signal) ?? clock.sleepReal(PUBLISH_MS, signal));
    // An instant later, so that what woke us is older than what is published.
    await clock.sleepReal(1, signal);
  }
  await listener?.close();
}

async function unlessAway<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'redisAway') throw error;
    return undefined;
  }
}

/** Every pair of the migration's table that any test of this process has taken. */
export const TAKEN = new Set<string>();
