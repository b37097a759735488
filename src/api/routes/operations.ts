/** Routes of operations: asked for, looked at, steered, followed. */
import type { FastifyInstance, FastifyReply } from 'fastify';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import type { ControlOutcome, OperationHandle } from '../../queue/producer.ts';
import type { ApiContext, Live } from '../context.ts';
import { addRoute, BODY_LIMIT, LARGE_BODY_LIMIT, noBody, sendJson } from '../route.ts';
import {
  controlOutcomeSchema,
  DEFAULT_LIMIT,
  idempotencyHeader,
  idParams,
  lastEventIdHeader,
} from '../schemas/common.ts';
import { migrationsSchema } from '../schemas/migrations.ts';
import {
  acceptedSchema,
  approveBody,
  evacuationBody,
  operationPageSchema,
  operationSchema,
  operationsQuery,
  pauseBody,
  planBody,
  planSchema,
  rebalanceBody,
} from '../schemas/operations.ts';
import { Few } from '../shared.ts';
import { operationSource } from '../streams/fleet-streams.ts';

const tag = 'operations';

/** A plan for a thousand hosts takes the whole process for a while. */
const PLANS_AT_ONCE = 2;
const PLANS_WAITING = 16;

const ACCEPTED = {
  201: acceptedSchema,
  200: acceptedSchema,
};

export function operationRoutes(app: FastifyInstance, context: ApiContext): void {
  const planning = new Few(PLANS_AT_ONCE, PLANS_WAITING, 'plans are being made');

  /** What was made was made, whether it can be shown just now or not. */
  const accepted = async (live: Live, handle: OperationHandle, reply: FastifyReply): Promise<FastifyReply> => {
    const { id, acceptance, warnings } = handle;
    const { request } = reply;
    request.audited = { target: id, detail: acceptance, unchanged: acceptance !== 'created', done: true };
    live.reader.changed();
    const operation = await live.reader.operation(id).catch((error: unknown) => {
      request.log.warn({ err: error, operation: id }, 'it was made and cannot be shown');
      return null;
    });
    reply.header('location', `/v1/operations/${encodeURIComponent(id)}`);
    return reply
      .code(acceptance === 'created' ? 201 : 200)
      .send({ id, acceptance, warnings: [...warnings], operation });
  };

  addRoute(app, {
    method: 'POST',
    url: '/v1/evacuations',
    role: 'operator',
    action: 'evacuation.create',
    tag,
    summary: 'Empty a host',
    description: '200: an evacuation of this host was running already, or the idempotency key was used before.',
    headers: idempotencyHeader,
    body: evacuationBody(context.policyNames),
    answers: ACCEPTED,
    problems: [404, 409],
    handle: async ({ body, headers, request, reply }) => {
      request.audited = { target: body.host };
      const live = context.live();
      return accepted(live, await live.backend.producer.evacuateNode({ ...body, ...keyOf(headers) }), reply);
    },
  });

  addRoute(app, {
    method: 'POST',
    url: '/v1/rebalances',
    role: 'operator',
    action: 'rebalance.create',
    tag,
    summary: 'Move VMs to hosts that are named',
    description: '200: the idempotency key was used before.',
    headers: idempotencyHeader,
    body: rebalanceBody(context.policyNames),
    bodyLimit: LARGE_BODY_LIMIT,
    answers: ACCEPTED,
    problems: [404, 409],
    handle: async ({ body, headers, reply }) => {
      const live = context.live();
      return accepted(live, await live.backend.producer.loadBalance({ ...body, ...keyOf(headers) }), reply);
    },
  });

  addRoute(app, {
    method: 'POST',
    url: '/v1/plans',
    role: 'viewer',
    tag,
    summary: 'What an evacuation or a rebalance would do now',
    description: 'Nothing is claimed or changed.',
    body: planBody(context.policyNames),
    bodyLimit: LARGE_BODY_LIMIT,
    beforeCheck: (body, bytes) => {
      if (bytes <= BODY_LIMIT || isRebalance(body)) return;
      throw new HostevacError(
        'payloadTooLarge',
        'the body is larger than is taken for an evacuation; send less at once',
      );
    },
    answers: { 200: planSchema },
    problems: [404, 409],
    handle: ({ body }) => planning.run(() => context.live().backend.producer.preview(body)),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/operations',
    role: 'viewer',
    tag,
    summary: 'Operations, newest first',
    query: operationsQuery,
    answers: { 200: operationPageSchema },
    handle: async ({ query, reply }) => {
      const page = {
        limit: query.limit === undefined ? DEFAULT_LIMIT : Number(query.limit),
        ...(query.cursor === undefined ? {} : { before: query.cursor }),
        ...(query.state === undefined ? {} : { states: [query.state] }),
      };
      return sendJson(reply, await context.live().reader.operationsJson(page));
    },
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/operations/:id',
    role: 'viewer',
    tag,
    summary: 'One operation',
    params: idParams,
    answers: { 200: operationSchema },
    problems: [404],
    handle: async ({ params, reply }) => sendJson(reply, await context.live().reader.operationJson(params.id)),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/operations/:id/migrations',
    role: 'viewer',
    tag,
    summary: 'Every attempt to move each VM of an operation',
    params: idParams,
    answers: { 200: migrationsSchema },
    problems: [404],
    handle: async ({ params, reply }) => sendJson(reply, await context.live().reader.migrationsJson(params.id)),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/operations/:id/events',
    role: 'viewer',
    tag,
    summary: 'What happens, as it happens',
    description:
      'Server-sent events: `id`, `event` (the kind, `move.precopy`) and `data` (an OperationEvent). Without Last-Event-ID from the ' +
      'first that is kept. After the last one comes `event: end`.',
    params: idParams,
    headers: lastEventIdHeader,
    contentType: 'text/event-stream',
    answers: { 200: z.string().describe('Events until the operation ends.') },
    problems: [404],
    handle: async ({ params, headers, caller, reply }) => {
      const { backend } = context.live();
      await backend.producer.operation(params.id);
      context.hub.mustHaveRoom(caller);
      const { tail, release } = context.hub.tail(`operation:${params.id}`, () => ({
        source: operationSource(backend, params.id),
        from: '0',
      }));
      context.hub.serve(reply, tail, headers['last-event-id'] ?? '0', () => release);
      return reply;
    },
  });

  steer(app, context);
}

