/** A migration (one move of one VM, one attempt) and its progress, as the API shows them. */
import { z } from 'zod';
import { type MoveRecord, moveRecordSchema, moveStates, progressSchema } from '../../domain/operation.ts';

export const migrationSchema = moveRecordSchema
  .omit({ token: true, account: true, evidence: true })
  .meta({ id: 'Migration', description: 'One move being carried out. Times are fleet time in ms.' });
export type Migration = z.infer<typeof migrationSchema>;

export function migrationOf({ token: _token, account: _account, evidence: _evidence, ...move }: MoveRecord): Migration {
  return move;
}

export const migrationsSchema = z
  .object({
    items: z.array(migrationSchema).describe('The current one of each VM first, then earlier attempts.'),
    nowMs: z.number().describe('Fleet time.'),
  })
  .meta({ id: 'Migrations' });

/** Data of `event: progress`. */
export const progressPointSchema = z
  .object({
    atMs: z.number().describe('Fleet time.'),
    state: z.enum(moveStates),
    progress: progressSchema.nullable(),
  })
  .meta({ id: 'ProgressPoint' });
export type ProgressPoint = z.infer<typeof progressPointSchema>;
