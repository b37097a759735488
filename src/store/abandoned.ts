/**
 * What nobody could see to its end, in one cell that all processes share: moves that ended while a host did not answer, to
 * be looked at again when it does, and hosts that a person has confirmed to be down for good. What is done about them is
 * the workflow's business (migration/abandoned.ts).
 */
import { z } from 'zod';
import { Cell, type CellStore } from './cell.ts';
import type { Fence } from './lease.ts';

const moveSchema = z.object({
  moveId: z.string(),
  operationId: z.string(),
  vm: z.string(),
  uuid: z.string().nullable(),
  source: z.string(),
  destination: z.string(),
  migrateSent: z.boolean(),
});
/** A move that ended without both of its ends having been seen: bandwidth, a copy or a definition may be left of it. */
export type AbandonedMove = z.infer<typeof moveSchema>;

const downSchema = z.object({ by: z.string(), atMs: z.number() });

const stateSchema = z.object({
  /** By move id. */
  moves: z.record(z.string(), moveSchema),
  /** By host. */
  down: z.record(z.string(), downSchema),
});
export type AbandonedState = z.infer<typeof stateSchema>;

/** Woken whenever something was listed, or a host confirmed down. */
export const ABANDONED_TOPIC = 'abandoned';

export class Abandoned {
  readonly #cell: Cell<AbandonedState>;

  constructor(store: CellStore) {
    this.#cell = new Cell(store, 'abandoned', stateSchema, { moves: {}, down: {} }, { topic: ABANDONED_TOPIC });
  }

  read(): Promise<AbandonedState> {
    return this.#cell.read();
  }

  /** Harmless twice. Written before the move's own record says that it has ended. */
  list(move: AbandonedMove, fence: Fence): Promise<void> {
    return this.#cell.update((state) => {
      fence.assertHeld();
      if (JSON.stringify(state.moves[move.moveId]) === JSON.stringify(move)) {
        return { unchanged: true, result: undefined };
      }
      return { value: { ...state, moves: { ...state.moves, [move.moveId]: move } }, result: undefined };
    });
  }

  /** Nothing is left of it. Harmless twice. */
  settled(moveId: string, fence: Fence): Promise<void> {
    return this.#cell.update((state) => {
      fence.assertHeld();
      if (!Object.hasOwn(state.moves, moveId)) return { unchanged: true, result: undefined };
      const { [moveId]: _settled, ...moves } = state.moves;
      return { value: { ...state, moves }, result: undefined };
    });
  }

  /**
   * A person's word that nothing on this host runs, sends or receives any more, and that it does not come back with what it
   * had. True when nobody had said so yet.
   */
  confirmDown(host: string, by: string, atMs: number): Promise<boolean> {
    return this.#cell.update<boolean>((state) => {
      if (Object.hasOwn(state.down, host)) return { unchanged: true, result: false };
      return { value: { ...state, down: { ...state.down, [host]: { by, atMs } } }, result: true };
    });
  }

  /** It answers again, whatever was said of it. True when it had been confirmed down. */
  isBack(host: string): Promise<boolean> {
    return this.#cell.update<boolean>((state) => {
      if (!Object.hasOwn(state.down, host)) return { unchanged: true, result: false };
      const { [host]: _back, ...down } = state.down;
      return { value: { ...state, down }, result: true };
    });
  }

  async isDown(host: string): Promise<boolean> {
    return Object.hasOwn((await this.read()).down, host);
  }
}
