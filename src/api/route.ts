/** How a route of the API is declared: what it takes, what it may answer, who may use it. The document is made from this. */
import type { FastifyInstance, FastifyReply, FastifyRequest, HTTPMethods } from 'fastify';
import { z } from 'zod';
import type { WantedRole } from '../domain/access.ts';
import type { Live } from './context.ts';
import type { Caller } from './guard.ts';
import { PROBLEM_TYPE } from './problem.ts';
import { problemSchema } from './schemas/common.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Who may use it; without: an admin. What is for `none` is served also while there is no Redis. */
    readonly role?: WantedRole;
    /** What the audit log calls it; without: it changes nothing. */
    readonly action?: string;
    /** However many requests one client makes: health checks. */
    readonly unlimited?: boolean;
  }
  interface FastifyRequest {
    caller: Caller | null;
    /** What the server had when the request came; null: nothing yet, or nothing any more. */
    live: Live | null;
    bodyBytes: number;
    /** Ends what was begun for it, once. */
    ended: (() => void) | null;
    /** What the audit log says of this request, beside what its answer tells. `done`: it was, whatever the answer. */
    audited: { target?: string; detail?: string; unchanged?: boolean; done?: boolean };
  }
}

/** A body of the usual requests is small; an answer to more is 413. */
export const BODY_LIMIT = 64 * 1_024;
/** A rebalance may name ten thousand moves. */
export const LARGE_BODY_LIMIT = 1_024 * 1_024;

type Given<T> = T extends z.ZodType ? z.output<T> : undefined;

export interface RouteSpec<P, Q, H, B> {
  readonly method: HTTPMethods;
  readonly url: string;
  readonly role: WantedRole;
  readonly action?: string;
  readonly unlimited?: boolean;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  readonly params?: P;
  readonly query?: Q;
  readonly headers?: H;
  readonly body?: B;
  readonly bodyLimit?: number;
  /** Looks at a body before it is checked; may throw. */
  readonly beforeCheck?: (body: unknown, bytes: number) => void;
  /** Answers that are no problems, by status. */
  readonly answers: Readonly<Record<number, z.ZodType>>;
  /** Of the answers; default JSON. */
  readonly contentType?: string;
  /** Statuses of problems beside those that every route may answer. */
  readonly problems?: readonly number[];
  handle(given: {
    readonly params: Given<P>;
    readonly query: Given<Q>;
    readonly headers: Given<H>;
    readonly body: Given<B>;
    readonly caller: Caller;
    readonly request: FastifyRequest;
    readonly reply: FastifyReply;
  }): Promise<unknown>;
}

/** Anybody who may do anything here; for routes that need nobody. */
const NOBODY: Caller = { name: 'anybody', role: 'viewer', authenticated: false, tokenId: null };

const WHY: Readonly<Record<number, string>> = {
  400: 'What was sent is not what the route takes; `problems` lists every fault.',
  401: 'No token, or none that is valid.',
  403: 'The role of the token is too low, or the request comes from another origin.',
  404: 'There is no such thing.',
  409: 'It cannot be done as things stand; `code` says why.',
  413: 'The body is too large.',
  415: 'The body is not application/json.',
  429: 'Too many requests from one client; `retry-after` says when to come again.',
  500: 'A fault of the server.',
  503: 'Redis is away, the server is starting or ending, or has as many streams open as it serves.',
};

export function addRoute<
  P extends z.ZodType | undefined = undefined,
  Q extends z.ZodType | undefined = undefined,
  H extends z.ZodType | undefined = undefined,
  B extends z.ZodType | undefined = undefined,
>(app: FastifyInstance, spec: RouteSpec<P, Q, H, B>): void {
  const { params, query, headers, body, beforeCheck } = spec;
  const takesBody = spec.method !== 'GET';
  // A query that is not asked for is no fault: caches and proxies add what they like.
  const input = params !== undefined || query !== undefined || headers !== undefined || takesBody;
  const problems = new Set([
    ...(input ? [400] : []),
    ...(spec.role === 'none' ? [] : [401, 403, 503]),
    ...(takesBody ? [413, 415] : []),
    ...(spec.problems ?? []),
    429,
    500,
  ]);
  const contentType = spec.contentType ?? 'application/json';
  const answers = Object.entries(spec.answers).map(([status, schema]) => [
    status,
    { description: schema.description ?? 'Done.', content: { [contentType]: { schema } } },
  ]);
  const faults = [...problems]
    .filter((status) => !Object.hasOwn(spec.answers, status))
    .sort()
    .map((status) => [
      status,
      { description: WHY[status] ?? '', content: { [PROBLEM_TYPE]: { schema: problemSchema } } },
    ]);
  app.route({
    method: spec.method,
    url: spec.url,
    ...(takesBody ? { bodyLimit: spec.bodyLimit ?? BODY_LIMIT } : {}),
    ...(beforeCheck === undefined
      ? {}
      : { preValidation: async (request: FastifyRequest) => beforeCheck(request.body, request.bodyBytes) }),
    config: {
      role: spec.role,
      ...(spec.action === undefined ? {} : { action: spec.action }),
      ...(spec.unlimited === undefined ? {} : { unlimited: spec.unlimited }),
    },
    schema: {
      operationId: operationId(spec.method, spec.url),
      tags: [spec.tag],
      summary: spec.summary,
      ...(spec.description === undefined ? {} : { description: spec.description }),
      ...(spec.role === 'none' ? {} : { security: [{ bearer: [] }] }),
      'x-hostevac-role': spec.role,
      ...(params === undefined ? {} : { params }),
      ...(query === undefined ? {} : { querystring: query }),
      ...(headers === undefined ? {} : { headers }),
      ...(body === undefined ? {} : { body }),
      response: Object.fromEntries([...answers, ...faults]),
    },
    handler: (request, reply) =>
      spec.handle({
        // What the validators gave back for these schemas.
        params: request.params as Given<P>,
        query: request.query as Given<Q>,
        headers: request.headers as Given<H>,
        body: request.body as Given<B>,
        caller: request.caller ?? NOBODY,
        request,
        reply,
      }),
  });
}

/** `GET /v1/hosts/:host` -> `getHostsHost`: for those who generate clients. */
function operationId(method: HTTPMethods, url: string): string {
  const words = url
    .replace(/^\/v1/, '')
    .split(/[^A-Za-z]+/)
    .filter((word) => word !== '');
  return `${method.toLowerCase()}${words.map((word) => `${word[0]?.toUpperCase()}${word.slice(1)}`).join('')}`;
}

/** For routes that take no body; an empty object is none either. */
export const noBody = z.strictObject({}).optional();

/** An answer that is JSON already. */
export function sendJson(reply: FastifyReply, json: string, status = 200): FastifyReply {
  return reply.code(status).type('application/json; charset=utf-8').send(json);
}
