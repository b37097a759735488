/**
 * The fleet: hosts, their limits, shared links and rules. This schema is what a fleet file must be, and what the rest
 * of the program sees. Turning a file into one, with every problem and its remedy, is `fleet-file.ts`.
 */
import { z } from 'zod';
import { entityName } from './names.ts';
import { NON_MIGRATABLE_LABEL, treatments } from './non-migratable.ts';
import { policyName, policyNames } from './policy.ts';
import { durationText, rateOrZeroText, rateText, share, sizeText } from './units.ts';
import { uriHost } from './uri-host.ts';
import { webhookSchema } from './webhook.ts';

// Descriptions here are what an editor shows while somebody writes a fleet file (docs/fleet.schema.json).

const phaseSchema = z
  .strictObject({
    duration: durationText.describe('How long this phase lasts, in fleet time.'),
    dirtyRate: rateOrZeroText.describe('Raw dirtying rate in this phase.'),
    workingSet: sizeText.optional().describe("Writable working set in this phase. Default: the VM's."),
    cpuUse: share.optional().describe("CPU demand in this phase, as a share of all its vCPUs. Default: the VM's."),
  })
  .describe("A stretch of a simulated guest's life; after the last one it starts again at the first.");

const labelsSchema = z
  .object({
    [NON_MIGRATABLE_LABEL]: z
      .enum(treatments, { error: `expected one of ${treatments.join(', ')}` })
      .optional()
      .describe('What an evacuation does with it if it cannot be migrated.'),
  })
  .catchall(z.string());

export const simulatedVmSchema = z
  .strictObject({
    name: entityName.describe('Unique in the fleet.'),
    memory: sizeText.describe("The guest's memory."),
    touched: sizeText
      .optional()
      .describe('Bytes that are not zero pages; the first pass sends these. Default: all of memory.'),
    cpus: z.int().min(1).max(1024).describe('vCPUs.'),
    dirtyRate: rateOrZeroText.describe(
      'Raw dirtying rate r at full CPU share: bytes written per second, counting every write.',
    ),
    workingSet: sizeText.describe('Writable working set W: the memory that the guest keeps writing to.'),
    cpuUse: share.describe('CPU demand as a share of all its vCPUs.'),
    phases: z
      .array(phaseSchema)
      .min(1)
      .max(100)
      .optional()
      .describe('What the guest does one after another, again and again, instead of the same all the time.'),
    state: z.enum(['running', 'paused', 'shutOff']).optional().describe('Default: running.'),
    labels: labelsSchema.optional().describe('What the VM says of itself.'),
    notMigratable: z
      .string()
      .min(1, { error: 'expected a reason such as "a host device is attached"' })
      .max(500)
      .optional()
      .describe('Why it cannot be migrated. Default: it can.'),
    ignoresShutdown: z
      .boolean()
      .optional()
      .describe('Its guest does not listen when it is asked to shut down. Default: it shuts down within seconds.'),
  })
  .describe('A guest of a simulated host.');
export type SimulatedVmSpec = z.output<typeof simulatedVmSchema>;

const hostCommon = {
  name: entityName.describe('Unique in the fleet.'),
  migrationAddress: z.string().min(1).describe('Address on which the host takes migrations.'),
  egress: rateText.describe('What all migrations out of the host may use together.'),
  ingress: rateText.describe('What all migrations into the host may use together.'),
  cpus: z.int().min(1).max(100_000).describe('Cores.'),
  memory: sizeText.describe('Memory for VMs.'),
  links: z
    .array(entityName)
    .optional()
    .describe('Shared links (a rack uplink) that its migrations cross; defined under links.'),
};

/** `49152-49215`: the ports that libvirt uses too, so that one firewall rule serves both. */
const portRange = z
  .string()
  .regex(/^\d{1,5}-\d{1,5}$/, { error: 'expected two ports such as 49152-49215' })
  .transform((text, context) => {
    const [first = 0, last = 0] = text.split('-').map(Number);
    if (first >= 1 && last <= 65_535 && first <= last) return { first, last };
    context.addIssue({ code: 'custom', message: 'expected two ports of 1 to 65535, the smaller one first' });
    return z.NEVER;
  });

