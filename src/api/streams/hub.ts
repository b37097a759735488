/**
 * All streams of this process: how many there are, the heart that beats for all of them, and one tail for each thing that is
 * followed, which lives as long as somebody follows it.
 */
import type { FastifyReply } from 'fastify';
import { HostevacError } from '../../domain/errors.ts';
import type { Caller } from '../guard.ts';
import { pump, SseStream } from './sse.ts';
import { type Followed, Tail, type TailSource } from './tail.ts';

export interface HubLimits {
  readonly streams: number;
  /** Of one token; where nobody needs one, who is on this machine may have all of them. */
  readonly streamsPerCaller: number;
  readonly heartbeatMs: number;
  readonly drainMs: number;
  readonly bufferBytes: number;
}

interface Shared {
  readonly tail: Tail;
  followers: number;
}

export class StreamHub {
  readonly #limits: HubLimits;
  readonly #open = new Map<SseStream, Caller | null>();
  readonly #tails = new Map<string, Shared>();
  readonly #heart: NodeJS.Timeout;
  readonly #report: (error: unknown) => void;
  #closing = false;

  constructor(limits: HubLimits, report: (error: unknown) => void) {
    this.#limits = limits;
    this.#report = report;
    this.#heart = setInterval(() => {
      for (const stream of this.#open.keys()) stream.heartbeat();
    }, limits.heartbeatMs);
    this.#heart.unref();
  }

  /** For metrics and tests: what is held now. */
  get held(): { readonly streams: number; readonly tails: number } {
    return { streams: this.#open.size, tails: this.#tails.size };
  }

  /** Throws `unavailable` when there are as many as are served, `tooManyRequests` when the caller has as many as it may. */
  mustHaveRoom(caller: Caller | null): void {
    if (this.#closing) throw new HostevacError('unavailable', 'the server is ending; connect again in a moment');
    if (this.#open.size >= this.#limits.streams) {
      const message = `${this.#limits.streams} streams are open, which is as many as this server serves; close some, or try again later`;
      throw new HostevacError('unavailable', message);
    }
    if (caller === null || caller.tokenId === null) return;
    const own = [...this.#open.values()].filter((other) => other?.tokenId === caller.tokenId).length;
    if (own >= this.#limits.streamsPerCaller) {
      const message = `the token "${caller.name}" has ${own} streams open, which is as many as one may have; close some`;
      throw new HostevacError('tooManyRequests', message);
    }
  }

  /** Takes the answer over and follows until one of the two ends. `onOpen` may do with the stream what it wants beside. */
  serve<Position>(
    reply: FastifyReply,
    followed: Followed<Position>,
    position: Position,
    onOpen: (stream: SseStream) => () => void = () => () => undefined,
  ): void {
    this.mustHaveRoom(reply.request.caller);
    const headers = Object.fromEntries(
      Object.entries(reply.getHeaders()).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
    );
    reply.hijack();
    const stream = new SseStream(reply.raw, headers, this.#limits);
    this.#open.set(stream, reply.request.caller);
    const onGone = onOpen(stream);
    stream.closed.then(() => {
      this.#open.delete(stream);
      onGone();
    }, this.#report);
    pump(stream, followed, position).catch((error: unknown) => {
      this.#report(error);
      stream.drop();
    });
  }

  /** The tail of this key, made if need be; `release` once for each call. */
  tail(key: string, make: () => { source: TailSource; from: string }): { tail: Tail; release: () => void } {
    let shared = this.#tails.get(key);
    if (shared === undefined) {
      const { source, from } = make();
      shared = { tail: new Tail(source, from, this.#report), followers: 0 };
      this.#tails.set(key, shared);
    }
    const held = shared;
    held.followers += 1;
    let released = false;
    return {
      tail: held.tail,
      release: () => {
        if (released) return;
        released = true;
        held.followers -= 1;
        if (held.followers > 0) return;
        held.tail.close();
        if (this.#tails.get(key) === held) this.#tails.delete(key);
      },
    };
  }

  /** Ends the streams of those who would not be let in any more. */
  review(isAdmitted: (caller: Caller) => boolean): void {
    for (const [stream, caller] of this.#open) if (caller !== null && !isAdmitted(caller)) stream.end();
  }

  /** Ends every stream; clients connect again. */
  close(): void {
    this.#closing = true;
    clearInterval(this.#heart);
    for (const stream of this.#open.keys()) stream.end();
    for (const { tail } of this.#tails.values()) tail.close();
    this.#tails.clear();
  }
}
