/**
 * The guard's socket: who is connected, what each asks, and when nobody needs the guard any more. What is done about it
 * is `throttles.ts` and `gates.ts`.
 */
import { existsSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { HostevacError, reasonOf } from '../../domain/errors.ts';
import type { Gates } from './gates.ts';
import type { Log } from './guard-log.ts';
import { type GuardPlaces, socketFile, withSocketPath } from './places.ts';
import { Lines, PROTOCOL_VERSION, parseJson, type RequestBody, requestSchema, STALE_MS } from './protocol.ts';
import type { Throttles } from './throttles.ts';

const TICK_MS = 50;
/** Without clients and with nothing to guard it ends after this; long enough to serve the commands of one script. */
const IDLE_MS = 5_000;
const MAX_CONNECTIONS = 256;
/** A client says who it is in its first line; one that does not takes a place from others. */
const HELLO_MS = 2_000;
/** Clients that find no place try again many times a second. */
const TELL_AGAIN_MS = 10_000;

interface Connection {
  readonly number: number;
  readonly socket: Socket;
  heardMs: number;
  readonly sinceMs: number;
  /** It has said hello. */
  greeted: boolean;
  /** The client's process, once it has said so. */
  process: { readonly pid: number; readonly startTicks: number } | undefined;
}

export class GuardServer {
  readonly #throttles: Throttles;
  readonly #gates: Gates;
  readonly #places: GuardPlaces;
  readonly #log: Log;
  /** A service manager's: it does not end for want of work. */
  readonly #stays: boolean;
  readonly #server: Server;
  readonly #connections = new Map<number, Connection>();
  #nextNumber = 1;
  /** When a dropped connection was last told of. */
  #toldMs = Number.NEGATIVE_INFINITY;
  #idleSinceMs = performance.now();
  #timer: NodeJS.Timeout | null = null;

  constructor(given: { throttles: Throttles; gates: Gates; places: GuardPlaces; log: Log; stays?: boolean }) {
    this.#stays = given.stays ?? false;
    this.#throttles = given.throttles;
    this.#gates = given.gates;
    this.#places = given.places;
    this.#log = given.log;
    this.#server = createServer((socket) => this.#welcome(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
    this.#server.on('drop', () => this.#dropped());
  }

  /** Resolves when it takes connections. The lock is held: a socket that is there is an ended guard's. */
  listen(): Promise<void> {
    rmSync(socketFile(this.#places), { force: true });
    process.umask(0o177);
    this.#timer = setInterval(() => this.#soon(), TICK_MS);
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject);
      withSocketPath(this.#places, (path) => this.#server.listen(path, () => resolve()));
    });
  }

  /** Restores everything and ends, whatever clients are there. */
  end(reason: string): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    const { failed } = this.#throttles.releaseAll(null);
    for (const { host, vm, message } of failed) this.#log(`ENDS WITHOUT HAVING RESTORED ${host}/${vm}: ${message}`);
    this.#log(`ends: ${reason}`);
    rmSync(socketFile(this.#places), { force: true });
    process.exit(failed.length === 0 ? 0 : 1);
  }

  /** After a stall of this process, first what has arrived meanwhile: a renewal that waits in the socket is in time. */
  #soon(): void {
    setImmediate(() => setImmediate(() => this.#tick()));
  }

  #tick(): void {
    const now = performance.now();
    for (const connection of this.#connections.values()) {
      if (!connection.greeted && now - connection.sinceMs > HELLO_MS) this.#refuse(connection, 'it has not said hello');
    }
    this.#throttles.tick();
    this.#gates.tick();
    const needed = this.#connections.size > 0 || !this.#gates.idle || !this.#throttles.holdsNothing;
    // A journal that cannot be written is tried again for as long as its directory is there.
    if (needed || (!this.#throttles.idle && existsSync(this.#places.dir))) this.#idleSinceMs = now;
    else if (!this.#stays && now - this.#idleSinceMs >= IDLE_MS) this.end('nothing to guard');
  }

  #welcome(socket: Socket): void {
    const connection: Connection = {
      number: this.#nextNumber,
      socket,
      heardMs: performance.now(),
      sinceMs: performance.now(),
      greeted: false,
      process: undefined,
    };
    this.#nextNumber += 1;
    this.#connections.set(connection.number, connection);
    const lines = new Lines(
      (line) => this.#hear(connection, line),
      () => this.#refuse(connection, 'a line is longer than any request'),
    );
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => lines.push(text));
    socket.on('error', (error) => this.#log(`connection ${connection.number}: ${error.message}`));
    socket.on('close', () => {
      this.#connections.delete(connection.number);
      this.#throttles.ownerGone(connection.number);
    });
  }

  #dropped(): void {
    if (performance.now() - this.#toldMs < TELL_AGAIN_MS) return;
    this.#toldMs = performance.now();
    this.#log(`a connection was dropped: ${MAX_CONNECTIONS} are there, which is as many as there may be`);
  }

  #refuse(connection: Connection, why: string): void {
    this.#log(`connection ${connection.number} is ended: ${why}`);
    connection.socket.destroy();
  }

  #hear(connection: Connection, line: string): void {
    if (connection.socket.destroyed) return;
    connection.heardMs = performance.now();
    const request = requestSchema.safeParse(parseJson(line));
    if (!request.success) {
      this.#refuse(connection, `this is no request: ${line.slice(0, 200)}`);
      return;
    }
    const { id, body } = request.data;
    if (body.type === 'beat') return;
    let answer: unknown;
    try {
      answer = { id, ok: this.#answer(connection, body) };
    } catch (error) {
      if (!(error instanceof HostevacError)) this.#log(`${body.type} failed: ${String(error)}`);
      answer = { id, error: reasonOf(error) };
    }
    connection.socket.write(`${JSON.stringify(answer)}\n`);
  }

  #answer(connection: Connection, body: Exclude<RequestBody, { type: 'beat' }>): unknown {
    const { number, process: shownBy } = connection;
    switch (body.type) {
      case 'hello':
        connection.greeted = true;
        connection.process = body.process;
        return { version: PROTOCOL_VERSION, pid: process.pid };
      case 'set':
        return this.#throttles.set(number, body, shownBy) ?? {};
      case 'release':
        return this.#throttles.release(body, shownBy) ?? {};
      case 'look':
        return this.#throttles.look(body);
      case 'probe':
        return this.#throttles.probe(body.tids.length === 0 ? [process.pid] : body.tids) ?? {};
      case 'releaseAll':
        this.#log(`release of ${body.host ?? 'all hosts'} asked for`);
        return this.#throttles.releaseAll(body.host);
      case 'status':
        return { throttles: this.#throttles.status(), gates: this.#gates.status() };
      case 'gate':
        return this.#gates.open(body, () => this.#beats(number)) ?? {};
      case 'abandon':
        return this.#gates.abandon(body) ?? {};
      case 'ungate':
        return this.#gates.close(body) ?? {};
    }
  }

  /** Is this client there and running? */
  #beats(number: number): boolean {
    const connection = this.#connections.get(number);
    return connection !== undefined && performance.now() - connection.heardMs < STALE_MS;
  }
}