const absolutePath = z
  .string()
  .regex(/^\/[^\0]*$/, { error: 'expected an absolute path' })
  // A socket's path ends at 107 bytes, and a VM's directory and the socket's own name come after this one.
  .max(60, { error: 'expected at most 60 characters: paths of sockets in it must stay below 108 bytes' });

/** RFC 3986's characters; no option of virsh begins like it. A URI carries no password: libvirt's own files have those. */
const libvirtUri = z
  .string()
  .max(1_000)
  .regex(/^qemu(?:\+[a-z]+)?:\/\/[A-Za-z0-9\-._~:/?#[\]@!$&'()*+,;=%]*$/, {
    error: 'expected a libvirt URI of its qemu driver such as qemu:///system or qemu+tls://a/system',
  });
const namespaceName = z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/, { error: 'expected the name of a network namespace' });

/** Of this machine only: no host in it, or a socket's transport. */
export const LOCAL_URI = /^qemu(?:\+unix)?:\/\/\/|^qemu\+unix:/;

export const hostSchema = z
  .discriminatedUnion('driver', [
    z.strictObject({
      driver: z.literal('qemu').describe('What runs the VMs: bare QEMU on this machine, one directory per VM.'),
      ...hostCommon,
      qemu: z
        .strictObject({
          runDir: absolutePath.describe('Holds one directory per VM, with vm.json, qmp.sock and qemu.pid.'),
          ports: portRange
            .default({ first: 49_152, last: 49_215 })
            .describe('Ports on which the host takes migrations, first and last: 49152-49215.'),
          networkNamespace: namespaceName
            .optional()
            .describe('Network namespace (`ip netns`) in which its QEMU processes run. Default: that of the worker.'),
        })
        .describe('Where its VMs are.'),
    }),
    z.strictObject({
      driver: z.literal('libvirt').describe('What runs the VMs: libvirtd with QEMU.'),
      ...hostCommon,
      libvirt: z
        .strictObject({
          uri: libvirtUri.describe('How hostevac reaches its libvirtd: qemu:///system, qemu+tls://a/system.'),
          peerUri: libvirtUri
            .refine((uri) => !LOCAL_URI.test(uri), {
              error: 'expected an address that other hosts can reach such as qemu+tls://a/system',
            })
            .optional()
            .describe(
              "How the other hosts' libvirtd reach it, for migrations. Default: uri, or qemu+tls://<migrationAddress>/system where that is a socket.",
            ),
          tls: z
            .boolean()
            .default(false)
            .describe("Encrypt guests' memory on its way; needs libvirt's migration certificates on both hosts."),
          networkNamespace: namespaceName
            .optional()
            .describe(
              'Network namespace (`ip netns`) of its libvirtd, where several run on one machine. Default: that of the worker.',
            ),
        })
        .describe('Where its libvirtd is.'),
    }),
    z.strictObject({
      driver: z.literal('simulated').describe('What runs the VMs: a simulation.'),
      ...hostCommon,
      simulated: z.strictObject({ vms: z.array(simulatedVmSchema).max(10_000).describe('Its VMs at the start.') }),
    }),
  ])
  .describe('A hypervisor host with its limits.');
export type FleetHost = z.output<typeof hostSchema>;
export type DriverName = FleetHost['driver'];

const ruleSchema = z.union([
  z.strictObject({ antiAffinity: z.array(entityName).min(2).describe('VMs that must be on different hosts.') }),
  z.strictObject({
    pinned: z.array(entityName).min(1).describe('VMs that must stay where they are, or among hosts.'),
    hosts: z.array(entityName).min(1).optional().describe('Where the pinned VMs may be.'),
  }),
]);
export type FleetRule = z.output<typeof ruleSchema>;

