/**
 * The simulated fleet's state and the commands that change it: plain JSON data, because snapshots of it are kept in
 * Redis. The state at a time is a pure function of (fleet file, log of commands, time); how it moves is `step.ts`.
 *
 * Counters stand as they were at an anchor (`atMs`, `cpuSinceMs`) and are extrapolated from there when read. Anchors
 * move at events only, never because somebody looked: so advancing in one step or in many gives the same numbers, bit
 * for bit, and guests that do not migrate cost nothing.
 */
import { z } from 'zod';
import type { Fleet } from '../../domain/fleet.ts';
import { simulatedVmSchema } from '../../domain/fleet.ts';
import { entityName } from '../../domain/names.ts';
import { reasonSchema } from '../../domain/operation.ts';
import { share } from '../../domain/units.ts';

/** Raise it when the meaning of a stored state or command changes: a simulation kept by another version is refused. */
export const MODEL_VERSION = 3;

/** The parts of a fleet file that a simulated fleet is made of. */
export type SimulatedFleetSpec = Pick<Fleet, 'hosts' | 'links' | 'simulation'>;

/** In pre-copy, no byte for this long is a failed link (design, "Convergence"). */
export const LINK_TIMEOUT_MS = 10_000;
/** A source notices the death of its destination within this. */
export const DEATH_NOTICED_MS = 1_000;
/** Bounds the work of catching up with a migration that nobody ever ended; with the shortest passes it is 33 minutes. */
export const MAX_PASSES = 20_000;
/** QEMU's BUFFER_DELAY: what so much time may carry it sends at once, and then looks how it stands. */
export const BURST_MS = 100;
export const PAGE_BYTES = 4_096;
/** Commands kept in `history`; tests read it, and it must not grow with the fleet's age. */
export const HISTORY_LENGTH = 200;
/** Instants kept in `overbooked`. */
export const OVERBOOKED_LENGTH = 50;

const phaseSchema = z.object({
  durationMs: z.number(),
  dirtyRateBytesPerSec: z.number(),
  workingSetBytes: z.number(),
  cpuUse: z.number(),
});
export type Phase = z.infer<typeof phaseSchema>;

/** What a guest is, wherever it runs. One phase: it lasts for ever; several: a cycle that began at fleet time 0. */
const guestSchema = z.object({
  uuid: z.string(),
  memoryBytes: z.number(),
  touchedBytes: z.number(),
  cpus: z.number(),
  phases: z.array(phaseSchema),
  /** These are named only where there are some: what a state without them is stays the same. */
  labels: z.record(z.string(), z.string()).optional(),
  notMigratable: z.string().optional(),
  ignoresShutdown: z.boolean().optional(),
});
export type Guest = z.infer<typeof guestSchema>;

/** A migration that has ended, as its source remembers it. */
const endedMigrationSchema = z.object({
  status: z.enum(['completed', 'failed', 'cancelled']),
  destination: z.string(),
  migrationId: z.string().nullable(),
  startedAtMs: z.number(),
  endedAtMs: z.number(),
  pass: z.number(),
  remainingBytes: z.number(),
  transferredBytes: z.number(),
  dirtyRateBytesPerSec: z.number(),
  downtimeMs: z.number().nullable(),
  failure: reasonSchema.nullable(),
});
export type EndedMigration = z.infer<typeof endedMigrationSchema>;

/** One VM on one host. */
const copySchema = z.object({
  state: z.enum(['running', 'paused', 'incoming', 'postMigrate', 'shutOff']),
  /** It stands still for the switchover of its outgoing migration. */
  still: z.boolean(),
  share: z.number(),
  /** It runs in post-copy: some of its memory is at its source only. */
  arriving: z.boolean(),
  /** Part of what it may have that it can use: it waits for pages that are not there yet. 1 but in post-copy. */
  fed: z.number(),
  /** CPU time its vCPUs had got by `cpuSinceMs`. */
  gotCpuMs: z.number(),
  cpuSinceMs: z.number(),
  /** What state it takes when the migration into it completes; null unless `incoming`. */
  wakesAs: z.enum(['running', 'paused']).nullable(),
  lastOutgoing: endedMigrationSchema.nullable(),
});
export type Copy = z.infer<typeof copySchema>;

