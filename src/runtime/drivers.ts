/** The adapters of a fleet's drivers, opened together: which hypervisor and which throttle serve a host. */
import type { Redis } from 'ioredis';
import type { Logger } from 'pino';
import type { Clock } from '../clock/clock.ts';
import { HostevacError } from '../domain/errors.ts';
import { type DriverName, type Fleet, type FleetHost, hostOf, peerUriOf } from '../domain/fleet.ts';
import type { Hypervisor, HypervisorOf } from '../hypervisors/hypervisor.ts';
import { LibvirtHypervisor } from '../hypervisors/libvirt/hypervisor.ts';
import { QemuHypervisor } from '../hypervisors/qemu/hypervisor.ts';
import { SimulatedHypervisor } from '../hypervisors/simulated/hypervisor.ts';
import { RedisSimulationLog } from '../hypervisors/simulated/redis-log.ts';
import { SimulatedFleet } from '../hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../hypervisors/simulated/throttle.ts';
import { CgroupThrottle } from '../throttling/cgroup-throttle.ts';
import { GuardClient } from '../throttling/guard/client.ts';
import { GuardGatekeeper } from '../throttling/guard-gatekeeper.ts';
import type { Throttle } from '../throttling/throttle.ts';
import type { VcpuThreadsOf } from '../throttling/vcpu-threads.ts';

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
  const closing: (() => Promise<void>)[] = [];
  const close = async (): Promise<void> => {
    // They tell the guard what they no longer drive.
    await Promise.all([...open.values()].map((driver) => driver.close()));
    for (const last of closing) await last();
  };
  try {
    if (used.has('simulated')) open.set('simulated', await simulated(options));
    const guard = used.has('qemu') || used.has('libvirt') ? await guardOf(options) : null;
    if (guard !== null) closing.push(() => guard.close());
    if (used.has('qemu') && guard !== null) open.set('qemu', qemu(options, guard));
    if (used.has('libvirt') && guard !== null) open.set('libvirt', libvirt(options, guard));
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

/** One for this machine, whatever runs the guests. What an earlier one left is restored first. */
async function guardOf({ stateDir, log }: DriverOptions): Promise<GuardClient> {
  const guard = new GuardClient({ stateDir, log: (line) => log.warn(line) });
  try {
    await guard.recover();
  } catch (error) {
    // Without a guard nothing is throttled by us; policies that need it say so before anything starts.
    log.error({ err: error }, 'what an earlier guard left cannot be restored');
  }
  return guard;
}

type HostOf<Name extends DriverName> = Extract<FleetHost, { driver: Name }>;

function hostsOf<Name extends DriverName>({ hosts }: Fleet, name: Name): HostOf<Name>[] {
  return hosts.filter((host): host is HostOf<Name> => host.driver === name);
}

function qemu({ fleet, clock, log }: DriverOptions, guard: GuardClient): Driver {
  const hypervisor = new QemuHypervisor({
    hosts: hostsOf(fleet, 'qemu').map(
      ({ name, migrationAddress, memory, cpus, qemu: { runDir, ports, networkNamespace = null } }) => ({
        name,
        migrationAddress,
        memoryBytes: memory,
        cpus,
        runDir,
        ports,
        networkNamespace,
      }),
    ),
    clock,
    log,
    gatekeeper: new GuardGatekeeper(guard),
  });
  const throttle = throttleOf(hypervisor, hypervisor.vcpuThreads, { guard, clock, log });
  return { hypervisor, throttle, close: () => hypervisor.close() };
}

function libvirt({ fleet, clock, log }: DriverOptions, guard: GuardClient): Driver {
  const hypervisor = new LibvirtHypervisor({
    hosts: hostsOf(fleet, 'libvirt').map((host) => {
      const { name, migrationAddress, libvirt } = host;
      const { uri, tls, networkNamespace = null } = libvirt;
      return { name, uri, peerUri: peerUriOf(host), migrationAddress, tls, networkNamespace };
    }),
    clock,
    log,
  });
  const throttle = throttleOf(hypervisor, hypervisor.vcpuThreads, { guard, clock, log });
  return { hypervisor, throttle, close: async () => hypervisor.close() };
}

function throttleOf(
  hypervisor: Hypervisor,
  vcpuThreadsOf: VcpuThreadsOf,
  { guard, clock, log }: Pick<DriverOptions, 'clock' | 'log'> & { readonly guard: GuardClient },
): Throttle {
  return new CgroupThrottle({
    guard,
    vcpuThreadsOf,
    clock,
    log: (line) => log.warn(line),
    vmsOn: async (host) => {
      const { vms } = await hypervisor.inventory(host);
      return vms.filter((vm) => vm.state === 'running').map((vm) => vm.name);
    },
  });
}
