/**
 * A peer on a unix socket that says exactly what a test tells it to, mostly what no QEMU would. It is no stand-in for
 * QEMU: client.qemu.test.ts talks to the real one.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';

export const GREETING =
  '{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10},"package":""},"capabilities":["oob"]}}\r\n';

const commandLine = z
  .object({
    execute: z.string().optional(),
    'exec-oob': z.string().optional(),
    arguments: z.unknown().optional(),
    id: z.string(),
  })
  .transform((line) => ({
    execute: line.execute ?? line['exec-oob'] ?? '',
    outOfBand: line['exec-oob'] !== undefined,
    arguments: line.arguments,
    id: line.id,
  }));
export type Command = z.infer<typeof commandLine>;

export class ScriptedServer {
  readonly path: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'hostevac-qmp-'));
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  connections = 0;

  static async start(onClient: (socket: Socket) => void): Promise<ScriptedServer> {
    const server = new ScriptedServer(onClient);
    await new Promise<void>((resolve) => {
      server.#server.listen(server.path, resolve);
    });
    return server;
  }

  /** Greets, negotiates, and leaves every other command to `onCommand`. */
  static answering(onCommand: (socket: Socket, command: Command) => void): Promise<ScriptedServer> {
    return ScriptedServer.start((socket) => {
      socket.write(GREETING);
      onCommands(socket, (command) => {
        if (command.execute === 'qmp_capabilities') answer(socket, command, {});
        else onCommand(socket, command);
      });
    });
  }

  /** Use `ScriptedServer.start`. */
  constructor(onClient: (socket: Socket) => void) {
    this.path = join(this.#directory, 'qmp.sock');
    this.#server = createServer((socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
      // The client closes on what it hears here, often while more is being written.
      socket.on('error', () => undefined);
      socket.resume();
      onClient(socket);
    });
  }

  /** Connections that the client has not closed. */
  get open(): number {
    return this.#sockets.size;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export function answer(socket: Socket, command: Command, value: unknown): void {
  socket.write(`${JSON.stringify({ return: value, id: command.id })}\r\n`);
}

export function onCommands(socket: Socket, onCommand: (command: Command) => void): void {
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    for (const line of lines) onCommand(commandLine.parse(JSON.parse(line)));
  });
}
