/** Progress without a terminal: a line per event, and per running migration every few seconds. What a line says: `lines.ts`. */
import type { StoredEvent } from '../../store/event-log.ts';
import { eventLine, noticeLine, progressLine, proposalLines } from './lines.ts';
import { type Snapshot, vmRows } from './rows.ts';
import type { ProgressView } from './view.ts';

const PROGRESS_EVERY_MS = 5_000;

export interface PlainViewOptions {
  readonly operationId: string;
  readonly write: (line: string) => void;
  /** Real time, ms since 1970. */
  readonly now: () => number;
}

export function plainView({ operationId, write, now }: PlainViewOptions): ProgressView {
  const time = (atMs = now()): string => new Date(atMs).toISOString();
  /** Real time at which each running migration last had its line. */
  const last = new Map<string, number>();
  let proposed: string | null = null;
  return {
    event(event: StoredEvent, atRealMs: number) {
      write(eventLine(event, time(atRealMs)));
    },
    snapshot(snapshot: Snapshot) {
      const at = now();
      const { proposal } = snapshot.record;
      if (proposal !== null && proposal.hash !== proposed) {
        for (const line of proposalLines(operationId, proposal, time())) write(line);
      }
      proposed = proposal?.hash ?? null;
      const running = vmRows(snapshot.record, snapshot.moves).filter((row) => row.progress !== null);
      for (const vm of last.keys()) if (!running.some((row) => row.vm === vm)) last.delete(vm);
      for (const row of running) {
        const since = last.get(row.vm);
        if (since === undefined) last.set(row.vm, at);
        else if (at - since >= PROGRESS_EVERY_MS) {
          last.set(row.vm, at);
          write(progressLine(operationId, row, time()));
        }
      }
    },
    notice(message: string) {
      write(noticeLine(operationId, message, time()));
    },
    close() {},
  };
}