function steer(app: FastifyInstance, context: ApiContext): void {
  const control = <B extends z.ZodType>(
    word: string,
    summary: string,
    body: B,
    act: (handle: OperationHandle, body: z.output<B>) => Promise<ControlOutcome>,
  ): void =>
    addRoute(app, {
      method: 'POST',
      url: `/v1/operations/:id/${word}`,
      role: 'operator',
      action: `operation.${word}`,
      tag,
      summary,
      params: idParams,
      body,
      answers: { 200: controlOutcomeSchema },
      problems: [404, 409],
      handle: async ({ params, body: given, request }) => {
        request.audited = { target: params.id };
        const { backend, reader } = context.live();
        // What the schema gave back.
        const outcome = await act(await backend.producer.operation(params.id), given as z.output<B>);
        request.audited = { target: params.id, detail: outcome.message, unchanged: !outcome.changed, done: true };
        reader.changed();
        return { changed: outcome.changed, message: outcome.message };
      },
    });

  control('cancel', 'End it: running migrations are cancelled, their VMs stay where they are', noBody, (handle) =>
    handle.cancel(),
  );
  control('pause', 'Start no further move', pauseBody, (handle, body) => handle.pause({ now: body?.now === true }));
  control('resume', 'Go on with a paused one', noBody, (handle) => handle.resume());
  control('approve', 'Carry out what it proposes', approveBody, (handle, body) => handle.approve(body.hash));
}

function isRebalance(body: unknown): boolean {
  return typeof body === 'object' && body !== null && Object.hasOwn(body, 'loadBalance');
}

function keyOf(headers: z.output<typeof idempotencyHeader>): { readonly idempotencyKey?: string } {
  const key = headers['idempotency-key'];
  return key === undefined ? {} : { idempotencyKey: key };
}
