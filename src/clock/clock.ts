/**
 * The port through which workflows see time and chance. Two times: the fleet's (scaled in a simulated fleet; deadlines,
 * budgets, every reported figure) and real monotonic time (leases and locks only).
 */
export interface Clock {
  /** Fleet time, ms. */
  now(): number;
  /** Real monotonic time, ms; comparable between processes of one machine. Keeps running while a process is stopped. */
  monotonic(): number;
  /** Resolves after `ms` of fleet time, or at once when `signal` aborts (it never rejects). */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Resolves after `ms` of real time, or at once when `signal` aborts (it never rejects). */
  sleepReal(ms: number, signal?: AbortSignal): Promise<void>;
  /** Fleet milliseconds in `realMs` real ones. */
  fleetMs(realMs: number): number;
  /** A number in [0, 1), from the run's seed where there is one. */
  random(): number;
}

/** Why a wait of our own is over. An abort without a reason makes an error with a stack each time, which is most of what it costs. */
export const OVER = 'over';
