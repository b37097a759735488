/** What was played, one line for each scenario and seed; a benchmark that was interrupted goes on where it stopped. */
import { z } from 'zod';
import { appendLine, readLines } from '../json-lines.ts';

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
  return readLines(path, resultSchema);
}

export function appendResult(path: string, result: Result): void {
  appendLine(path, resultSchema, result);
}
