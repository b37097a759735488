/** Where a worker shows its metrics: `GET /metrics`, and `GET /healthz` that says that the process answers. */
import { createServer, type Server } from 'node:http';
import { HostevacError } from '../domain/errors.ts';
import { uriHost } from '../domain/uri-host.ts';
import type { Metrics } from './create-metrics.ts';

export interface MetricsServer {
  /** `http://127.0.0.1:9461` */
  readonly url: string;
  close(): Promise<void>;
}

/** Throws `portTaken`. */
export async function serveMetrics(
  { port, address }: { readonly port: number; readonly address: string },
  metrics: Pick<Metrics, 'render'>,
): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0];
    const answer = (status: number, type: string, body: string): void => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      answer(405, 'text/plain; charset=utf-8', 'only GET\n');
    } else if (path === '/healthz') {
      answer(200, 'application/json', JSON.stringify({ status: 'ok' }));
    } else if (path === '/metrics') {
      metrics.render().then(
        ({ contentType, body }) => answer(200, contentType, body),
        () => answer(500, 'text/plain; charset=utf-8', 'the metrics could not be read\n'),
      );
    } else {
      answer(404, 'text/plain; charset=utf-8', 'there are only /metrics and /healthz here\n');
    }
  });
  server.requestTimeout = 10_000;
  await listen(server, port, address);
  const bound = server.address();
  const boundPort = typeof bound === 'object' && bound !== null ? bound.port : port;
  return {
    url: `http://${uriHost(address)}:${boundPort}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, port: number, address: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => {
      const what = `port ${port} of ${address} cannot be listened on (${error.message})`;
      const remedy = 'choose another with --metrics-port, 0 for any free one, and an address of this machine';
      reject(new HostevacError('portTaken', `${what}; ${remedy}. Nothing was started`, { cause: error }));
    });
    server.listen(port, address, resolve);
  });
}
