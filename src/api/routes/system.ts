/** What monitors and people look at first: health, metrics, the API's own document. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { settledWithin } from '../../clock/abortable-sleep.ts';
import type { ApiContext } from '../context.ts';
import { DOCS_STYLE, docsPage } from '../docs-page.ts';
import { type GuardOptions, isFamiliar } from '../guard.ts';
import { addRoute } from '../route.ts';
import { type Health, healthSchema, readySchema } from '../schemas/common.ts';

export interface Metrics {
  readonly contentType: string;
  readonly body: string;
}

export interface SystemOptions {
  readonly health: () => Promise<Health>;
  readonly metrics: () => Promise<Metrics>;
  readonly guard: GuardOptions;
}

const tag = 'system';
/** Redis answers within this, or it is away. */
const READY_MS = 2_000;

export function systemRoutes(app: FastifyInstance, context: ApiContext, options: SystemOptions): void {
  const recent = recentHealth(context, options.health);

  addRoute(app, {
    method: 'GET',
    url: '/healthz',
    role: 'none',
    unlimited: true,
    tag,
    summary: 'How this process and its workers are',
    answers: { 200: healthSchema, 503: healthSchema },
    handle: async ({ request, reply }) => {
      const { workers, ...health } = await recent();
      // Who a fleet's hosts are is not for everybody.
      const sent = request.headers.authorization !== undefined && context.attached !== null;
      const table = sent ? await context.attached.tokens.get().catch(() => null) : null;
      const { hosts, ...rest } = workers;
      const shown = isFamiliar(request, table, options.guard) ? { ...rest, hosts } : rest;
      return reply
        .code(health.status === 'ok' ? 200 : 503)
        .header('cache-control', 'no-store')
        .send({ ...health, workers: shown });
    },
  });

  addRoute(app, {
    method: 'GET',
    url: '/readyz',
    role: 'none',
    unlimited: true,
    tag,
    summary: 'Whether requests can be taken: Redis answers',
    answers: { 200: readySchema, 503: readySchema },
    handle: async ({ reply }) => {
      const ready = await isReady(context);
      return reply
        .code(ready ? 200 : 503)
        .header('cache-control', 'no-store')
        .send({ ready });
    },
  });

  addRoute(app, {
    method: 'GET',
    url: '/metrics',
    role: 'viewer',
    tag,
    summary: 'Metrics for Prometheus',
    contentType: 'text/plain',
    answers: { 200: z.string().describe('Text format of Prometheus.') },
    handle: async ({ reply }) => {
      const { contentType, body } = await options.metrics();
      return reply.type(contentType).send(body);
    },
  });

  addRoute(app, {
    method: 'GET',
    url: '/openapi.json',
    role: 'none',
    tag,
    summary: 'This API as an OpenAPI 3.1 document',
    answers: { 200: z.record(z.string(), z.unknown()).describe('The document.') },
    handle: async ({ reply }) => reply.send(app.swagger()),
  });

  const page = (): string => docsPage(app.swagger());
  let shown: string | null = null;
  app.get('/docs', { schema: { hide: true }, config: { role: 'none' } }, async (_request, reply) => {
    shown ??= page();
    return reply.type('text/html; charset=utf-8').send(shown);
  });
  app.get('/docs/style.css', { schema: { hide: true }, config: { role: 'none' } }, async (_request, reply) =>
    reply.type('text/css; charset=utf-8').send(DOCS_STYLE),
  );
}

/** Health as it was at most so long ago (real ms): anybody may ask for it, as often as they like. */
const HEALTH_MS = 500;

function recentHealth(context: ApiContext, read: () => Promise<Health>): () => Promise<Health> {
  let known: { readonly health: Promise<Health>; readonly atMs: number; readonly of: unknown } | null = null;
  return () => {
    const nowMs = performance.now();
    const of = context.attached;
    if (known === null || known.of !== of || nowMs - known.atMs > HEALTH_MS)
      known = { health: read(), atMs: nowMs, of };
    return known.health;
  };
}

async function isReady({ attached }: ApiContext): Promise<boolean> {
  if (attached === null) return false;
  const answered = attached.backend.redis.ping().then(
    () => true,
    () => false,
  );
  return (await settledWithin(answered, READY_MS))?.value ?? false;
}
