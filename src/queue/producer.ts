/**
 * What a program uses to ask for work: maintenance tooling queues evacuations, load balancers queue rebalance moves. A
 * request is kept in Redis before the call returns, whether or not a worker runs.
 */
import type { Telemetry } from 'bullmq';
import type { RedisOptions } from 'ioredis';
import type { DirtyModel, GuestFacts } from '../convergence/dirty-model.ts';
import type { WhatIf } from '../convergence/what-if.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { MoveRecord, OperationRecord, OperationResult } from '../domain/operation.ts';
import type { Policy } from '../domain/policy.ts';
import type { DirtyWindow } from '../domain/prediction.ts';
import type { EvacuateNodeInput, LoadBalanceInput } from '../domain/request.ts';
import type { LoadedPolicies } from '../runtime/policy-modules.ts';
import type { StoredEvent } from '../store/event-log.ts';
import type { OperationsPage } from '../store/records.ts';
import type { CapacityInput } from './capacity.ts';
import type { WhatIfInput } from './what-if.ts';

export interface ProducerOptions {
  /** A Redis URL, a unix socket path, or ioredis options. */
  readonly connection: string | RedisOptions;
  /** Checks host and VM names at once; without it the names are checked against the fleet that workers published. */
  readonly fleet?: Fleet;
  /** What `loadPolicies` made of the fleet's policy modules; without it, requests may name presets only. */
  readonly policies?: LoadedPolicies;
  /** Fleet name, when no `fleet` is given. Default: `default`. */
  readonly fleetName?: string;
  /** BullMQ's telemetry (bullmq-otel): a trace that is active at a request goes on in its operation and its migrations. */
  readonly telemetry?: Telemetry | undefined;
}

/** How a request was taken. */
export type Acceptance = 'created' | 'joined' | 'repeated';

