/** What `evacuate --wait -o json` prints, parsed as far as tests look at it. */
import { z } from 'zod';
import { migrationFiguresSchema, moveStates, operationStates, relaxedSchema } from '../../src/domain/operation.ts';
import type { Ended } from '../cli/spawn.ts';

const moveSchema = migrationFiguresSchema.extend({
  vm: z.string(),
  source: z.string(),
  destination: z.string(),
  state: z.enum(moveStates),
  attempts: z.int(),
  relaxed: z.array(relaxedSchema),
  reason: z.string().nullable(),
});

const resultSchema = z.object({
  id: z.string(),
  kind: z.string(),
  state: z.enum(operationStates),
  host: z.string().nullable(),
  makespanMs: z.number(),
  empty: z.boolean().nullable(),
  moves: z.array(moveSchema),
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
  skipped: z.array(z.object({ vm: z.string(), reason: z.string() })),
  blocked: z.array(z.object({ vm: z.string(), reason: z.string() })),
});
export type Result = z.output<typeof resultSchema>;

export function resultOf({ stdout }: Pick<Ended, 'stdout'>): Result {
  return resultSchema.parse(JSON.parse(stdout));
}

export function moveOf(result: Result, vm: string): Result['moves'][number] {
  const move = result.moves.find((one) => one.vm === vm);
  if (move === undefined) throw new Error(`no move of ${vm}: ${JSON.stringify(result)}`);
  return move;
}
