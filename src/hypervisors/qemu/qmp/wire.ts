/**
 * One connected socket on which QMP messages come and go. It knows how long a line may be and what a message looks
 * like, not which one answers which. Closes once, with the reason in words.
 */
import type { Socket } from 'node:net';
import { LineFramer } from './lines.ts';
import { parseMessage, type QmpMessage, quoted } from './messages.ts';

/**
 * The longest honest answer, `query-qmp-schema`, has 302 KB in QEMU 10. Parsed JSON takes up to 30 times its text when
 * it is nothing but brackets: that, not the text, is why the limit is low.
 */
export const MAX_LINE_BYTES = 2 * 1024 * 1024;

export interface WireListener {
  message(message: QmpMessage): void;
  /** Once. Nothing comes after it. */
  ended(why: string): void;
}

export class Wire {
  readonly path: string;
  readonly #socket: Socket;
  readonly #framer = new LineFramer(MAX_LINE_BYTES);
  #listener: WireListener;
  #closedWhy: string | null = null;

  /** The socket is connected and nobody has read from it. */
  constructor(socket: Socket, path: string, listener: WireListener) {
    this.path = path;
    this.#socket = socket;
    this.#listener = listener;
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
    socket.on('end', () => this.close(`it closed the connection${this.#halfLine()}`));
    socket.on('error', (error) => this.close(`the connection broke: ${error.message}`));
  }

  /** Why it is closed; null while it is open. */
  get closedWhy(): string | null {
    return this.#closedWhy;
  }

  /** From now on messages go to another listener. */
  handTo(listener: WireListener): void {
    this.#listener = listener;
  }

  /** What came of a line that has not ended, for a message; empty when there is none. */
  unfinished(): string {
    return this.#framer.unfinishedBytes === 0 ? '' : quoted(this.#framer.unfinished);
  }

  /**
   * The bytes are the kernel's before this returns. When it does not take them at once (QEMU has not read for hundreds
   * of commands) the wire is closed: what Node would send later, nobody has checked a fence for.
   */
  send(text: string): void {
    if (this.#closedWhy !== null) return;
    this.#socket.write(text);
    if (this.#socket.writableLength > 0) this.close('it does not read what is sent to it');
  }

  close(why: string): void {
    if (this.#closedWhy !== null) return;
    this.#closedWhy = why;
    this.#socket.destroy();
    this.#listener.ended(why);
  }

  #read(chunk: Buffer): void {
    for (const line of this.#framer.push(chunk)) {
      if (this.#closedWhy !== null) return;
      if (line !== '') this.#take(line);
    }
    if (this.#framer.overflowed) {
      this.close(`it said a line of more than ${MAX_LINE_BYTES} bytes, which begins ${this.unfinished()}`);
    }
  }

  #take(line: string): void {
    const message = parseMessage(line);
    if (message.kind === 'fault') this.close(`no QMP server says this: ${message.fault}`);
    else this.#listener.message(message);
  }

  #halfLine(): string {
    const half = this.unfinished();
    return half === '' ? '' : ` in the middle of a line that begins ${half}`;
  }
}

/**
 * A process that stood still finds its timers due before it has read what came meanwhile: so the socket is read once
 * more (libuv polls between timers and immediates) before anybody is blamed. Returns how to stop it.
 */
export function afterReading(ms: number, expire: () => void): () => void {
  let immediate: NodeJS.Immediate | undefined;
  const timer = setTimeout(() => {
    immediate = setImmediate(expire);
  }, ms);
  return () => {
    clearTimeout(timer);
    clearImmediate(immediate);
  };
}
