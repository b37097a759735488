/** Ours: the product's own workflow of a migration on real adapters, the throttle and its guard among them; stores in memory. */
import { readFileSync } from 'node:fs';
import { pino } from 'pino';
import { BUDGET_TOPIC, type Budget } from '../../../src/bandwidth/budget.ts';
import { CellBudget } from '../../../src/bandwidth/cell-budget.ts';
import type { Clock } from '../../../src/clock/clock.ts';
import { RealClock } from '../../../src/clock/real-clock.ts';
import type { PolicyBehaviour } from '../../../src/convergence/policy-behaviour.ts';
import { type Fleet, type FleetHost, hostOf } from '../../../src/domain/fleet.ts';
import { parseFleet } from '../../../src/domain/fleet-file.ts';
import { type MoveRecord, newTask } from '../../../src/domain/operation.ts';
import { POLICY_PRESETS, type Policy } from '../../../src/domain/policy.ts';
import type { Hypervisor } from '../../../src/hypervisors/hypervisor.ts';
import { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import type { LabManifest } from '../../../src/lab/manifest.ts';
import type { MigrationDeps } from '../../../src/migration/context.ts';
import { migrate } from '../../../src/migration/migrate.ts';
import { newMove } from '../../../src/operations/standing.ts';
import { endProcess } from '../../../src/runtime/end-process.ts';
import { thisProcess } from '../../../src/runtime/process-identity.ts';
import { Abandoned } from '../../../src/store/abandoned.ts';
import { MemoryLeases } from '../../../src/store/memory-leases.ts';
import { MemoryCellStore, MemoryEventLog, MemoryWakeups } from '../../../src/store/memory-store.ts';
import { Records } from '../../../src/store/records.ts';
import { CgroupThrottle } from '../../../src/throttling/cgroup-throttle.ts';
import { GuardClient } from '../../../src/throttling/guard/client.ts';
import { GuardGatekeeper } from '../../../src/throttling/guard-gatekeeper.ts';
import type { Throttle } from '../../../src/throttling/throttle.ts';
import type { Contender, Stage, Told } from './contender.ts';

/** A look at the host, and the destination's start. What it measures it does while it waits. */
const LEAD_MS = 1_500;
const NOT_YET = {
  bytesPerSec: 0,
  waitingFor: 'bandwidth, which another migration has',
  isNext: false,
  givesWayTo: null,
  othersWait: false,
};
/** Beyond its own deadline, for which it has to answer itself. */
const CANCEL_AFTER_MS = 5_000;
const OPERATION = 'benchmark';

/** Who decides in the place of the policy's preset. */
export interface Deciding {
  /** It chooses among what could be done. */
  readonly behaviour: PolicyBehaviour;
  /** What the guest is held to when a share is to be put into force: not only what is offered can be played. */
  shareFor(share: number): number;
}

/** `floor`: of what the guest demands. */
export function ours(name: string, what: string, over: Partial<Policy>, deciding: Deciding | null = null): Contender {
  return { name, what, ours: true, leadMs: LEAD_MS, waits: true, migrate: (stage) => move(stage, over, deciding) };
}

/** Under the CPU of all guests, share of what they demand. */
export const FLOOR = 0.05;

export const rfc2011 = ours('rfc2011', 'ours with the controller of the RFC of 2011, aggression 0.5', {
  controller: 'rfc2011',
  aggression: 0.5,
  minCpuShare: FLOOR,
});

export const leastHarm = [0, 0.5, 1].map((aggression) =>
  ours(`leastHarm-${aggression}`, `ours, aggression ${aggression}, floor 5%`, {
    controller: 'leastHarm',
    aggression,
    minCpuShare: FLOOR,
  }),
);

async function move(stage: Stage, over: Partial<Policy>, deciding: Deciding | null): Promise<Told> {
  const { vm, manifest, signal } = stage;
  const [source, destination] = manifest.hosts;
  if (source === undefined || destination === undefined) throw new Error('the lab has no two hosts');
  const site = openSite(stage, deciding);
  try {
    const { clock, records } = site;
    const policy: Policy = {
      ...POLICY_PRESETS.maintenance,
      maxStallMs: stage.maxStallMs,
      // The cap is the deadline that the user gives.
      maxTimeMs: stage.limitMs,
      maxBandwidthBytesPerSec: stage.bandwidthBytesPerSec,
      ...over,
      ...(deciding === null ? {} : { name: deciding.behaviour.name }),
    };
    const task = newTask(vm, source.name, destination.name);
    const id = `${OPERATION}-1-1`;
    const moves = [{ vm, to: destination.name }];
    await records.create({
      id: OPERATION,
      request: { kind: 'loadBalance', moves, policy, overrides: {}, deadlineMs: null, approveFirst: false },
      createdAtMs: clock.now(),
      idempotencyKey: null,
    });
    const record = newMove(
      OPERATION,
      { ...task, moveIds: [id] },
      { id, destination: destination.name, nowMs: clock.now() },
    );
    await records.createMove(record);
    await untilOver(stage, site, { id, source: source.name });
    signal.throwIfAborted();
    return toldOf(await records.move(id));
  } finally {
    await site.close();
  }
}

/** Delivered again as the queue would do it, and cancelled as a user would when it does not end. */
async function untilOver(
  stage: Stage,
  { deps, records }: Site,
  { id, source }: { id: string; source: string },
): Promise<void> {
  const waitMs = stage.limitMs + CANCEL_AFTER_MS;
  let cancel: NodeJS.Timeout | undefined;
  void stage.begun.then(() => {
    cancel = setTimeout(() => void records.setControl(OPERATION, { cancel: true }), waitMs);
  });
  try {
    for (;;) {
      const turn = await migrate(deps, { moveId: id, operationId: OPERATION, source }, stage.signal);
      if (turn.kind === 'ended' || stage.signal.aborted) return;
      await deps.clock.sleepReal(turn.afterRealMs, stage.signal);
    }
  } finally {
    clearTimeout(cancel);
  }
}

function toldOf(record: MoveRecord | null): Told {
  if (record === null) return { note: 'its record is gone', claims: null };
  const words = [
    record.state === 'done' ? null : `${record.state}: ${record.reason?.message ?? ''}`,
    ...record.relaxed.map(({ requirement, why }) => `${requirement} gave way: ${why}`),
  ].filter((text) => text !== null);
  const { predicted, figures } = record;
  return { note: words.length === 0 ? null : words.join('; '), claims: { predicted, figures } };
}

interface Site {
  readonly deps: MigrationDeps;
  readonly clock: Clock;
  readonly records: Records;
  close(): Promise<void>;
}

/** As src/runtime/drivers.ts and workers/migrations.ts put it together, on stores in memory. */
function openSite(stage: Stage, deciding: Deciding | null): Site {
  const fleet = fleetOf(stage.manifest);
  const clock = new RealClock();
  const log = pino({ level: 'silent' });
  const guard = new GuardClient({ stateDir: stage.stateDir, log: () => undefined });
  const hypervisor = new QemuHypervisor({
    hosts: fleet.hosts.filter((host) => host.driver === 'qemu').map(qemuHost),
    clock,
    log,
    gatekeeper: new GuardGatekeeper(guard),
  });
  const throttle = new CgroupThrottle({ guard, vcpuThreadsOf: hypervisor.vcpuThreads, clock, log: () => undefined });
  const wakeups = new MemoryWakeups(clock);
  const cells = new MemoryCellStore(clock, wakeups);
  const records = new Records(cells);
  const seen = beginning(hypervisor, stage);
  const deps: MigrationDeps = {
    clock,
    hypervisorOf: () => seen,
    throttleOf: () => (deciding === null ? throttle : exactly(throttle, deciding)),
    budget: inTurn(new CellBudget(cells, fleet), stage, wakeups),
    abandoned: new Abandoned(cells),
    servedHosts: async () => [],
    runningAt: async () => [],
    claimedBy: async () => null,
    capacityOf: (name) => hostOf(fleet, name) ?? { egress: 0, ingress: 0 },
    behaviours: new Map(deciding === null ? [] : [[deciding.behaviour.name, deciding.behaviour]]),
    leases: new MemoryLeases(clock, thisProcess()),
    records,
    events: new MemoryEventLog(clock, wakeups),
    wakeups,
    endProcess,
    wakeOperation: async () => undefined,
    hostsChanged: async () => undefined,
  };
  return {
    deps,
    clock,
    records,
    close: async () => {
      await hypervisor.close();
      await guard.close();
    },
  };
}

/** The same throttle, told another share. */
function exactly(throttle: Throttle, { shareFor }: Deciding): Throttle {
  return {
    unavailable: (host) => throttle.unavailable(host),
    set: (fence, terms) => throttle.set(fence, { ...terms, share: shareFor(terms.share) }),
    release: (fence, target) => throttle.release(fence, target),
    guestCpu: (target) => throttle.guestCpu(target),
  };
}

/** Beside what its program touches: firmware and page tables. */
const FIRMWARE_BYTES = 2 * 2 ** 20;

/**
 * The same hypervisor, but all contenders say `migrate` at the same moment of the guest's life; and where the lab gives its
 * guests all of their memory at the start (src/lab/page-faults.ts), what they have touched is what it would be elsewhere.
 */
function beginning(hypervisor: QemuHypervisor, stage: Stage): Hypervisor {
  return new Proxy<Hypervisor>(hypervisor, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key === 'inventory') {
        return async (host: string): ReturnType<Hypervisor['inventory']> => {
          const inventory = await target.inventory(host);
          const mostBytes = stage.profile.touchedBytes + FIRMWARE_BYTES;
          const vms = inventory.vms.map((vm) => ({
            ...vm,
            touchedBytes: vm.touchedBytes < vm.memoryBytes ? vm.touchedBytes : Math.min(vm.touchedBytes, mostBytes),
          }));
          return { ...inventory, vms };
        };
      }
      if (key !== 'startMigration') return value.bind(target);
      return async (...args: Parameters<Hypervisor['startMigration']>): Promise<void> => {
        await stage.begin();
        return target.startMigration(...args);
      };
    },
  });
}

/** The same budget, but before its turn it has nothing to give. */
function inTurn(budget: Budget, stage: Stage, wakeups: MemoryWakeups): Budget {
  let come = false;
  // A turn that never comes is told by whoever it was to come from.
  void stage.turn.then(
    () => {
      come = true;
      return wakeups.wake(BUDGET_TOPIC);
    },
    () => undefined,
  );
  return new Proxy(budget, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== 'function') return value;
      if (key !== 'request') return value.bind(target);
      return async (...args: Parameters<Budget['request']>) => (come ? target.request(...args) : NOT_YET);
    },
  });
}

function fleetOf({ fleetFile }: LabManifest): Fleet {
  if (fleetFile === null) throw new Error('the lab has no fleet file');
  return parseFleet(readFileSync(fleetFile.path, 'utf8'), { format: 'yaml', name: fleetFile.path });
}

function qemuHost(host: Extract<FleetHost, { driver: 'qemu' }>) {
  const { name, migrationAddress, memory, cpus, qemu } = host;
  const { runDir, ports, networkNamespace = null } = qemu;
  return { name, migrationAddress, memoryBytes: memory, cpus, runDir, ports, networkNamespace };
}
