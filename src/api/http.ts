/** The HTTP side of the server: Fastify as it is set up here, TLS, the port, and requests that are no HTTP at all. */
import { readFileSync } from 'node:fs';
import { type Server, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { type FastifyInstance, type FastifyServerOptions, fastify, LogController } from 'fastify';
import type { Logger } from 'pino';
import { type ErrorCode, HostevacError } from '../domain/errors.ts';
import { uriHost } from '../domain/uri-host.ts';
import { PROBLEM_TYPE, problemOf, toHostevacError } from './problem.ts';
import { BODY_LIMIT } from './route.ts';
import { refuse } from './rules.ts';

export interface TlsFiles {
  readonly certPath: string;
  readonly keyPath: string;
}

export interface HttpLimits {
  /** Connections beyond are closed as they come. */
  readonly connections: number;
}

/** Throws `badInput` when certificate or key cannot be used. */
export function openHttp(log: Logger, tls: TlsFiles | undefined, limits: HttpLimits): FastifyInstance {
  const common = {
    loggerInstance: log.child({}, { redact: ['req.headers', 'headers'] }),
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    bodyLimit: BODY_LIMIT,
    // To be sent within this, from its first byte to its last.
    requestTimeout: 30_000,
    keepAliveTimeout: 30_000,
    forceCloseConnections: true,
    // A name may have 255 bytes, each of them encoded.
    routerOptions: { maxParamLength: 1_024 },
    frameworkErrors: (error, _request, reply) => {
      refuse(reply, toHostevacError(error).error);
    },
    clientErrorHandler: refuseSocket,
  } satisfies FastifyServerOptions;
  // One type for both: what differs is the socket, which nobody here looks at.
  const app = (tls === undefined
    ? fastify(common)
    : fastify({ ...common, https: secrets(tls) })) as unknown as FastifyInstance;
  app.server.maxConnections = limits.connections;
  app.server.headersTimeout = 20_000;
  return app;
}

function secrets({ certPath, keyPath }: TlsFiles): { cert: Buffer; key: Buffer; minVersion: 'TLSv1.2' } {
  const read = (path: string, option: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      const message = `cannot be read (${error instanceof Error ? error.message : String(error)})`;
      const remedy = 'name a PEM file that this user may read';
      throw new HostevacError('badInput', `${option} ${path} ${message}; ${remedy}`, {
        problems: [{ path: option, value: JSON.stringify(path), message, remedy }],
        cause: error,
      });
    }
  };
  const files = { cert: read(certPath, '--tls-cert'), key: read(keyPath, '--tls-key') };
  try {
    createSecureContext(files);
  } catch (error) {
    const message = `and ${keyPath} cannot be used together (${error instanceof Error ? error.message : String(error)})`;
    const remedy = 'give a certificate (PEM, with its chain) and the key that it was made for, without a password';
    throw new HostevacError('badInput', `--tls-cert ${certPath} ${message}; ${remedy}`, {
      problems: [{ path: '--tls-cert', value: JSON.stringify(certPath), message, remedy }],
      cause: error,
    });
  }
  return { ...files, minVersion: 'TLSv1.2' };
}

/** What cannot be read as a request is answered in the same form as everything else. */
function refuseSocket(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return;
  const [code, message, status]: [ErrorCode, string, number] =
    error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['badInput', 'the request was not sent in time', 408]
      : error.code === 'HPE_HEADER_OVERFLOW'
        ? ['badInput', 'the headers are larger than is taken here', 431]
        : ['badInput', 'this is no HTTP request that can be read', 400];
  const body = JSON.stringify({ ...problemOf(new HostevacError(code, message)), status });
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    `content-type: ${PROBLEM_TYPE}`,
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ].join('\r\n');
  if (socket.writable) socket.write(`${head}\r\n\r\n${body}`);
  socket.destroy();
}

/** Throws `portTaken`. */
export async function listen(app: FastifyInstance, address: string, port: number): Promise<void> {
  try {
    await app.listen({ port, host: address, listenTextResolver: (at) => `serving ${at}` });
  } catch (error) {
    await app.close();
    const code = error instanceof Error && 'code' in error ? error.code : null;
    const reason = error instanceof Error ? error.message : String(error);
    const why =
      code === 'EADDRINUSE'
        ? 'is already in use (another `hostevac up`?); end that one, or choose another with --port, 0 for any free one'
        : code === 'EACCES'
          ? 'may not be used by this user; choose one above 1023 with --port'
          : `cannot be listened on (${reason}); choose another with --port`;
    throw new HostevacError('portTaken', `port ${port} of ${address} ${why}. Nothing was started`, { cause: error });
  }
}

export function urlOf(app: FastifyInstance, address: string, tls: boolean): string {
  const server: Server = app.server;
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : 0;
  return `${tls ? 'https' : 'http'}://${uriHost(address)}:${port}`;
}
