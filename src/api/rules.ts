/**
 * What holds for every request: who is let in, how input is read and checked, what an error looks like, what the audit log is
 * told. Secrets stay out of logs: a request's headers are never logged.
 */
import rateLimit from '@fastify/rate-limit';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import { HostevacError } from '../domain/errors.ts';
import { badInput, problemsOf } from '../domain/problems.ts';
import type { Auditor } from './auditor.ts';
import type { ApiContext } from './context.ts';
import { admit, type GuardOptions } from './guard.ts';
import { isInward, PROBLEM_TYPE, problemOf, toHostevacError } from './problem.ts';

interface Rules extends GuardOptions {
  readonly log: Logger;
  readonly auditor: Auditor;
  /** Requests that one client may make in ten seconds. */
  readonly requestsPer10s: number;
}

export async function applyRules(app: FastifyInstance, context: ApiContext, rules: Rules): Promise<void> {
  app.decorateRequest('caller', null);
  app.decorateRequest('live', null);
  app.decorateRequest('bodyBytes', 0);
  app.decorateRequest('ended', null);
  app.decorateRequest('audited');
  const paths = new Paths();
  app.addHook('onRoute', ({ method, url }) => paths.add(url, method));
  readBodies(app);
  checkInput(app);

  app.addHook('onRequest', async (request) => {
    request.audited = {};
    request.live = context.attached;
  });
  await limitRates(app, rules.requestsPer10s);
  app.addHook('onRequest', async (request) => {
    const { role = 'admin' } = request.routeOptions.config;
    // Pages and their files need nothing; everything else needs Redis.
    if (role === 'none' || request.is404) return;
    request.live = context.enter();
    request.caller = admit(request, role, await request.live.tokens.get(), rules);
  });
  app.addHook('preHandler', async (request) => {
    if (request.routeOptions.config.action !== undefined) request.ended = context.begin();
  });
  app.addHook('onSend', async (request, reply, payload) => {
    await rules.auditor.tell(request, reply, payload);
    const { ended } = request;
    if (ended === null) return;
    reply.raw.once('finish', ended).once('close', ended);
    if (reply.raw.closed) ended();
  });

  app.setErrorHandler((error, request, reply) => {
    const { error: known, unexpected } = toHostevacError(error);
    const where = { err: error, method: request.method, route: request.routeOptions.url };
    if (unexpected) rules.log.error(where, 'api');
    else if (isInward(known.code)) rules.log.warn(where, 'api');
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

/** Before anybody is asked for a token: that costs something, too. */
async function limitRates(app: FastifyInstance, max: number): Promise<void> {
  await app.register(rateLimit, {
    global: false,
    max,
    timeWindow: 10_000,
    // Health checks come from one address and must always be answered.
    allowList: (request) => request.routeOptions.config.unlimited === true,
    errorResponseBuilder: (_request, { after }) =>
      new HostevacError('tooManyRequests', `this client asks more than it may; try again in ${after}`),
  });
  app.addHook('onRequest', app.rateLimit());
}

/** JSON only; an empty body is none. */
function readBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers();
  const parse = app.getDefaultJsonParser('error', 'error');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, body, done) => {
    const text = typeof body === 'string' ? body : body.toString();
    request.bodyBytes = Buffer.byteLength(text);
    if (text === '') done(null, undefined);
    else parse(request, text, (error, value) => done(error === null ? null : unreadable(error), value));
  });
}

function unreadable(error: Error): HostevacError {
  return new HostevacError('badInput', `the body is no JSON that is taken here: ${error.message}; correct it`);
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
