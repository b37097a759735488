/** A receiver of webhooks as somebody else would write it: a plain HTTP server that checks what it gets by itself. */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import { z } from 'zod';

const bodySchema = z.object({
  id: z.string(),
  kind: z.string(),
  fleet: z.string(),
  operation: z.string(),
  vm: z.string().nullable(),
  move: z.string().nullable(),
  message: z.string(),
});

export interface Received extends z.infer<typeof bodySchema> {
  /** As the header has it. */
  readonly eventId: string;
  readonly signed: boolean;
  /** What it was answered. */
  readonly status: number;
  readonly body: string;
}

export class Receiver {
  readonly received: Received[] = [];
  /** What to answer; `hang`: nothing at all. */
  answer: (event: Received) => number | 'hang' = () => 204;
  readonly #server: Server;
  readonly #secret: string;

  private constructor(server: Server, secret: string) {
    this.#server = server;
    this.#secret = secret;
  }

  static async start(secret: string, port = 0): Promise<Receiver> {
    const server = createServer();
    const receiver = new Receiver(server, secret);
    server.on('request', (request, response) => {
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const status = receiver.#take(Buffer.concat(chunks).toString(), request.headers);
        if (status === 'hang') return;
        response.writeHead(status, status >= 300 && status < 400 ? { location: `${receiver.url}elsewhere` } : {});
        response.end('thank you');
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(port, '127.0.0.1', resolve);
    });
    return receiver;
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}/`;
  }

  /** Those that it took, each id once, as it saw them first. */
  get taken(): Received[] {
    const seen = new Set<string>();
    return this.received.filter(({ status, id }) => status === 204 && !seen.has(id) && seen.add(id));
  }

  async close(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
  }

  #take(body: string, headers: NodeJS.Dict<string | string[]>): number | 'hang' {
    const [, at = '', given = ''] = /^t=(\d+),v1=([0-9a-f]{64})$/.exec(String(headers['hostevac-signature'])) ?? [];
    const wanted = createHmac('sha256', this.#secret).update(`${at}.${body}`).digest();
    const fresh = Math.abs(Date.now() / 1_000 - Number(at)) < 60;
    const signed = given !== '' && fresh && timingSafeEqual(wanted, Buffer.from(given, 'hex'));
    const event = {
      ...bodySchema.parse(JSON.parse(body)),
      eventId: String(headers['hostevac-event-id']),
      signed,
      body,
    };
    const status = this.answer({ ...event, status: 0 });
    this.received.push({ ...event, status: status === 'hang' ? 0 : status });
    return status;
  }
}
