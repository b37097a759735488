/** The API's answers, as types: the schemas themselves stay at the server. */
import type { auditPageSchema } from '../../api/schemas/access.ts';
import type { controlOutcomeSchema, meSchema } from '../../api/schemas/common.ts';
import type { changedSchema, hostsSchema, hostWithVmsSchema, vmPageSchema } from '../../api/schemas/fleet.ts';
import type { migrationsSchema } from '../../api/schemas/migrations.ts';
import type {
  acceptedSchema,
  operationEventSchema,
  operationPageSchema,
  planSchema,
} from '../../api/schemas/operations.ts';
import type { policiesSchema } from '../../api/schemas/policies.ts';

/** What a schema lets through. */
type Of<Schema extends { readonly _output: unknown }> = Schema['_output'];

export type { Host, Vm, WhatIf } from '../../api/schemas/fleet.ts';
export type { Migration, ProgressPoint } from '../../api/schemas/migrations.ts';
export type { Operation, OperationSummary } from '../../api/schemas/operations.ts';
export type Me = Of<typeof meSchema>;
export type ControlOutcome = Of<typeof controlOutcomeSchema>;
export type Hosts = Of<typeof hostsSchema>;
export type HostWithVms = Of<typeof hostWithVmsSchema>;
export type VmPage = Of<typeof vmPageSchema>;
export type Migrations = Of<typeof migrationsSchema>;
export type OperationPage = Of<typeof operationPageSchema>;
export type Accepted = Of<typeof acceptedSchema>;
export type Policies = Of<typeof policiesSchema>;
export type Plan = Of<typeof planSchema>;
export type Changed = Of<typeof changedSchema>;
export type OperationEvent = Of<typeof operationEventSchema>;
export type AuditPage = Of<typeof auditPageSchema>;
