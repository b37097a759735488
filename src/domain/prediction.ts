/**
 * What a migration will cost, before and while it runs, and how far off that turned out to be. How they are come by is
 * src/convergence.
 */
import { z } from 'zod';

/** `value` is the median; nine of ten outcomes lie from `low` to `high`. */
export const intervalSchema = z.object({ value: z.number(), low: z.number(), high: z.number() });
export type Interval = z.infer<typeof intervalSchema>;

/** What is left of it when so much has passed, never below 0. */
export function less({ value, low, high }: Interval, by: number): Interval {
  const left = (of: number): number => Math.max(0, of - Math.max(0, by));
  return { value: left(value), low: left(low), high: left(high) };
}

/** From the start of the migration to its end, or (while it runs) from now on. Fleet time. */
export const predictionSchema = z.object({
  totalMs: intervalSchema,
  downtimeMs: intervalSchema,
  transferredBytes: intervalSchema,
  /** CPU time that the guest would have used and does not get, its downtime included. */
  harmCpuMs: intervalSchema,
  /** Share of its demand that the guest gets on average, and the least that it is held to. */
  meanShare: z.number(),
  minShare: z.number(),
  /** 0..1: how likely it is to end within the max time, as far as the evidence tells. */
  endsInTime: z.number(),
});
export type Prediction = z.infer<typeof predictionSchema>;

/**
 * One look at how much a guest dirties: the raw material of the model. `cpuMs` is not the length of the look but the CPU
 * time the guest got in it as a share of its demand, so a throttled look and a free one can be compared.
 */
export const dirtyWindowSchema = z.object({
  /** Fleet time of its end. */
  atMs: z.number(),
  /** Integral of the share over the look, ms: its length for a guest that nobody holds back. */
  cpuMs: z.number(),
  /** Different bytes dirtied in it. */
  bytes: z.number(),
  /** Standard error of `bytes`: sampling and rounding. */
  errorBytes: z.number(),
  /** `sampling`: measured by the hypervisor on purpose; `pass`: counted by a migration's pass; `history`: an earlier migration's. */
  source: z.enum(['sampling', 'pass', 'history']),
});
export type DirtyWindow = z.infer<typeof dirtyWindowSchema>;
