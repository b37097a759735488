/**
 * The port to queue delivery: at least once, in any order, possibly twice at a time. Workflows put work in and are called
 * back; what is true about a VM they find out themselves.
 */
import { z } from 'zod';

/** Job data hold names and numbers, never arguments or paths; the rest is in the records. */
export const moveJobSchema = z.strictObject({ moveId: z.string(), operationId: z.string(), source: z.string() });
export type MoveJob = z.infer<typeof moveJobSchema>;

export interface Delivery {
  /** Puts an operation in the queue; the same id again is harmless. */
  addOperation(operationId: string): Promise<void>;
  /** True while the queue will still deliver it (waiting, delayed or active). */
  hasOperation(operationId: string): Promise<boolean>;
  /** Runs the operation's next round soon, wherever it is parked. Harmless when it is active, ended or unknown. */
  wakeOperation(operationId: string): Promise<void>;
  /** Puts a migration in its source host's queue as a child of its operation; the same id again is harmless. */
  addMove(job: MoveJob): Promise<void>;
  /** Takes a migration that no worker has begun out of its queue. False: it has been begun, or ended, or is unknown. */
  removeMove(job: MoveJob): Promise<boolean>;
  /** True while the queue will still deliver it (waiting, delayed or active). */
  hasMove(job: MoveJob): Promise<boolean>;
}

/** What a round of an operation ends with. */
export type OperationTurn = { readonly ended: true } | { readonly ended: false; readonly againInRealMs: number };

/** What one delivery of a move ends with. */
export type MoveTurn =
  | { readonly kind: 'ended'; readonly failed: string | null }
  /** Deliver it again later (another process drives the VM, or this one is shutting down). */
  | { readonly kind: 'again'; readonly afterRealMs: number; readonly reason: string };

export type OperationHandler = (operationId: string, signal: AbortSignal) => Promise<OperationTurn>;
export type MoveHandler = (job: MoveJob, signal: AbortSignal) => Promise<MoveTurn>;

export interface Consumer {
  /** Takes no new work, aborts what runs, waits for it up to `graceRealMs`, then lets go; the queue delivers it again. */
  close(graceRealMs: number): Promise<void>;
}

export interface DeliveryConsumers {
  consumeOperations(handler: OperationHandler): Promise<Consumer>;
  consumeMoves(host: string, handler: MoveHandler): Promise<Consumer>;
}
