/** What every answer of the API is made of: problems, pages, small answers, and the words of a request's query. */
import { z } from 'zod';
import { roles } from '../../domain/access.ts';
import { ERROR_CATALOGUE, type ErrorCode } from '../../domain/errors.ts';
import { entityName } from '../../domain/names.ts';

const errorCodes = Object.keys(ERROR_CATALOGUE) as [ErrorCode, ...ErrorCode[]];

/** RFC 9457. `problems` lists every fault of the input at once. */
export const problemSchema = z
  .object({
    type: z.string().describe('`urn:hostevac:error:<code>`.'),
    title: z.string().describe('When errors of this code come up.'),
    status: z.int(),
    detail: z.string().describe('What was wrong, with which value, and what to do.'),
    code: z.enum(errorCodes).describe('Never changes its meaning.'),
    problems: z
      .array(
        z.object({
          path: z.string().describe('Where: `overrides.db-1.minCpu`, `query.limit`.'),
          value: z.string().describe('As given, printed; empty when it was missing.'),
          message: z.string(),
          remedy: z.string(),
        }),
      )
      .optional()
      .describe('Every fault of what was sent.'),
  })
  .meta({ id: 'Problem', description: 'An error, as application/problem+json (RFC 9457).' });
export type ProblemBody = z.infer<typeof problemSchema>;

export const controlOutcomeSchema = z
  .object({ changed: z.boolean().describe('False: there was nothing to do.'), message: z.string() })
  .meta({ id: 'ControlOutcome' });

export const meSchema = z
  .object({
    name: z.string(),
    role: z.enum(roles),
    authenticated: z.boolean().describe('False: no tokens are made, and every caller of this machine is an admin.'),
  })
  .meta({ id: 'Me' });

export const healthSchema = z
  .object({
    status: z.enum(['ok', 'starting', 'stopping', 'degraded']),
    redis: z.enum(['ok', 'away', 'unknown']),
    workers: z.object({
      operations: z.boolean(),
      hosts: z
        .array(z.string())
        .optional()
        .describe('That have a worker. Not told to everybody: from elsewhere only with a token.'),
    }),
  })
  .meta({ id: 'Health' });
export type Health = z.infer<typeof healthSchema>;

export const readySchema = z.object({ ready: z.boolean() }).meta({ id: 'Ready' });

const limitText = 'expected a whole number from 1 to 500';

/** Queries are text. */
export const limitQuery = z
  .string()
  .regex(/^[1-9]\d{0,2}$/, { error: limitText })
  .refine((text) => Number(text) <= 500, { error: limitText })
  .meta({ description: 'Entries on a page, from 1 to 500.', examples: ['50'] });
export const cursorQuery = z
  .string()
  .min(1, { error: 'expected the `next` of the page before' })
  .max(600, { error: 'expected the `next` of the page before' })
  .describe('`next` of the page before.');

export const hostParams = z.object({ host: entityName });
export const vmParams = z.object({ vm: entityName });
export const idParams = z.object({ id: z.string().min(1).max(255) });

/** A stream's id: where it goes on. */
export const streamId = z
  .string()
  .regex(/^\d{1,15}-\d{1,15}$/, { error: 'expected the id of an event of this stream such as 1700000000000-0' });
export const lastEventIdHeader = z.object({
  'last-event-id': streamId.optional().describe('Go on behind this event. Without: see the description.'),
});

export const idempotencyHeader = z.object({
  'idempotency-key': z
    .string()
    .min(1)
    .max(255)
    .optional()
    .describe('The same key again gives the same operation; with another content it is refused (409).'),
});

/** What a list gives at most at once. */
export const DEFAULT_LIMIT = 100;