const at = durationText.describe("Fleet time since the fleet's first start.");

export const simulatedFaultSchema = z
  .discriminatedUnion('kind', [
    z.strictObject({
      kind: z.literal('linkCut').describe('No byte passes between two hosts.'),
      from: entityName,
      to: entityName,
      at,
      duration: durationText,
    }),
    z.strictObject({ kind: z.literal('hostDies').describe('A host and all on it are gone.'), host: entityName, at }),
    z.strictObject({
      kind: z.literal('hypervisorError').describe("The VM's running migration fails."),
      vm: entityName,
      at,
    }),
    z.strictObject({
      kind: z.literal('stuckProgress').describe("The VM's running migration moves no byte, and says nothing."),
      vm: entityName,
      at,
      duration: durationText,
    }),
  ])
  .describe('A fault that the simulated fleet plays at a moment of fleet time.');

export const fleetSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, { error: 'expected 1 to 64 letters, digits, - or _' })
    .default('default')
    .describe('Several fleets may share one Redis; the name keeps their keys apart.'),
  hosts: z
    .array(hostSchema)
    .min(1, { error: 'expected at least one host' })
    .max(10_000)
    .describe('Every host that VMs may leave or move to.'),
  links: z
    .array(
      z.strictObject({
        name: entityName,
        capacity: rateText.describe('What all migrations that cross it may use together.'),
        uplink: z
          .boolean()
          .optional()
          .describe(
            'Its hosts reach each other without it, as those of a rack do: only migrations out of or into the group cross it. Default: every migration of a host that has it crosses it.',
          ),
      }),
    )
    .default([])
    .describe('Links that several hosts share, such as a rack uplink.'),
  rules: z.array(ruleSchema).default([]).describe('Which VMs must be apart, and which must stay.'),
  policies: z
    .array(
      z.strictObject({
        name: policyName.describe('What requests call it.'),
        module: z
          .string()
          .min(1, { error: 'expected the path of a module' })
          .describe('A JavaScript module whose default export is the policy; relative to this file.'),
      }),
    )
    .max(100)
    .default([])
    .describe('Policies of your own, beside the presets.'),
  reserve: z
    .strictObject({
      memory: share.default(0.05).describe("Share of a host's memory."),
      cpus: share.default(0).describe("Share of a host's cores."),
    })
    .default({ memory: 0.05, cpus: 0 })
    .describe('Kept free on every destination.'),
  webhooks: z.array(webhookSchema).max(20).default([]).describe('Who is told of what operations and moves do.'),
  simulation: z
    .strictObject({
      seed: z.int().min(0).default(1).describe('The same seed plays the same fleet again.'),
      speed: z
        .number()
        .min(0.01)
        .max(1_000)
        .default(1)
        .describe('Fleet seconds per real second; only where every host is simulated.'),
      faults: z.array(simulatedFaultSchema).default([]).describe('Faults to play, each at its time.'),
    })
    .default({ seed: 1, speed: 1, faults: [] })
    .describe('How the simulated hosts are played.'),
});
export type Fleet = z.output<typeof fleetSchema>;

/** The names of all policies that requests to this fleet may use. */
export function policyNamesOf(fleet: Pick<Fleet, 'policies'> | null): string[] {
  return [...policyNames, ...(fleet?.policies ?? []).map(({ name }) => name)];
}

/** How the other hosts' libvirtd reach this one's. */
export function peerUriOf({ migrationAddress, libvirt }: Extract<FleetHost, { driver: 'libvirt' }>): string {
  const { uri, peerUri } = libvirt;
  return peerUri ?? (LOCAL_URI.test(uri) ? `qemu+tls://${uriHost(migrationAddress)}/system` : uri);
}

/** The host of that name, or undefined. */
export function hostOf(fleet: Fleet, name: string): FleetHost | undefined {
  return fleet.hosts.find((host) => host.name === name);
}