const hostSchema = z.object({
  dead: z.boolean(),
  cpus: z.number(),
  memoryBytes: z.number(),
  egressBytesPerSec: z.number(),
  ingressBytesPerSec: z.number(),
  links: z.array(z.string()),
  copies: z.record(z.string(), copySchema),
});
export type SimulatedHost = z.infer<typeof hostSchema>;

/** What is not at the destination yet of a guest that runs there; see post-copy.ts. */
const arrivalSchema = z.object({
  /** The guest's working set when post-copy began. */
  setBytes: z.number(),
  /** Of the working set, when this stretch began; it is sent before all else. */
  missingSetBytes: z.number(),
  /** Behind this stretch, working set included. */
  laterBytes: z.number(),
  /** The connection broke: nothing is sent before somebody recovers it. */
  paused: z.boolean(),
  downtimeMs: z.number(),
});

/**
 * An active migration. Stages: `precopy` (pass by pass) -> `switchover` (the guest stands still, the rest is sent) ->
 * `handover` (all bytes are there, devices are switched: the fixed part of the downtime) -> ended; or, when told to,
 * `precopy` -> `postCopyHandover` (the guest stands still) -> `postCopy` (it runs at its destination) -> ended.
 */
const migrationSchema = z.object({
  vm: z.string(),
  source: z.string(),
  destination: z.string(),
  /** null: somebody else started it. */
  migrationId: z.string().nullable(),
  /** How many migrations of this VM had been started, with this one. */
  number: z.number(),
  startedAtMs: z.number(),
  /** As commanded; 0: no limit, as with QEMU's `max-bandwidth`. */
  bandwidthBytesPerSec: z.number(),
  downtimeLimitMs: z.number(),
  /** It may be switched to post-copy. */
  postCopy: z.boolean(),
  stage: z.enum(['precopy', 'switchover', 'handover', 'postCopyHandover', 'postCopy']),
  /** null before post-copy. */
  arrival: arrivalSchema.nullable(),
  switchoverAtMs: z.number().nullable(),
  pass: z.number(),
  passStartedAtMs: z.number(),
  passBytes: z.number(),
  /** Sent before this pass. */
  sentBeforeBytes: z.number(),
  /** Unique bytes per second over the last whole pass. */
  lastDirtyRateBytesPerSec: z.number(),

  /** The anchor: the next two were true then, and have grown since at the two rates. */
  atMs: z.number(),
  sentBytes: z.number(),
  dirtiedBytes: z.number(),
  rateBytesPerSec: z.number(),
  dirtySlopeBytesPerSec: z.number(),
  /** Where `dirtiedBytes` saturates. */
  workingSetBytes: z.number(),

  /** Its next events; null: not in sight. */
  stageEndsAtMs: z.number().nullable(),
  phaseEndsAtMs: z.number().nullable(),
  failsAtMs: z.number().nullable(),
  failsWith: reasonSchema.nullable(),
});
export type Migration = z.infer<typeof migrationSchema>;

const durationMs = z.number().positive();
/** What goes wrong. The first four may stand in a fleet file; the others are injected by tests. */
const faultSchema = z.discriminatedUnion('kind', [
  /** No byte passes between the two, in either direction (TCP needs both). */
  z.object({ kind: z.literal('linkCut'), from: entityName, to: entityName, durationMs }),
  z.object({ kind: z.literal('hostDies'), host: entityName }),
  /** The VM's active migration fails; without one nothing happens. */
  z.object({ kind: z.literal('hypervisorError'), vm: entityName }),
  z.object({ kind: z.literal('stuckProgress'), vm: entityName, durationMs }),
  z.object({ kind: z.literal('vmAppears'), host: entityName, spec: simulatedVmSchema }),
  z.object({ kind: z.literal('vmDies'), vm: entityName, host: entityName }),
  /** A second running copy, as no sane fleet has it. */
  z.object({ kind: z.literal('doubleRunning'), vm: entityName, host: entityName }),
  /** Somebody gives it other labels, attaches or detaches what keeps it from being migrated, or starts it again. */
  z.object({
    kind: z.literal('vmChanges'),
    vm: entityName,
    labels: z.record(z.string(), z.string()).optional(),
    notMigratable: z.string().nullable().optional(),
    start: z.boolean().optional(),
  }),
  /** Somebody else migrates the VM. */
  z.object({ kind: z.literal('foreignMigration'), vm: entityName, to: entityName }),
]);
export type InjectedFault = z.infer<typeof faultSchema>;

