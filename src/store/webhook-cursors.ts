/** How far each webhook's receiver has been told of the fleet's events. */
import { z } from 'zod';
import { Cell, type CellStore } from './cell.ts';
import type { Fence } from './lease.ts';

/** The last event that is done with; null: not begun. */
const cursorSchema = z.object({ after: z.string() }).nullable();
/** A cursor that nobody moves for this long is forgotten. */
const EXPIRES_MS = 30 * 86_400_000;

export class WebhookCursors {
  readonly #cells: CellStore;

  constructor(cells: CellStore) {
    this.#cells = cells;
  }

  /** null: nobody has been told of anything under that name. */
  async read(webhook: string): Promise<string | null> {
    return (await this.#cell(webhook).read())?.after ?? null;
  }

  /** A receiver that is new is told of what comes behind `after`; one that is not goes on where it was. */
  begin(webhook: string, after: string): Promise<string> {
    return this.#cell(webhook).update((cursor) =>
      cursor === null ? { value: { after }, result: after } : { unchanged: true, result: cursor.after },
    );
  }

  async save(webhook: string, after: string, fence: Fence): Promise<void> {
    await this.#cell(webhook).update(() => {
      // A predecessor that comes back late moves nothing.
      fence.assertHeld();
      return { value: { after }, result: undefined };
    });
  }

  #cell(webhook: string): Cell<z.infer<typeof cursorSchema>> {
    return new Cell(this.#cells, `webhook:${webhook}`, cursorSchema, null, { expireMs: () => EXPIRES_MS });
  }
}
