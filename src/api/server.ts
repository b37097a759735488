/**
 * The API server: takes its port first, is given what it needs of Redis later, and says `unavailable` in between. The routes are
 * in `routes/`; here is what holds for all of them.
 */
import swagger from '@fastify/swagger';
import type { FastifyInstance } from 'fastify';
import { createJsonSchemaTransform, jsonSchemaTransformObject } from 'fastify-type-provider-zod';
import type { Logger } from 'pino';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { packageVersion } from '../runtime/package-version.ts';
import type { LoadedPolicies } from '../runtime/policy-modules.ts';
import { needsToken, type TokenTable } from '../store/tokens.ts';
import { Auditor } from './auditor.ts';
import type { Backend } from './backend.ts';
import { Cached } from './cache.ts';
import { ApiContext } from './context.ts';
import { type GuardOptions, isLoopbackName, isStillAdmitted } from './guard.ts';
import { listen, openHttp, type TlsFiles, urlOf } from './http.ts';
import { Reader } from './reader.ts';
import { Recorder } from './recorder.ts';
import { accessRoutes } from './routes/access.ts';
import { fleetRoutes } from './routes/fleet.ts';
import { migrationRoutes } from './routes/migrations.ts';
import { operationRoutes } from './routes/operations.ts';
import { policyRoutes } from './routes/policies.ts';
import { type Metrics, systemRoutes } from './routes/system.ts';
import { applyRules } from './rules.ts';
import type { Health } from './schemas/common.ts';
import { CONTENT_SECURITY_POLICY, serveDashboard } from './static.ts';
import { FleetStreams } from './streams/fleet-streams.ts';
import { StreamHub } from './streams/hub.ts';

export interface ApiLimits {
  /** Requests that one client may make in ten seconds. */
  readonly requestsPer10s: number;
  readonly streams: number;
  readonly streamsPerCaller: number;
  readonly connections: number;
  readonly heartbeatMs: number;
  /** A stream whose client takes nothing for this long is dropped. */
  readonly drainMs: number;
  readonly bufferBytes: number;
}

export const API_LIMITS: ApiLimits = {
  requestsPer10s: 5_000,
  streams: 1_000,
  streamsPerCaller: 200,
  connections: 4_000,
  heartbeatMs: 15_000,
  drainMs: 30_000,
  bufferBytes: 1_024 * 1_024,
};

export interface ApiOptions {
  readonly fleet: Fleet;
  /** Those that a request may use. */
  readonly policies: LoadedPolicies;
  readonly log: Logger;
  readonly health: () => Promise<Health>;
  readonly metrics?: () => Promise<Metrics>;
  /** Default: 127.0.0.1. */
  readonly address?: string;
  readonly port: number;
  readonly tls?: TlsFiles;
  /** Nobody is let in without a token, also while there is none. */
  readonly requireToken?: boolean;
  /** The built dashboard. */
  readonly dashboard: string;
  readonly limits?: Partial<ApiLimits>;
}

export interface ApiServer {
  /** `http://127.0.0.1:7460` */
  readonly url: string;
  readonly app: FastifyInstance;
  readonly hub: StreamHub;
  /** From now on requests are served. Throws `forbidden` when anybody could reach a server that has no tokens. */
  attach(backend: Backend): Promise<void>;
  /** Ends every stream and takes no requests any more; health is still told. */
  detach(): Promise<void>;
  close(): Promise<void>;
}

/** A token that was revoked or made is known of within three times this (real ms). */
const TOKENS_MS = 500;
/** Changes that were begun are answered before the server ends, for so long (real ms). */
const DRAIN_MS = 5_000;