export interface OperationHandle {
  readonly id: string;
  /** `joined`: another evacuation of this host was running; `repeated`: the same idempotency key was used before. */
  readonly acceptance: Acceptance;
  /** What was taken and will most likely not do what was meant (a policy for a VM that is not there), a sentence each. */
  readonly warnings: readonly string[];
  record(): Promise<OperationRecord>;
  /** The current migration of each VM that has one. */
  moves(): Promise<MoveRecord[]>;
  /** Waits for the end. Throws `timeout` after `timeoutMs` (real time); rejects with the signal's reason when it aborts. */
  result(options?: { readonly timeoutMs?: number; readonly signal?: AbortSignal }): Promise<OperationResult>;
  /** Events from the first (or behind `after`) to the operation's end. */
  events(options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<StoredEvent>;
  /** Each says what it did: `already` when there was nothing to do. */
  cancel(): Promise<ControlOutcome>;
  pause(options?: { readonly now?: boolean }): Promise<ControlOutcome>;
  resume(): Promise<ControlOutcome>;
  /**
   * For one that was asked for with `approveFirst`: what its record proposes may be done. `hash`: of the proposal that was seen
   * (default: the one that stands now); when another stands by then, nothing is changed and the message says so.
   */
  approve(hash?: string): Promise<ControlOutcome>;
}
export interface ControlOutcome {
  readonly changed: boolean;
  readonly message: string;
}

/** What the plan of a request would be now; nothing is claimed or changed. */
export interface PlanPreview {
  readonly moves: readonly {
    readonly vm: string;
    readonly source: string;
    readonly destination: string;
    readonly why: string;
  }[];
  /** Cannot be migrated, and would be shut down when the others have left. */
  readonly shutdowns: readonly { readonly vm: string; readonly host: string; readonly why: string }[];
  /** Cannot be migrated, and would be left where they are on purpose. */
  readonly skipped: readonly { readonly vm: string; readonly reason: string }[];
  readonly blocked: readonly { readonly vm: string; readonly reason: string }[];
  /** As on a handle. */
  readonly warnings: readonly string[];
}

/** What a move of one VM would cost now; see `Producer.whatIf`. */
export interface WhatIfAnswer {
  readonly vm: string;
  readonly host: string;
  /** null: no host takes it now; then the widest way out of its host is assumed. */
  readonly destination: string | null;
  readonly destinationWhy: string;
  /** Only one that runs is measured and has rows. */
  readonly state: 'running' | 'paused' | 'shutOff' | 'incoming' | 'postMigrate' | 'migrating';
  readonly migratingTo: string | null;
  readonly guest: GuestFacts;
  readonly policy: Policy;
  readonly path: {
    /** What it would have by itself, before the policy's cap. */
    readonly bytesPerSec: number;
    readonly capacityBytesPerSec: number;
    readonly freeBytesPerSec: number;
    /** What carries least: `egress of a`, `link rack1`. */
    readonly narrowest: string;
    /** Too little is free now: it would wait, and then have the capacity. */
    readonly waits: boolean;
  };
  readonly measured: {
    readonly looks: readonly DirtyWindow[];
    /** Fleet time. */
    readonly tookMs: number;
    /** Of the same VM, also taken into account. */
    readonly earlierMigrations: number;
  };
  /** null: it was not measured. */
  readonly model: Pick<DirtyModel, 'rateBytesPerSec' | 'workingSetBytes' | 'pattern' | 'change'> | null;
  readonly rows: WhatIf['rows'];
  readonly relaxed: WhatIf['relaxed'];
  readonly givesUp: string | null;
  /** What was assumed. */
  readonly bandwidthBytesPerSec: number;
}

/** What a `whatIf` that takes its seconds is doing. */
export interface WhatIfStage {
  readonly kind: 'measuring';
  readonly host: string;
  readonly vm: string;
}

export interface HostStatus {
  readonly host: string;
  /** null: no worker has ever reported. */
  readonly inventoryAgeMs: number | null;
  readonly served: boolean;
  readonly cordoned: boolean;
  /** A person has confirmed that it is down for good; over when it answers. */
  readonly down: boolean;
  readonly runningVms: number;
  readonly memoryBytes: number;
  readonly memoryUsedBytes: number;
  readonly egress: { readonly capacity: number; readonly counted: number };
  readonly ingress: { readonly capacity: number; readonly counted: number };
  /** What a person has set in place of the fleet file's capacity (bytes per second); null: nothing. */
  readonly capacityOverride: {
    readonly egress?: number;
    readonly ingress?: number;
    /** Of the newer of the two. */
    readonly by: string;
    readonly atMs: number;
  } | null;
}

/** A VM where it was last seen. */
export interface VmStatus {
  readonly vm: string;
  readonly uuid: string;
  readonly host: string;
  /** `incoming`, `postMigrate`: what there is of a migration's other end where no copy is seen that runs. */
  readonly state: 'running' | 'paused' | 'incoming' | 'postMigrate' | 'shutOff';
  readonly cpus: number;
  readonly memoryBytes: number;
  /** The operation that moves it, or is about to. */
  readonly operation: string | null;
}

export interface Producer {
  evacuateNode(input: EvacuateNodeInput): Promise<OperationHandle>;
  loadBalance(input: LoadBalanceInput): Promise<OperationHandle>;
  /** What either would do, from the inventories that workers published. */
  preview(request: { evacuateNode: EvacuateNodeInput } | { loadBalance: LoadBalanceInput }): Promise<PlanPreview>;
  /**
   * Looks at the guest now, for about 3 s (fleet time), and predicts what a move would cost at every aggression. Nothing is
   * claimed or changed. Needs the `fleet`, and a worker that serves the VM's host. Throws `badInput`, `unknownVm`,
   * `unknownHost`, `hostUnreachable`.
   */
  whatIf(
    input: WhatIfInput,
    options?: { readonly signal?: AbortSignal; readonly onStage?: (stage: WhatIfStage) => void },
  ): Promise<WhatIfAnswer>;
  /** Throws `unknownOperation`. */
  operation(id: string): Promise<OperationHandle>;
  /**
   * A number (default 50): so many of them, those that have not ended before those that have, each newest first. A page: newest
   * first by when they were asked for, behind the operation `before` (the last of the page before).
   */
  operations(which?: number | OperationsPage): Promise<OperationRecord[]>;
  hosts(): Promise<HostStatus[]>;
  /** Both lists of one moment, for little more than one of them costs. Needs the `fleet`. */
  fleet(): Promise<{ readonly hosts: HostStatus[]; readonly vms: VmStatus[] }>;
  /** Every VM once, by name, as the workers' inventories show it. Empty where no worker has ever run. */
  vms(): Promise<VmStatus[]>;
  /**
   * Another capacity for a host from now on, in force within 2 s, or (null) the fleet file's again; what is not named is the
   * fleet file's. Nothing starts or grows while what is in force is more than that. `by`: who says so. Throws `badInput`,
   * `unknownHost`.
   */
  capacity(host: string, capacity: CapacityInput | null, by: string): Promise<ControlOutcome>;
  /**
   * Every operation's events, as they come, until the signal aborts. `after`: the `streamId` of the last one that was seen
   * here, '0' for all that are kept; without it those from now on. Ids are of the fleet's stream, not of an operation's.
   */
  fleetEvents(options?: { readonly after?: string; readonly signal?: AbortSignal }): AsyncIterable<StoredEvent>;
  /** True while a worker that carries out operations is alive. */
  hasWorkers(): Promise<boolean>;
  cordon(host: string): Promise<ControlOutcome>;
  uncordon(host: string): Promise<ControlOutcome>;
  /**
   * A person's word that this host is down and has been fenced: nothing on it runs, sends or receives, and what was there
   * does not come back. Bandwidth that is counted for it is given back, and what waits for it ends. `by`: who says so.
   * Throws `hostAnswers` when it was seen alive a moment ago, `unknownHost`.
   */
  confirmDown(host: string, by: string): Promise<ControlOutcome>;
  /** Fleet time, for ages and ETAs. */
  now(): Promise<number>;
  close(): Promise<void>;
}
