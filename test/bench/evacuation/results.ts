/** What was measured, one line for each run; a benchmark that was interrupted goes on where it stopped. */
import { z } from 'zod';
import { appendLine, readLines } from '../json-lines.ts';

export const resultSchema = z.object({
  rule: z.string(),
  /** From 1. */
  run: z.int(),
  at: z.string(),
  machine: z.object({ qemu: z.string(), cpus: z.number(), loopsPerCpuSec: z.number() }),
  /** Every guest has moved, once, and its memory is whole; otherwise the figures are no match for others'. */
  done: z.boolean(),
  /** From the request to the end of the last migration. */
  makespanMs: z.number(),
  /** What all that the guests have in use takes at the least at the host's bandwidth, each page once. */
  leastMs: z.number(),
  /** From the first byte of a migration to the last one. */
  sendingMs: z.number(),
  /** At the interface of the host that was emptied, bytes/s: from the first byte to the last, and the most in any 10 s. */
  meanEgress: z.number(),
  mostEgress: z.number(),
  sentBytes: z.number(),
  /** CPU time that all guests together would have used and did not get. */
  harmCpuMs: z.number(),
  demandCores: z.number(),
  /** By ours, of each guest; others do not say. */
  moves: z
    .array(
      z.object({
        vm: z.string(),
        totalMs: z.number(),
        downtimeMs: z.number(),
        transferredBytes: z.number(),
        minShare: z.number(),
        harmCpuMs: z.number(),
      }),
    )
    .default([]),
  /** What was wrong with guests or memory, and what was said of how it ended; empty: nothing. */
  faults: z.array(z.string()),
  notes: z.array(z.string()),
});
export type Result = z.infer<typeof resultSchema>;
export type Moved = Result['moves'][number];

export function readResults(path: string): Result[] {
  return readLines(path, resultSchema);
}

export function appendResult(path: string, result: Result): void {
  appendLine(path, resultSchema, result);
}
