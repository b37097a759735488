/** One connection of a client to the guard: requests and their answers, beats, its silence, and its end. */
import { connect, type Socket } from 'node:net';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { errnoOf } from '../cgroup/files.ts';
import { type GuardIdentity, isHung } from './identity.ts';
import { type GuardPlaces, withSocketPath } from './places.ts';
import { answerSchema, BEAT_MS, Lines, parseJson, type RequestBody } from './protocol.ts';

/** A guard that nobody asks anything is asked this often whether it still answers. */
const BEATS_PER_PING = 5;

/** The connection ended before the answer came: the guard may have carried it out or not. */
export class ConnectionEnded extends Error {
  override readonly name = 'ConnectionEnded';
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  silentMs: number;
}

/** null: no guard listens. `guard`: read before; a guard that came later is not taken for it. */
export function dial(places: GuardPlaces, guard: GuardIdentity | null): Promise<GuardConnection | null> {
  return new Promise((resolve, reject) => {
    let socket: Socket;
    try {
      socket = withSocketPath(places, (path) => connect(path));
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') resolve(null);
      else reject(error);
      return;
    }
    const onError = (error: Error): void => {
      if (['ENOENT', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'].includes(errnoOf(error))) resolve(null);
      else reject(error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve(new GuardConnection(socket, guard));
    });
  });
}

export class GuardConnection {
  /** At the other end, as far as is known. */
  readonly guard: GuardIdentity | null;
  readonly #socket: Socket;
  readonly #pending = new Map<number, Pending>();
  readonly #beat: NodeJS.Timeout;
  #ping: RequestBody | null = null;
  #beats = 0;
  #hung = false;
  #nextId = 1;
  #ended: string | null = null;
  #onEnd: () => void = () => undefined;

  constructor(socket: Socket, guard: GuardIdentity | null) {
    this.guard = guard;
    this.#socket = socket;
    const lines = new Lines(
      (line) => this.#hear(line),
      () => socket.destroy(new Error('the guard says more than any answer has')),
    );
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => lines.push(text));
    socket.on('error', (error) => {
      this.#ended ??= error.message;
    });
    socket.on('close', () => this.#end());
    // A connection alone is no reason for a process to stay; while an answer is awaited it is.
    socket.unref();
    this.#beat = setInterval(() => this.#onBeat(), BEAT_MS);
    this.#beat.unref();
  }

  get alive(): boolean {
    return !this.#socket.destroyed && this.#socket.writable;
  }

  /** It ended because the guard did not answer. */
  get hung(): boolean {
    return this.#hung;
  }

  /** From now on the guard is asked this whenever it is asked nothing else. */
  pingWith(body: RequestBody): void {
    this.#ping = body;
  }

  onEnd(listener: () => void): void {
    this.#onEnd = listener;
    if (this.#socket.destroyed) listener();
  }

  /**
   * The request is written in the same tick as the call. Throws the guard's own errors, `ConnectionEnded` (also when the
   * guard hangs), and `throttleUnavailable` when it says what no guard says; then the connection is ended.
   */
  async ask<T>(body: RequestBody, answer: z.ZodType<T>): Promise<T> {
    const id = this.#nextId;
    this.#nextId += 1;
    const value = await new Promise<unknown>((resolve, reject) => {
      if (!this.alive) {
        reject(new ConnectionEnded(this.#ended ?? 'ended'));
        return;
      }
      this.#pending.set(id, { resolve, reject, silentMs: 0 });
      this.#socket.ref();
      this.#send(id, body);
    });
    const parsed = answer.safeParse(value);
    if (parsed.success) return parsed.data;
    this.#socket.destroy();
    throw new HostevacError('throttleUnavailable', `the guard answered "${body.type}" with ${JSON.stringify(value)}`);
  }

  /** Resolves when it is closed: the guard restores what was set here. */
  close(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) {
        resolve();
        return;
      }
      this.#socket.once('close', () => resolve());
      this.#socket.ref();
      this.#socket.destroy();
    });
  }

  #onBeat(): void {
    this.#send(0, { type: 'beat' });
    this.#beats += 1;
    for (const [id, pending] of this.#pending) {
      pending.silentMs += BEAT_MS;
      if (isHung(this.guard, pending.silentMs)) this.#giveUpAfterReading(id);
    }
    if (this.#ping !== null && this.#pending.size === 0 && this.#beats % BEATS_PER_PING === 0) {
      // Whatever it says, it answers; an end of the connection is told by `onEnd`.
      void this.ask(this.#ping, z.unknown()).catch(() => undefined);
    }
  }

  /** What has arrived while this process did not run is an answer in time. */
  #giveUpAfterReading(id: number): void {
    setImmediate(() =>
      setImmediate(() => {
        if (!this.#pending.has(id)) return;
        this.#hung = true;
        this.#ended ??= 'the guard does not answer';
        this.#socket.destroy();
      }),
    );
  }

  #send(id: number, body: RequestBody): void {
    if (this.alive) this.#socket.write(`${JSON.stringify({ id, body })}\n`);
  }

  #hear(line: string): void {
    const parsed = answerSchema.safeParse(parseJson(line));
    if (!parsed.success) {
      this.#socket.destroy(new Error(`the guard said ${line.slice(0, 200)}`));
      return;
    }
    const { id, ok, error } = parsed.data;
    const pending = this.#take(id);
    if (error === undefined) pending?.resolve(ok);
    else pending?.reject(new HostevacError(error.code, error.message));
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined) return undefined;
    this.#pending.delete(id);
    if (this.#pending.size === 0) this.#socket.unref();
    return pending;
  }

  #end(): void {
    clearInterval(this.#beat);
    for (const id of [...this.#pending.keys()]) this.#take(id)?.reject(new ConnectionEnded(this.#ended ?? 'it closed'));
    this.#onEnd();
  }
}
