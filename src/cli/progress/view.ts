/** What shows an operation's progress to somebody: a live display, lines, or JSON. `follow.ts` feeds it. */
import type { StoredEvent } from '../../store/event-log.ts';
import type { Snapshot } from './rows.ts';

export interface ProgressView {
  /** `atRealMs`: when it happened, in ms since 1970, whatever clock the fleet has. */
  event(event: StoredEvent, atRealMs: number): void;
  /** A new state of everything, about twice a second. */
  snapshot(snapshot: Snapshot): void;
  /** What the watcher itself has to say: no worker is alive, Redis does not answer. */
  notice(message: string): void;
  /** Takes the display away and gives the terminal back as it was. Harmless twice. */
  close(): void;
}

export const noView: ProgressView = { event() {}, snapshot() {}, notice() {}, close() {} };
