/** The adapters of a fleet's drivers, opened together: which hypervisor and which throttle serve a host. */
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { Clock } from '../clock/clock.ts';
import { HostevacError } from '../domain/errors.ts';
import { type DriverName, type Fleet, type FleetHost, hostOf } from '../domain/fleet.ts';
import type { Hypervisor, HypervisorOf } from '../hypervisors/hypervisor.ts';
import { QemuHypervisor } from '../hypervisors/qemu/hypervisor.ts';
import { SimulatedHypervisor } from '../hypervisors/simulated/hypervisor.ts';
import { RedisSimulationLog } from '../hypervisors/simulated/redis-log.ts';
import { SimulatedFleet } from '../hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../hypervisors/simulated/throttle.ts';
import { CgroupThrottle } from '../throttling/cgroup-throttle.ts';
import { GuardClient } from '../throttling/guard/client.ts';
import { GuardGatekeeper } from '../throttling/guard-gatekeeper.ts';
import type { Throttle } from '../throttling/throttle.ts';

export interface Drivers {
  /** Throws `unknownHost`. */
  readonly hypervisorOf: HypervisorOf;
  readonly throttleOf: (host: string) => Throttle;
  close(): Promise<void>;
}

interface Driver {
  readonly hypervisor: Hypervisor;
  readonly throttle: Throttle;
  close(): Promise<void>;
}

export interface DriverOptions {
  readonly fleet: Fleet;
  readonly clock: Clock;
  readonly redis: Redis;
  readonly prefix: string;
  /** Where the guard of this machine keeps its socket and its journal. */
  readonly stateDir: string;
  readonly log: Logger;
}

/** Throws `fleetMismatch` for a simulation that another fleet file began. What an earlier guard left is restored first. */
export async function openDrivers(options: DriverOptions): Promise<Drivers> {
  const { fleet } = options;
  const used = new Set(fleet.hosts.map(({ driver }) => driver));
  const open = new Map<DriverName, Driver>();
  const close = async (): Promise<void> => {
    await Promise.all([...open.values()].map((driver) => driver.close()));
  };
  try {
    if (used.has('simulated')) open.set('simulated', await simulated(options));
    if (used.has('qemu')) open.set('qemu', await qemu(options));
  } catch (error) {
    await close();
    throw error;
  }
  const driverOf = (name: string): Driver => {
    const host = hostOf(fleet, name);
    const driver = host === undefined ? undefined : open.get(host.driver);
    if (driver === undefined) {
      throw new HostevacError('unknownHost', `The fleet file has no host ${JSON.stringify(name)}`);
    }
    return driver;
  };
  return { hypervisorOf: (host) => driverOf(host).hypervisor, throttleOf: (host) => driverOf(host).throttle, close };
}

async function simulated({ fleet, clock, redis, prefix }: DriverOptions): Promise<Driver> {
  const simulation = new SimulatedFleet({ fleet, log: new RedisSimulationLog({ redis, prefix, fleet }) });
  // Refuses, before anything is served, to work on a simulation that another fleet file began.
  await simulation.view();
  return {
    hypervisor: new SimulatedHypervisor(simulation, clock),
    throttle: new SimulatedThrottle(simulation, clock),
    close: async () => undefined,
  };
}

type QemuFleetHost = Extract<FleetHost, { driver: 'qemu' }>;

async function qemu({ fleet, clock, stateDir, log }: DriverOptions): Promise<Driver> {
  const guard = new GuardClient({ stateDir, log: (line) => log.warn(line) });
  const hypervisor = new QemuHypervisor({
    hosts: fleet.hosts.filter((host): host is QemuFleetHost => host.driver === 'qemu').map(hostFrom),
    clock,
    log,
    gatekeeper: new GuardGatekeeper(guard),
  });
  try {
    await guard.recover();
  } catch (error) {
    // Without a guard nothing is throttled by us; policies that need it say so before anything starts.
    log.error({ err: error }, 'what an earlier guard left cannot be restored');
  }
  const throttle = new CgroupThrottle({
    guard,
    vcpuThreadsOf: hypervisor.vcpuThreads,
    clock,
    log: (line) => log.warn(line),
    vmsOn: async (host) => {
      const { vms } = await hypervisor.inventory(host);
      return vms.filter((vm) => vm.state === 'running').map((vm) => vm.name);
    },
  });
  return {
    hypervisor,
    throttle,
    close: async () => {
      // It tells the guard what it no longer drives.
      await hypervisor.close();
      await guard.close();
    },
  };
}

function hostFrom({ name, migrationAddress, memory, cpus, qemu }: QemuFleetHost) {
  const { runDir, ports, networkNamespace = null } = qemu;
  return { name, migrationAddress, memoryBytes: memory, cpus, runDir, ports, networkNamespace };
}