/** Listens before anything else is started. Throws `portTaken`, `badInput`. */
export async function startApi(options: ApiOptions): Promise<ApiServer> {
  const limits = { ...API_LIMITS, ...options.limits };
  const address = options.address ?? '127.0.0.1';
  const report = (error: unknown): void => options.log.warn({ err: error }, 'api');
  const hub = new StreamHub(limits, report);
  const context = new ApiContext({ fleet: options.fleet, policies: options.policies, hub });
  const loopback = isLoopbackName(address);
  const guard = { loopback, tls: options.tls !== undefined, requireToken: options.requireToken === true };
  const auditor = new Auditor(options.log);
  const app = await build(options, context, { guard, auditor, limits });
  let reviewing: NodeJS.Timeout | undefined;
  let summarising: NodeJS.Timeout | undefined;
  const detach = async (): Promise<void> => {
    clearInterval(reviewing);
    clearInterval(summarising);
    const live = context.attached;
    hub.close();
    await context.drain(DRAIN_MS);
    if (live !== null) await auditor.summarise(live, true);
    context.detach();
    live?.fleetStreams.close();
    await live?.recorder.close();
  };
  await listen(app, address, options.port);
  if (!loopback && options.tls === undefined) {
    options.log.warn(
      `${address} can be reached by others, and tokens go over the wire as they are; give --tls-cert and --tls-key, or put a proxy with TLS in front`,
    );
  }
  return {
    url: urlOf(app, address, options.tls !== undefined),
    app,
    hub,
    async attach(backend) {
      if (!loopback && !guard.requireToken && !needsToken(await backend.tokens.read())) throw openToAll(address);
      const reader = new Reader(backend);
      const recorder = new Recorder(backend, report);
      const fleetStreams = new FleetStreams(reader, recorder, report);
      const tokens = new Cached(TOKENS_MS, () => backend.tokens.read());
      const live = { backend, reader, recorder, fleetStreams, tokens };
      let known: TokenTable | null = null;
      context.attach(live);
      recorder.start();
      reviewing = setInterval(() => {
        if (hub.held.streams === 0) return;
        // While Redis is away nobody can tell what has changed: then those who were let in stay until their tokens expire.
        tokens.get().then(
          (table) => {
            known = table;
            hub.review((caller) => isStillAdmitted(caller, table));
          },
          () => hub.review((caller) => known === null || isStillAdmitted(caller, known)),
        );
      }, TOKENS_MS);
      summarising = setInterval(() => void auditor.summarise(live), 60_000);
      summarising.unref();
    },
    detach,
    async close() {
      await detach();
      await app.close();
    },
  };
}

function openToAll(address: string): HostevacError {
  const message = `listening on ${address} lets others than this machine in, and there is no token yet`;
  const remedy = 'make one first: hostevac token create --name me --role admin; or leave out --listen';
  return new HostevacError('badInput', `${message}; ${remedy}`, {
    problems: [{ path: '--listen', value: JSON.stringify(address), message, remedy }],
  });
}

interface Made {
  readonly guard: GuardOptions;
  readonly auditor: Auditor;
  readonly limits: ApiLimits;
}

async function build(
  options: ApiOptions,
  context: ApiContext,
  { guard, auditor, limits }: Made,
): Promise<FastifyInstance> {
  const app = openHttp(options.log, options.tls, limits);
  await applyRules(app, context, { ...guard, log: options.log, auditor, requestsPer10s: limits.requestsPer10s });
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'hostevac',
        version: packageVersion(),
        description:
          'Empties hosts and evens out load by live migration. Times are milliseconds of the fleet (its clock is faster in a simulated ' +
          'fleet), sizes bytes, rates bytes per second, shares 0..1. Errors are application/problem+json.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          bearer: { type: 'http', scheme: 'bearer', description: 'hev_..., made with hostevac token create.' },
        },
      },
    },
    transform: createJsonSchemaTransform({}),
    transformObject: (input) => pruned(jsonSchemaTransformObject(input)),
  });
  const metrics = options.metrics ?? noMetrics;
  await app.register(async (routes) => {
    systemRoutes(routes, context, { health: options.health, metrics, guard });
    accessRoutes(routes, context);
    operationRoutes(routes, context);
    policyRoutes(routes, context);
    migrationRoutes(routes, context);
    fleetRoutes(routes, context);
    await serveDashboard(routes, options.dashboard);
  });
  app.addHook('onSend', async (_request, reply) => {
    reply.header('x-content-type-options', 'nosniff');
    reply.header('referrer-policy', 'no-referrer');
    reply.header('content-security-policy', CONTENT_SECURITY_POLICY);
    if (!reply.hasHeader('cache-control')) reply.header('cache-control', 'no-store');
  });
  await app.ready();
  return app;
}

async function noMetrics(): Promise<Metrics> {
  return { contentType: 'text/plain; version=0.0.4; charset=utf-8', body: '' };
}

type Spec = ReturnType<typeof jsonSchemaTransformObject>;
interface WithSchemas {
  readonly components?: { readonly schemas?: Readonly<Record<string, unknown>> };
}

/** Without the schemas that nothing refers to: each is made twice, for what is sent and for what is answered. */
function pruned(document: Spec): Spec {
  const { components } = document as WithSchemas;
  const schemas: Record<string, unknown> = { ...components?.schemas };
  for (;;) {
    const whole = { ...document, components: { ...components, schemas } };
    const text = JSON.stringify(whole);
    // What streams send is in no answer's schema, but somebody has to be able to look it up.
    const unused = Object.keys(schemas).filter(
      (name) => name.endsWith('Input') && !text.includes(`"#/components/schemas/${name}"`),
    );
    if (unused.length === 0) return whole as unknown as Spec;
    for (const name of unused) delete schemas[name];
  }
}
