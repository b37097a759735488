/** Records as the command line meets them, for tests of what it shows: short to write, complete in type. */
import { type MoveRecord, NO_FIGURES, type OperationRecord, type VmTask } from '../../src/domain/operation.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import type { Prediction } from '../../src/domain/prediction.ts';
import type { HostStatus } from '../../src/queue/producer.ts';

export const MiB = 2 ** 20;
export const GiB = 2 ** 30;

export function task(vm: string, over: Partial<VmTask> = {}): VmTask {
  return {
    vm,
    source: 'node-a',
    wanted: null,
    state: 'queued',
    treatment: null,
    moveIds: [],
    avoid: [],
    needsMove: false,
    retryAtMs: 0,
    reason: null,
    ...over,
  };
}

export function operation(over: Partial<OperationRecord> = {}): OperationRecord {
  return {
    id: 'op-1',
    request: {
      kind: 'evacuateNode',
      host: 'node-a',
      policy: POLICY_PRESETS.maintenance,
      overrides: {},
      deadlineMs: null,
      approveFirst: false,
      nonMigratable: 'block',
      shutdownTimeoutMs: 120_000,
    },
    state: 'running',
    createdAtMs: 1_000,
    startedAtMs: 2_000,
    endedAtMs: null,
    round: 1,
    tasks: [],
    reason: null,
    waitingFor: [],
    waitingSinceMs: null,
    waitingSeenMs: null,
    empty: null,
    proposal: null,
    approvedAtMs: null,
    token: 1,
    ...over,
  };
}

export function move(vm: string, over: Partial<MoveRecord> = {}): MoveRecord {
  return {
    id: `op-1-1-${vm}`,
    kind: 'migration',
    operationId: 'op-1',
    vm,
    uuid: null,
    source: 'node-a',
    destination: 'node-b',
    attempt: 1,
    order: 0,
    headStartMs: 0,
    state: 'precopy',
    step: 'converge',
    reason: null,
    queuedAtMs: 1_000,
    startsNotBeforeMs: null,
    startedAtMs: 2_000,
    endedAtMs: null,
    token: 1,
    askedAtMs: null,
    migrateSent: true,
    account: null,
    progress: {
      pass: 3,
      remainingBytes: 256 * MiB,
      transferredBytes: 3 * GiB,
      totalBytes: GiB,
      rateBytesPerSec: 40 * MiB,
      dirtyRateBytesPerSec: 30 * MiB,
      grantBytesPerSec: 40 * MiB,
      share: 0.4,
      etaMs: 12_000,
      prediction: null,
      decision: 'throttled to 40%: more is dirtied than sent',
    },
    predicted: null,
    evidence: [],
    figures: NO_FIGURES,
    relaxed: [],
    ...over,
  };
}

export function prediction(over: Partial<Prediction> = {}): Prediction {
  return {
    totalMs: { value: 12_000, low: 10_000, high: 15_000 },
    downtimeMs: { value: 210, low: 180, high: 240 },
    transferredBytes: { value: 2 * GiB, low: 1.5 * GiB, high: 3 * GiB },
    harmCpuMs: { value: 3_000, low: 2_000, high: 5_000 },
    meanShare: 0.7,
    minShare: 0.4,
    endsInTime: 1,
    ...over,
  };
}

export function host(name: string, over: Partial<HostStatus> = {}): HostStatus {
  return {
    host: name,
    inventoryAgeMs: 1_000,
    served: true,
    cordoned: false,
    down: false,
    runningVms: 3,
    memoryBytes: 128 * GiB,
    memoryUsedBytes: 32 * GiB,
    egress: { capacity: 100 * MiB, counted: 40 * MiB },
    ingress: { capacity: 100 * MiB, counted: 0 },
    capacityOverride: null,
    ...over,
  };
}
