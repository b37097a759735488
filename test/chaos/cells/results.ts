/** What was seen, one line for each cell that was played, so that a run goes on where it was interrupted. */
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';
import { migrationSteps } from '../../../src/migration/states.ts';

const resultSchema = z.object({
  /** `table` or the seed of a random run. */
  run: z.string(),
  step: z.enum(migrationSteps),
  fault: z.string(),
  moment: z.number(),
  state: z.string(),
  lost: z.array(z.string()),
  problems: z.array(z.string()),
  /** False: in that state there was nothing to strike. */
  hit: z.boolean(),
  missed: z.number(),
  tookMs: z.number(),
});
export type ChaosResult = z.output<typeof resultSchema>;

export function readResults(path: string): ChaosResult[] {
  if (!existsSync(path)) return [];
  return readFileSync(path, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => resultSchema.parse(JSON.parse(line)));
}

export function keepResult(path: string, result: ChaosResult): void {
  mkdirSync(dirname(path), { recursive: true });
  appendFileSync(path, `${JSON.stringify(resultSchema.parse(result))}\n`);
}
