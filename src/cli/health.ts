/** The health endpoint of `up`: `GET /healthz` says whether Redis answers and who works. On the loopback address only. */
import { createServer, type Server } from 'node:http';
import { HostevacError } from '../domain/errors.ts';

export interface Health {
  readonly status: 'ok' | 'starting' | 'stopping' | 'degraded';
  readonly redis: 'ok' | 'away' | 'unknown';
  readonly workers: { readonly operations: boolean; readonly hosts: readonly string[] };
}

export interface HealthServer {
  /** `http://127.0.0.1:7460` */
  readonly url: string;
  close(): Promise<void>;
}

const ADDRESS = '127.0.0.1';

/** Listens before anything else is started. Throws `portTaken`. */
export async function serveHealth(port: number, health: () => Promise<Health>): Promise<HealthServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0];
    if (path !== '/healthz') {
      response.writeHead(404, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: { code: 'notFound', message: 'there is only /healthz here' } }));
      return;
    }
    health().then(
      (state) => {
        response.writeHead(state.status === 'ok' ? 200 : 503, {
          'content-type': 'application/json',
          'cache-control': 'no-store',
        });
        response.end(JSON.stringify(state));
      },
      () => {
        response.writeHead(503, { 'content-type': 'application/json', 'cache-control': 'no-store' });
        response.end(
          JSON.stringify({ status: 'degraded', redis: 'unknown', workers: { operations: false, hosts: [] } }),
        );
      },
    );
  });
  await listen(server, port);
  const address = server.address();
  const bound = typeof address === 'object' && address !== null ? address.port : port;
  return {
    url: `http://${ADDRESS}:${bound}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'EADDRINUSE'
          ? 'is already in use (another `hostevac up`?); end that one, or choose another with --port, 0 for any free one'
          : error.code === 'EACCES'
            ? 'may not be used by this user; choose one above 1023 with --port'
            : `cannot be listened on (${error.message}); choose another with --port`;
      reject(
        new HostevacError('portTaken', `port ${port} of ${ADDRESS} ${why}. Nothing was started`, { cause: error }),
      );
    });
    server.listen(port, ADDRESS, resolve);
  });
}
