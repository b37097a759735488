/**
 * What holds for every request: who is let in, how input is read and checked, what an error looks like, what the audit log is
 * told. Secrets stay out of logs: a request's headers are never logged.
 */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { AuditEntry } from '../domain/access.ts';
import { HostevacError } from '../domain/errors.ts';
import { badInput, problemsOf } from '../domain/problems.ts';
import type { ApiContext } from './context.ts';
import { admit, type GuardOptions } from './guard.ts';
import { PROBLEM_TYPE, problemOf, toHostevacError } from './problem.ts';

interface Rules extends GuardOptions {
  readonly log: Logger;
}

export function applyRules(app: FastifyInstance, context: ApiContext, rules: Rules): void {
  app.decorateRequest('caller', null);
  app.decorateRequest('audited');
  const paths = new Paths();
  const strangers = new Strangers();
  app.addHook('onRoute', ({ method, url }) => paths.add(url, method));
  readBodies(app);
  checkInput(app);

  app.addHook('onRequest', async (request) => {
    request.audited = {};
    const { role = 'none', always = false } = request.routeOptions.config;
    if (always || request.is404) return;
    const live = context.attached;
    if (live === null) {
      // Pages and their files need nothing; everything else needs Redis.
      if (role === 'none') return;
      context.live();
      return;
    }
    request.caller = admit(request, role, await live.tokens.get(), rules);
  });

  app.addHook('onSend', async (request, reply, payload) => {
    await audit(context, { ...rules, strangers }, request, reply, payload);
  });

  app.setErrorHandler((error, request, reply) => {
    const { error: known, unexpected } = toHostevacError(error);
    if (unexpected) rules.log.error({ err: error, method: request.method, route: request.routeOptions.url }, 'api');
    return refuse(reply, known);
  });

  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? '';
    const allowed = paths.methodsOf(path);
    if (allowed.length > 0 && !allowed.includes(request.method)) {
      reply.header('allow', allowed.join(', '));
      const message = `${request.method} is not possible here; ${allowed.join(' or ')} is`;
      return refuse(reply, new HostevacError('methodNotAllowed', message));
    }
    return refuse(reply, new HostevacError('unknownRoute', `there is no ${path.slice(0, 200)}; see /docs`));
  });
}

export function refuse(reply: FastifyReply, error: HostevacError): FastifyReply {
  const body = problemOf(error);
  if (body.status === 401) reply.header('www-authenticate', 'Bearer');
  if (body.status === 503) reply.header('retry-after', '1');
  return reply.code(body.status).type(PROBLEM_TYPE).send(JSON.stringify(body));
}

/** JSON only; an empty body is none. */
function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    if (body === '') done(null, undefined);
    else parse(request, typeof body === 'string' ? body : body.toString(), done);
  });
}

const WHAT: Readonly<Record<string, string>> = {
  body: '',
  querystring: 'query',
  params: 'path',
  headers: 'header',
};

/** Every fault of what was sent at once, as the rest of the project tells them. */
function checkInput(app: FastifyInstance): void {
  app.setValidatorCompiler(({ schema, httpPart = 'body' }) => {
    if (!(schema instanceof z.ZodType)) throw new TypeError('a route has a schema that is none of zod');
    return (data: unknown) => {
      // Fastify says null where there is no body.
      const given = data === null ? undefined : data;
      const parsed = schema.safeParse(given);
      if (parsed.success) return { value: parsed.data };
      const prefix = WHAT[httpPart] ?? httpPart;
      return {
        error: badInput(problemsOf(schema, given, parsed.error, prefix), { what: `the ${prefix || 'request'}` }),
      };
    };
  });
  // What routes give back is made for its schema, and the tests compare it with the document.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
}

/** Which methods a path has. */
class Paths {
  readonly #known: { readonly pattern: RegExp; readonly methods: Set<string> }[] = [];
  readonly #byUrl = new Map<string, Set<string>>();

  add(url: string, method: string | readonly string[]): void {
    const known = this.#byUrl.get(url) ?? new Set<string>();
    if (!this.#byUrl.has(url)) {
      this.#byUrl.set(url, known);
      const source = url.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replace(/:[A-Za-z]+/g, '[^/]+');
      this.#known.push({ pattern: new RegExp(`^${source}$`), methods: known });
    }
    for (const one of typeof method === 'string' ? [method] : method) known.add(one);
  }

  methodsOf(path: string): string[] {
    return [...new Set(this.#known.filter(({ pattern }) => pattern.test(path)).flatMap(({ methods }) => [...methods]))];
  }
}

/** Strangers must not push out what is worth keeping: of those nobody knows, so many a minute are written down. */
const STRANGERS_PER_MINUTE = 60;

class Strangers {
  #fromMs = 0;
  #count = 0;

  /** Whether one more is written down. */
  counts(): boolean {
    const now = performance.now();
    if (now - this.#fromMs > 60_000) {
      this.#fromMs = now;
      this.#count = 0;
    }
    this.#count += 1;
    return this.#count <= STRANGERS_PER_MINUTE;
  }
}

async function audit(
  context: ApiContext,
  { log, strangers }: Rules & { readonly strangers: Strangers },
  request: FastifyRequest,
  reply: FastifyReply,
  payload: unknown,
): Promise<void> {
  const { action } = request.routeOptions.config;
  const live = context.attached;
  if (action === undefined || live === null) return;
  const status = reply.statusCode;
  if (status === 401 && !strangers.counts()) return;
  const { caller, audited } = request;
  const entry: AuditEntry = {
    atMs: Date.now(),
    actor: caller?.name ?? 'unknown',
    role: caller?.role ?? null,
    via: 'api',
    action,
    target: audited.target ?? targetOf(request),
    outcome: outcomeOf(status, audited.unchanged === true),
    detail: status < 400 ? (audited.detail ?? '') : `${status} ${codeOf(payload)}`,
  };
  try {
    await live.backend.audit.append(entry);
  } catch (error) {
    log.error({ err: error, entry }, 'not written to the audit log');
  }
}

const namedSchema = z.object({ id: z.string().optional(), host: z.string().optional() });

function targetOf({ params }: FastifyRequest): string | null {
  const named = namedSchema.safeParse(params).data;
  return named?.id ?? named?.host ?? null;
}

function outcomeOf(status: number, unchanged: boolean): AuditEntry['outcome'] {
  if (status === 401 || status === 403) return 'refused';
  if (status >= 400) return 'failed';
  return unchanged ? 'unchanged' : 'done';
}

const codedSchema = z.object({ code: z.string() });

function codeOf(payload: unknown): string {
  if (typeof payload !== 'string') return '';
  return codedSchema.safeParse(JSON.parse(payload)).data?.code ?? '';
}