const vmCommand = { token: z.number(), vm: entityName };
const migrationTarget = { source: entityName, destination: entityName, migrationId: z.string() };
/** What is written to the log: the hypervisor's and the throttle's writes, each with its fencing token, and faults. */
export const commandSchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('prepareDestination'), ...vmCommand, ...migrationTarget }),
  z.object({
    kind: z.literal('startMigration'),
    ...vmCommand,
    ...migrationTarget,
    bandwidthBytesPerSec: z.number().min(0),
    downtimeLimitMs: z.number().min(0),
    postCopy: z.boolean(),
  }),
  z.object({ kind: z.literal('beginPostCopy'), ...vmCommand, source: entityName }),
  z.object({ kind: z.literal('recoverPostCopy'), ...vmCommand, source: entityName, destination: entityName }),
  z.object({ kind: z.literal('setBandwidth'), ...vmCommand, source: entityName, bytesPerSec: z.number().min(0) }),
  z.object({
    kind: z.literal('setDowntimeLimit'),
    ...vmCommand,
    source: entityName,
    downtimeLimitMs: z.number().min(0),
  }),
  z.object({ kind: z.literal('cancelMigration'), ...vmCommand, source: entityName }),
  z.object({ kind: z.literal('discardIncoming'), ...vmCommand, destination: entityName }),
  z.object({ kind: z.literal('retire'), ...vmCommand, source: entityName }),
  z.object({ kind: z.literal('shutdown'), ...vmCommand, host: entityName }),
  /** `validForMs` is fleet time here. */
  z.object({ kind: z.literal('setShare'), ...vmCommand, host: entityName, share, validForMs: z.number().positive() }),
  z.object({ kind: z.literal('releaseShare'), ...vmCommand, host: entityName }),
  z.object({ kind: z.literal('fault'), fault: faultSchema }),
]);
export type Command = z.infer<typeof commandSchema>;
export type GuestCommand = Exclude<Command, { kind: 'fault' }>;

/** A command in its place in the log. Indices grow by one from 1; times never fall. */
export interface LogEntry {
  readonly index: number;
  readonly atMs: number;
  readonly command: Command;
}

export const stateSchema = z.object({
  seed: z.number(),
  nowMs: z.number(),
  /** The last log entry that is in this state. */
  index: z.number(),
  hosts: z.record(z.string(), hostSchema),
  links: z.record(z.string(), z.number()),
  /** Those of them that are not on the way between two hosts that have them. */
  uplinks: z.array(z.string()).optional(),
  guests: z.record(z.string(), guestSchema),
  /** Active ones only, one for each VM at its source. A list, because all are looked at for every event. */
  migrations: z.array(migrationSchema),
  /** When a throttle lifts itself, by `keyOf(host, vm)`. */
  throttled: z.record(z.string(), z.number()),
  cuts: z.array(z.object({ from: z.string(), to: z.string(), untilMs: z.number() })),
  /** VMs whose migrations transfer nothing, and until when. */
  stuck: z.record(z.string(), z.number()),
  /** When a guest that was asked to shut down is off, by `keyOf(host, vm)`. */
  stopping: z.record(z.string(), z.number()).optional(),
  /** Faults of the fleet file that are still to come, in order. */
  pendingFaults: z.array(z.object({ atMs: z.number(), fault: faultSchema })),

  /** Largest token seen, by VM: a smaller one is refused. */
  tokens: z.record(z.string(), z.number()),
  /** How often a migration of a VM was started. */
  starts: z.record(z.string(), z.number()),
  /** Instants at which the bandwidth limits of our migrations summed to more than a NIC or link can carry. */
  overbooked: z.object({
    count: z.number(),
    last: z.array(z.object({ atMs: z.number(), resource: z.string(), limits: z.number(), capacity: z.number() })),
  }),
  /** The last commands and what became of them; renewals of a throttle that change nothing are left out. */
  history: z.array(
    z.object({ index: z.number(), atMs: z.number(), command: commandSchema, refusal: reasonSchema.nullable() }),
  ),
});
export type State = z.infer<typeof stateSchema>;
