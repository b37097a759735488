/**
 * Server-sent events to one client. A client that does not read is dropped: nothing is written while what was written before
 * is not on its way, and that may take so long and no longer.
 */
import type { ServerResponse } from 'node:http';
import type { Followed } from './tail.ts';

export interface SseLimits {
  /** A client that has taken nothing for this long (real ms) is dropped. */
  readonly drainMs: number;
  /** One that has this much before it (bytes) is dropped at once. */
  readonly bufferBytes: number;
}

export class SseStream {
  readonly #raw: ServerResponse;
  readonly #limits: SseLimits;
  readonly #gone = new AbortController();
  /** Frames that are not on their way yet. */
  #pending = 0;
  #stuck: NodeJS.Timeout | undefined;
  readonly closed: Promise<void>;

  constructor(raw: ServerResponse, headers: Readonly<Record<string, string | number | string[]>>, limits: SseLimits) {
    this.#raw = raw;
    this.#limits = limits;
    this.closed = new Promise((resolve) => {
      const over = (): void => {
        this.#gone.abort();
        clearTimeout(this.#stuck);
        resolve();
      };
      raw.once('close', over);
      raw.once('error', over);
      // It may have gone while its request was looked at.
      if (raw.closed || raw.destroyed) over();
    });
    raw.writeHead(200, {
      ...headers,
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // For proxies that collect what they pass on.
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
      connection: 'keep-alive',
    });
    raw.socket?.setNoDelay(true);
    raw.flushHeaders();
  }

  /** Aborts when the client has gone, or the stream was ended. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  /** True while nothing waits to be sent. */
  get idle(): boolean {
    return !this.#gone.signal.aborted && this.#raw.writableLength === 0;
  }

  write(frame: string): void {
    if (this.#gone.signal.aborted) return;
    this.#send(frame);
    if (this.#raw.writableLength > this.#limits.bufferBytes) this.drop();
  }

  /** Resolves when more may be written, or the client has gone. */
  async drained(): Promise<void> {
    if (this.#gone.signal.aborted || !this.#raw.writableNeedDrain) return;
    const { signal } = this.#gone;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(() => this.drop(), this.#limits.drainMs);
      const done = (): void => {
        clearTimeout(timer);
        this.#raw.off('drain', done);
        signal.removeEventListener('abort', done);
        resolve();
      };
      this.#raw.once('drain', done);
      signal.addEventListener('abort', done, { once: true });
    });
  }

  /** Keeps the connection, and shows whether there still is one. */
  heartbeat(): void {
    if (this.idle) this.#send(':\n\n');
  }

  /** However little it is: when nothing of it leaves for too long, nobody takes it. */
  #send(frame: string): void {
    this.#pending += 1;
    this.#stuck ??= this.#watch();
    this.#raw.write(frame, () => {
      this.#pending -= 1;
      if (this.#pending > 0) {
        this.#stuck?.refresh();
        return;
      }
      clearTimeout(this.#stuck);
      this.#stuck = undefined;
    });
  }

  #watch(): NodeJS.Timeout {
    return setTimeout(() => this.drop(), this.#limits.drainMs).unref();
  }

  end(): void {
    this.#gone.abort();
    if (this.#raw.writableEnded) return;
    this.#raw.end();
    // One that does not even take the end.
    const late = setTimeout(() => this.#raw.destroy(), this.#limits.drainMs);
    late.unref();
    this.#raw.once('close', () => clearTimeout(late));
  }

  drop(): void {
    this.#gone.abort();
    this.#raw.destroy();
  }
}

/** One event as it goes over the wire. */
export function frameOf(event: { readonly event: string; readonly data: unknown; readonly id?: string }): string {
  const id = event.id === undefined ? '' : `id: ${event.id}\n`;
  return `${id}event: ${event.event}\ndata: ${JSON.stringify(event.data)}\n\n`;
}

export const END_FRAME = frameOf({ event: 'end', data: {} });

/** Writes what is followed until it ends or the client goes. */
export async function pump<Position>(
  stream: SseStream,
  followed: Followed<Position>,
  position: Position,
): Promise<void> {
  let at = position;
  while (!stream.signal.aborted) {
    const step = await followed.next(at, stream.signal);
    at = step.position;
    for (const frame of step.frames) {
      stream.write(frame);
      await stream.drained();
    }
    if (step.ended) {
      stream.write(END_FRAME);
      break;
    }
  }
  stream.end();
}
