/** What the load of `npm run bench:api` is told to do, and what it tells of it. */
import { z } from 'zod';

export const ordersSchema = z.object({
  url: z.string(),
  seconds: z.number(),
  perSecond: z.number(),
  /** Read one after the other, over and over. */
  paths: z.array(z.string()),
  /** One follower each. */
  streams: z.array(z.string()),
  /** Of the followers, how many are cut off without a word half way. */
  cut: z.number(),
});
export type LoadOrders = z.infer<typeof ordersSchema>;

export const loadSeenSchema = z.object({
  /** Latency of each read, ms, ascending. */
  latencies: z.array(z.number()),
  /** By status code, or what was wrong. */
  answers: z.record(z.string(), z.number()),
  /** The slowest of each kind of path. */
  slowest: z.record(z.string(), z.number()),
  events: z.number(),
  /** Followers whose stream ended by itself, or never began. */
  lostStreams: z.number(),
  /** How late reads were sent: the load itself could not keep up. */
  latestSendMs: z.number(),
});
export type LoadSeen = z.infer<typeof loadSeenSchema>;
