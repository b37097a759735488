/** The public library: ask for evacuations and rebalances, follow them, and see what they came to. */

export type {
  Candidate,
  Choice,
  PolicyBehaviour,
  PolicyView,
} from './convergence/policy-behaviour.ts';
export { ERROR_CATALOGUE, type ErrorCode, HostevacError, type Problem, type Reason } from './domain/errors.ts';
export type { Fleet } from './domain/fleet.ts';
export { parseFleet } from './domain/fleet-file.ts';
export type { NonMigratable } from './domain/non-migratable.ts';
export type {
  MoveRecord,
  MoveResult,
  MoveState,
  OperationEvent,
  OperationRecord,
  OperationResult,
  OperationState,
  Proposal,
  ShutdownResult,
} from './domain/operation.ts';
export { POLICY_PRESETS, type Policy, type PolicyInput } from './domain/policy.ts';
export type { Interval, Prediction } from './domain/prediction.ts';
export type { EvacuateNodeInput, LoadBalanceInput } from './domain/request.ts';
export type { CapacityInput } from './queue/capacity.ts';
export { createProducer } from './queue/create-producer.ts';
export type {
  Acceptance,
  ControlOutcome,
  HostStatus,
  OperationHandle,
  PlanPreview,
  Producer,
  ProducerOptions,
  VmStatus,
  WhatIfAnswer,
} from './queue/producer.ts';
export { type LoadedPolicies, loadPolicies } from './runtime/policy-modules.ts';
export type { StoredEvent } from './store/event-log.ts';
export type { OperationsPage } from './store/records.ts';
