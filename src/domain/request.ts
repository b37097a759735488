/** Requests, as a user sends them (text or numbers) and as they are kept (numbers only). */
import { z } from 'zod';
import { entityName } from './names.ts';
import { policyInputSchema, policySchema } from './policy.ts';
import { durationText } from './units.ts';

const common = {
  ...policyInputSchema.shape,
  /** From the request on, in fleet time; then no new move starts and running ones abort. */
  deadline: durationText.optional(),
  /** The same key again gives the same operation; with other content it is refused. */
  idempotencyKey: z.string().min(1).max(255).optional(),
};

export const evacuateNodeInputSchema = z.strictObject({ host: entityName, ...common });
export type EvacuateNodeInput = z.input<typeof evacuateNodeInputSchema>;

export const loadBalanceInputSchema = z.strictObject({
  moves: z
    .array(z.strictObject({ vm: entityName, to: entityName }))
    .min(1, { error: 'expected at least one move' })
    .max(10_000),
  ...common,
});
export type LoadBalanceInput = z.input<typeof loadBalanceInputSchema>;

const kept = { policy: policySchema, deadlineMs: z.number().positive().nullable() };

export const requestSchema = z.discriminatedUnion('kind', [
  z.strictObject({ kind: z.literal('evacuateNode'), host: entityName, ...kept }),
  z.strictObject({
    kind: z.literal('loadBalance'),
    moves: z.array(z.strictObject({ vm: entityName, to: entityName })),
    ...kept,
  }),
]);
export type OperationRequest = z.infer<typeof requestSchema>;
