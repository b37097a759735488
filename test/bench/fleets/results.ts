/** What was played, one line for each scenario and seed; a benchmark that was interrupted goes on where it stopped. */
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { z } from 'zod';

const resultSchema = z.object({
  scenario: z.string(),
  title: z.string(),
  seed: z.int(),
  hosts: z.int(),
  emptied: z.int(),
  guests: z.int(),
  boundMs: z.number(),
  boundBy: z.string(),
  /** The same for pre-copy that holds every guest at the policy's floor from the first byte. */
  heldMs: z.number(),
  /** What ours took to be played, real time. */
  computeMs: z.number(),
  /** By who did it: `ours`, or a rule's name. */
  outcomes: z.record(
    z.string(),
    z.object({
      done: z.boolean(),
      makespanMs: z.number(),
      harmCpuMs: z.number(),
      longestDowntimeMs: z.number(),
      sentBytes: z.number(),
    }),
  ),
  notes: z.array(z.string()),
});
export type Result = z.infer<typeof resultSchema>;

export function readResults(path: string): Result[] {
  if (!existsSync(path)) return [];
  // What follows the last line's end was cut short.
  const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
  return lines.map((line) => resultSchema.parse(JSON.parse(line)));
}

export function appendResult(path: string, result: Result): void {
  appendFileSync(path, `${JSON.stringify(resultSchema.parse(result))}\n`);
}
