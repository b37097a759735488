/** The API's answers, as types: the schemas themselves stay at the server. */
import type { z } from 'zod';
import type { auditPageSchema } from '../../api/schemas/access.ts';
import type { controlOutcomeSchema, meSchema } from '../../api/schemas/common.ts';
import type { hostsSchema, hostWithVmsSchema, vmPageSchema } from '../../api/schemas/fleet.ts';
import type { migrationsSchema } from '../../api/schemas/migrations.ts';
import type { acceptedSchema, operationPageSchema, planSchema } from '../../api/schemas/operations.ts';

export type { Host, Vm, WhatIf } from '../../api/schemas/fleet.ts';
export type { Migration, ProgressPoint } from '../../api/schemas/migrations.ts';
export type { Operation, OperationSummary } from '../../api/schemas/operations.ts';
export type Me = z.infer<typeof meSchema>;
export type ControlOutcome = z.infer<typeof controlOutcomeSchema>;
export type Hosts = z.infer<typeof hostsSchema>;
export type HostWithVms = z.infer<typeof hostWithVmsSchema>;
export type VmPage = z.infer<typeof vmPageSchema>;
export type Migrations = z.infer<typeof migrationsSchema>;
export type OperationPage = z.infer<typeof operationPageSchema>;
export type Accepted = z.infer<typeof acceptedSchema>;
export type Plan = z.infer<typeof planSchema>;
export type AuditPage = z.infer<typeof auditPageSchema>;
