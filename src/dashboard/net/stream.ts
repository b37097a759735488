/**
 * Follows a stream of server-sent events with `fetch`: an `EventSource` cannot send the token, and a token does not belong
 * into an address. Connects again by itself and goes on behind the last event that it had.
 */
import { EventReader, type ServerEvent } from '../lib/sse.ts';
import { type ApiProblem, problemOf } from './problem.ts';
import { pause, type Server } from './server.ts';

const FIRST_WAIT_MS = 300;
const LONGEST_WAIT_MS = 3_000;

export interface FollowOptions {
  readonly signal: AbortSignal;
  readonly lastId?: string;
  readonly onEvent: (event: ServerEvent) => void;
}

/** Until the signal, or an event `end`. Throws `ApiProblem` where trying again is no use. */
export async function followEvents(server: Server, path: string, options: FollowOptions): Promise<void> {
  let lastId = options.lastId ?? '';
  let wait = FIRST_WAIT_MS;
  while (!options.signal.aborted) {
    const outcome = await readOnce(server, path, lastId, options, () => {
      wait = FIRST_WAIT_MS;
    });
    lastId = outcome.lastId;
    if (outcome.ended) return;
    if (outcome.problem !== null) throw outcome.problem;
    await pause(wait, options.signal);
    wait = Math.min(LONGEST_WAIT_MS, wait * 2);
  }
}

interface Outcome {
  readonly lastId: string;
  readonly ended: boolean;
  readonly problem: ApiProblem | null;
}

async function readOnce(
  server: Server,
  path: string,
  lastId: string,
  options: FollowOptions,
  opened: () => void,
): Promise<Outcome> {
  const reader = new EventReader(lastId);
  let open = false;
  const outcome = (ended: boolean, problem: ApiProblem | null = null): Outcome => ({
    lastId: reader.lastId,
    ended,
    problem,
  });
  try {
    const response = await fetch(path, {
      signal: options.signal,
      cache: 'no-store',
      credentials: 'omit',
      headers: server.headers({ accept: 'text/event-stream', ...(lastId === '' ? {} : { 'last-event-id': lastId }) }),
    });
    if (!response.ok || response.body === null) {
      const problem = problemOf(response.status, await response.text());
      if (response.status < 500 && response.status !== 429) return outcome(false, problem);
      server.lost(problem.message);
      return outcome(false);
    }
    open = true;
    server.heard();
    opened();
    const pieces = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await pieces.read();
      if (done) break;
      server.heard();
      for (const event of reader.push(value)) {
        if (event.event === 'end') return outcome(true);
        options.onEvent(event);
      }
    }
    // The server closed it. That alone says nothing: it is asked anew, and then it answers or does not.
  } catch (error) {
    // Broken while it was read: as if it were closed.
    if (!options.signal.aborted && !open) {
      server.lost(error instanceof TypeError ? 'the server does not answer' : String(error));
    }
  }
  return outcome(false);
}
