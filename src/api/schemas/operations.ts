/** Operations, plans and what is asked for, as the API takes and shows them. */
import { z } from 'zod';
import {
  ENDED_MOVE_STATES,
  eventSchema,
  GONE_MOVE_STATES,
  type MoveState,
  migrationFiguresSchema,
  moveStates,
  type OperationRecord,
  type OperationResult,
  operationRecordSchema,
  operationStates,
  relaxedSchema,
} from '../../domain/operation.ts';
import { intervalSchema, predictionSchema } from '../../domain/prediction.ts';
import { evacuateNodeInput, hostOfRequest, loadBalanceInput } from '../../domain/request.ts';
import { cursorQuery, limitQuery } from './common.ts';

const kinds = ['evacuateNode', 'loadBalance'] as const;

/** `policies`: the names that may be used. The idempotency key is a header. */
export function evacuationBody(policies: readonly string[]) {
  return evacuateNodeInput(policies).omit({ idempotencyKey: true });
}
export function rebalanceBody(policies: readonly string[]) {
  return loadBalanceInput(policies).omit({ idempotencyKey: true });
}
export function planBody(policies: readonly string[]) {
  return z.union([
    z.strictObject({ evacuateNode: evacuationBody(policies) }),
    z.strictObject({ loadBalance: rebalanceBody(policies) }),
  ]);
}
export const pauseBody = z
  .strictObject({ now: z.boolean().optional().describe('Running migrations are cancelled, too, and queued again.') })
  .optional();

export const approveBody = z.strictObject({
  hash: z
    .string({ error: "expected the `hash` of the operation's proposal" })
    .max(255)
    .describe('Of the proposal that was seen: another one is not approved.'),
});

const left = z.object({ vm: z.string(), reason: z.string() });

const moveResultSchema = migrationFiguresSchema.extend({
  vm: z.string(),
  source: z.string(),
  destination: z.string(),
  state: z.enum(moveStates),
  attempts: z.int(),
  predicted: z
    .object({ totalMs: z.number(), downtimeMs: z.number(), harmCpuMs: z.number(), intervals: predictionSchema })
    .nullable(),
  predictionError: z.object({ totalMs: z.number(), downtimeMs: z.number(), harmCpuMs: z.number() }).nullable(),
  relaxed: z.array(relaxedSchema),
  reason: z.string().nullable(),
});

export const operationResultSchema = z
  .object({
    id: z.string(),
    kind: z.enum(kinds),
    state: z.enum(operationStates),
    host: z.string().nullable(),
    makespanMs: z.number(),
    empty: z.boolean().nullable(),
    moves: z.array(moveResultSchema),
    shutdowns: z.array(
      z.object({
        vm: z.string(),
        host: z.string(),
        state: z.enum(moveStates),
        attempts: z.int(),
        tookMs: z.number().nullable(),
        reason: z.string().nullable(),
      }),
    ),
    skipped: z.array(left),
    blocked: z.array(left),
  })
  .meta({ id: 'OperationResult' });

const shown = operationRecordSchema.omit({ token: true });
const common = {
  kind: z.enum(kinds),
  host: z.string().nullable().describe('The host that is emptied; null for a rebalance.'),
};

export const operationSchema = shown
  .extend({
    ...common,
    etaMs: intervalSchema
      .nullable()
      .describe('From now on, fleet time: nine of ten outcomes lie between the bounds. null: nobody can tell.'),
    nowMs: z.number().describe('Fleet time.'),
    result: operationResultSchema.nullable().describe('Once it has ended.'),
  })
  .meta({ id: 'Operation' });
export type Operation = z.infer<typeof operationSchema>;

const countsSchema = z.object({
  total: z.int(),
  done: z.int().describe('Moved, shut off, or skipped on purpose.'),
  running: z.int(),
  queued: z.int(),
  failed: z.int().describe('Failed, blocked or cancelled.'),
});

export const operationSummarySchema = shown
  .pick({
    id: true,
    state: true,
    createdAtMs: true,
    startedAtMs: true,
    endedAtMs: true,
    reason: true,
    waitingFor: true,
    empty: true,
  })
  .extend({ ...common, policy: z.string(), vms: countsSchema })
  .meta({ id: 'OperationSummary' });
export type OperationSummary = z.infer<typeof operationSummarySchema>;

export const operationPageSchema = z
  .object({ items: z.array(operationSummarySchema), next: z.string().nullable() })
  .meta({ id: 'OperationPage' });

export const operationsQuery = z.strictObject({
  limit: limitQuery.optional(),
  cursor: cursorQuery.optional(),
  state: z
    .enum(operationStates, { error: `expected one of ${operationStates.join(', ')}` })
    .optional()
    .describe('Only those in this state.'),
});

export const acceptedSchema = z
  .object({
    id: z.string(),
    acceptance: z
      .enum(['created', 'joined', 'repeated'])
      .describe('`joined`: an evacuation of this host was running; `repeated`: the key was used before.'),
    warnings: z.array(z.string()),
    operation: operationSchema
      .nullable()
      .describe('null: it was taken, and cannot be shown just now; ask for it by its id.'),
  })
  .meta({ id: 'Accepted' });

export const planSchema = z
  .object({
    moves: z.array(z.object({ vm: z.string(), source: z.string(), destination: z.string(), why: z.string() })),
    shutdowns: z.array(z.object({ vm: z.string(), host: z.string(), why: z.string() })),
    skipped: z.array(left),
    blocked: z.array(left),
    warnings: z.array(z.string()),
  })
  .meta({ id: 'PlanPreview' });

/** Data of an operation's events. */
export const operationEventSchema = eventSchema.meta({ id: 'OperationEvent' });
export function operationOf(
  { token: _token, ...record }: OperationRecord,
  rest: Pick<Operation, 'etaMs' | 'nowMs'> & { readonly result: OperationResult | null },
): Operation {
  const result = rest.result === null ? null : operationResultSchema.parse(rest.result);
  return { ...record, kind: record.request.kind, host: hostOfRequest(record.request), ...rest, result };
}

const SETTLED: ReadonlySet<MoveState> = new Set([...GONE_MOVE_STATES, 'skipped']);

export function summaryOf(record: OperationRecord): OperationSummary {
  const vms = { total: record.tasks.length, done: 0, running: 0, queued: 0, failed: 0 };
  for (const { state } of record.tasks) {
    const ended = SETTLED.has(state) ? 'done' : ENDED_MOVE_STATES.has(state) ? 'failed' : null;
    vms[ended ?? (state === 'queued' ? 'queued' : 'running')] += 1;
  }
  const { id, state, createdAtMs, startedAtMs, endedAtMs, reason, waitingFor, empty, request } = record;
  return {
    id,
    kind: request.kind,
    host: hostOfRequest(record.request),
    state,
    createdAtMs,
    startedAtMs,
    endedAtMs,
    reason,
    waitingFor,
    empty,
    policy: request.policy.name,
    vms,
  };
}
