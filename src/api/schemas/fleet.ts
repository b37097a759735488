/** Hosts, VMs and what a move would cost, as the API shows them. */
import { z } from 'zod';
import { entityName } from '../../domain/names.ts';
import { policyInput, policySchema } from '../../domain/policy.ts';
import { dirtyWindowSchema, predictionSchema } from '../../domain/prediction.ts';
import { rateText } from '../../domain/units.ts';
import { cursorQuery, limitQuery } from './common.ts';

const direction = z.object({
  capacity: z.number().describe('Bytes per second.'),
  counted: z.number().describe('Of them promised to migrations.'),
});

const overrideSchema = z
  .object({ egress: z.number().optional(), ingress: z.number().optional(), by: z.string(), atMs: z.number() })
  .describe('Capacities that somebody has set in place of those of the fleet file.');

export const hostSchema = z
  .object({
    host: z.string(),
    inventoryAgeMs: z.number().nullable().describe('null: no worker has ever reported.'),
    served: z.boolean().describe('A worker serves it.'),
    cordoned: z.boolean(),
    down: z.boolean().describe('A person has confirmed that it is down for good.'),
    runningVms: z.int(),
    memoryBytes: z.number(),
    memoryUsedBytes: z.number(),
    egress: direction,
    ingress: direction,
    cpus: z.number(),
    links: z.array(z.string()),
    capacityOverride: overrideSchema.nullable(),
  })
  .meta({ id: 'Host' });
export type Host = z.infer<typeof hostSchema>;

export const hostsSchema = z
  .object({ items: z.array(hostSchema), nowMs: z.number().describe('Fleet time.') })
  .meta({ id: 'Hosts' });

export const vmStates = ['running', 'paused', 'incoming', 'postMigrate', 'shutOff'] as const;

export const vmSchema = z
  .object({
    vm: z.string(),
    uuid: z.string(),
    host: z.string(),
    state: z.enum(vmStates),
    cpus: z.number(),
    memoryBytes: z.number(),
    operation: z.string().nullable().describe('The operation that moves it now.'),
  })
  .meta({ id: 'Vm' });
export type Vm = z.infer<typeof vmSchema>;

export const hostWithVmsSchema = hostSchema
  .extend({ vms: z.array(vmSchema), nowMs: z.number() })
  .meta({ id: 'HostWithVms' });

export const vmPageSchema = z.object({ items: z.array(vmSchema), next: z.string().nullable() }).meta({ id: 'VmPage' });

export const vmsQuery = z.strictObject({
  host: entityName.optional().describe('Only those on this host.'),
  name: z.string().min(1).max(255).optional().describe('Only those with this in their name.'),
  limit: limitQuery.optional(),
  cursor: cursorQuery.optional(),
});

export const capacityBody = z
  .strictObject({
    egress: rateText.optional(),
    ingress: rateText.optional(),
  })
  .refine(({ egress, ingress }) => egress !== undefined || ingress !== undefined, {
    error: 'expected egress, ingress or both',
    path: ['egress'],
  });

export function whatIfBody(policies: readonly string[]) {
  return z.strictObject({ to: entityName.optional(), ...policyInput(policies).shape }).optional();
}

const estimateSchema = z.object({ value: z.number().nullable(), low: z.number(), high: z.number().nullable() });
const relaxationSchema = z.object({
  requirement: z.enum(['minCpu', 'maxBandwidth', 'maxTime', 'maxStall']),
  why: z.string(),
});

export const whatIfSchema = z
  .object({
    vm: z.string(),
    host: z.string(),
    destination: z.string().nullable().describe('null: no host takes it now.'),
    destinationWhy: z.string(),
    state: z.enum([...vmStates, 'migrating']),
    migratingTo: z.string().nullable(),
    guest: z.object({
      memoryBytes: z.number(),
      touchedBytes: z.number(),
      demandCores: z.number(),
      handoverMs: z
        .number()
        .optional()
        .describe('What its hypervisor needs for a switchover beside sending the last bytes.'),
    }),
    policy: policySchema,
    path: z.object({
      bytesPerSec: z.number(),
      capacityBytesPerSec: z.number(),
      freeBytesPerSec: z.number(),
      narrowest: z.string(),
      waits: z.boolean(),
    }),
    measured: z.object({
      looks: z.array(dirtyWindowSchema),
      tookMs: z.number(),
      earlierMigrations: z.int(),
    }),
    model: z
      .object({
        rateBytesPerSec: estimateSchema,
        workingSetBytes: estimateSchema,
        pattern: z.enum(['sweep', 'random']).nullable(),
        change: z.object({ atMs: z.number(), what: z.string() }).nullable(),
      })
      .nullable(),
    rows: z.array(
      z.object({
        aggression: z.number().nullable().describe('null: without a throttle.'),
        chosen: z.boolean(),
        share: z.number(),
        begins: z.enum(['now', 'nextPass']),
        prediction: predictionSchema,
        endsInTime: z.number(),
        breaks: z.array(relaxationSchema),
        why: z.string(),
      }),
    ),
    relaxed: z.array(relaxationSchema),
    givesUp: z.string().nullable(),
    bandwidthBytesPerSec: z.number(),
  })
  .meta({ id: 'WhatIf' });
export type WhatIf = z.infer<typeof whatIfSchema>;

/** Data of `event: changed` of the fleet's stream. */
export const changedSchema = z
  .object({
    hosts: z.boolean().optional(),
    operations: z.array(z.string()).optional().describe('Ids of operations of which something has changed.'),
  })
  .meta({ id: 'Changed' });
