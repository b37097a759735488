/**
 * The fleet: hosts, their limits, shared links and rules. This schema is what a fleet file must be, and what the rest
 * of the program sees. Reading files and printing every problem with its remedy is `fleet-file.ts`.
 */
import { z } from 'zod';
import { entityName } from './names.ts';
import { durationText, rateOrZeroText, rateText, share, sizeText } from './units.ts';

/** A stretch of a simulated guest's life; after the last one it starts again at the first. */
const phaseSchema = z.strictObject({
  duration: durationText,
  dirtyRate: rateOrZeroText,
  workingSet: sizeText.optional(),
  cpuUse: share.optional(),
});

export const simulatedVmSchema = z.strictObject({
  name: entityName,
  memory: sizeText,
  /** Bytes that are not zero pages; the first pass sends these. Default: all of `memory`. */
  touched: sizeText.optional(),
  cpus: z.int().min(1).max(1024),
  /** Raw dirtying rate r at full share. */
  dirtyRate: rateOrZeroText,
  /** Writable working set W. */
  workingSet: sizeText,
  /** CPU demand as a share of all its vCPUs. */
  cpuUse: share,
  phases: z.array(phaseSchema).min(1).max(100).optional(),
  state: z.enum(['running', 'paused', 'shutOff']).optional(),
});
export type SimulatedVmSpec = z.output<typeof simulatedVmSchema>;

const hostCommon = {
  name: entityName,
  migrationAddress: z.string().min(1),
  egress: rateText,
  ingress: rateText,
  cpus: z.int().min(1).max(100_000),
  memory: sizeText,
  links: z.array(entityName).optional(),
};

export const hostSchema = z.discriminatedUnion('driver', [
  z.strictObject({
    driver: z.literal('simulated'),
    ...hostCommon,
    simulated: z.strictObject({ vms: z.array(simulatedVmSchema).max(10_000) }),
  }),
]);
export type FleetHost = z.output<typeof hostSchema>;
export type DriverName = FleetHost['driver'];

/** VMs that must be on different hosts, or VMs that must stay (or stay among `hosts`). */
const ruleSchema = z.union([
  z.strictObject({ antiAffinity: z.array(entityName).min(2) }),
  z.strictObject({ pinned: z.array(entityName).min(1), hosts: z.array(entityName).min(1).optional() }),
]);
export type FleetRule = z.output<typeof ruleSchema>;

/** A fault that the simulated fleet plays at a moment of fleet time (from the fleet's first start). */
export const simulatedFaultSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('linkCut'), from: entityName, to: entityName, at: durationText, duration: durationText }),
  z.strictObject({ kind: z.literal('hostDies'), host: entityName, at: durationText }),
  z.strictObject({ kind: z.literal('hypervisorError'), vm: entityName, at: durationText }),
  z.strictObject({ kind: z.literal('stuckProgress'), vm: entityName, at: durationText, duration: durationText }),
]);
export type SimulatedFault = z.output<typeof simulatedFaultSchema>;

export const fleetSchema = z.strictObject({
  /** Several fleets may share one Redis; the name keeps their keys apart. */
  name: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'expected 1 to 64 letters, digits, - or _' })
    .default('default'),
  hosts: z.array(hostSchema).min(1, { error: 'expected at least one host' }).max(10_000),
  links: z.array(z.strictObject({ name: entityName, capacity: rateText })).default([]),
  rules: z.array(ruleSchema).default([]),
  /** Kept free on every destination. */
  reserve: z
    .strictObject({ memory: share.default(0.05), cpus: share.default(0) })
    .default({ memory: 0.05, cpus: 0 }),
  simulation: z
    .strictObject({
      seed: z.int().min(0).default(1),
      /** Fleet seconds per real second; only where every host is simulated. */
      speed: z.number().min(0.01).max(1_000).default(1),
      faults: z.array(simulatedFaultSchema).default([]),
    })
    .default({ seed: 1, speed: 1, faults: [] }),
});
export type Fleet = z.output<typeof fleetSchema>;

/** The host of that name, or undefined. */
export function hostOf(fleet: Fleet, name: string): FleetHost | undefined {
  return fleet.hosts.find((host) => host.name === name);
}
