/** Routes of hosts and VMs, and the fleet's stream of events. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { z } from 'zod';
import { HostevacError } from '../../domain/errors.ts';
import { hostOf } from '../../domain/fleet.ts';
import { badInput } from '../../domain/problems.ts';
import { nearest } from '../../domain/suggest.ts';
import type { ControlOutcome, WhatIfAnswer } from '../../queue/producer.ts';
import type { ApiContext } from '../context.ts';
import { addRoute, noBody, sendJson } from '../route.ts';
import { controlOutcomeSchema, DEFAULT_LIMIT, hostParams, lastEventIdHeader, vmParams } from '../schemas/common.ts';
import {
  capacityBody,
  hostsSchema,
  hostWithVmsSchema,
  type Vm,
  vmPageSchema,
  vmSchema,
  vmsQuery,
  whatIfBody,
  whatIfSchema,
} from '../schemas/fleet.ts';
import { Shared } from '../shared.ts';
import { fleetSource } from '../streams/fleet-streams.ts';

export function fleetRoutes(app: FastifyInstance, context: ApiContext): void {
  hostRoutes(app, context);
  vmRoutes(app, context);

  addRoute(app, {
    method: 'GET',
    url: '/v1/events',
    role: 'viewer',
    tag: 'fleet',
    summary: "Every operation's events",
    description:
      "Server-sent events as of one operation, with ids of the fleet's stream. Without Last-Event-ID from now on. Beside them, without " +
      'an id and at most once a second, `event: changed`: what is worth reading again ({ hosts: true }, { operations: [ids] }).',
    headers: lastEventIdHeader,
    contentType: 'text/event-stream',
    answers: { 200: z.string().describe('Events, without end.') },
    handle: async ({ headers, caller, reply }) => {
      const { backend, fleetStreams } = context.live();
      const last = await backend.stores.events.lastOfFleet();
      context.hub.mustHaveRoom(caller);
      const { tail, release } = context.hub.tail('fleet', () => ({ source: fleetSource(backend), from: last }));
      context.hub.serve(reply, tail, headers['last-event-id'] ?? last, (stream) => {
        const silence = fleetStreams.add(stream);
        return () => {
          silence();
          release();
        };
      });
      return reply;
    },
  });
}

function hostRoutes(app: FastifyInstance, context: ApiContext): void {
  const tag = 'hosts';

  addRoute(app, {
    method: 'GET',
    url: '/v1/hosts',
    role: 'viewer',
    tag,
    summary: 'Every host of the fleet',
    answers: { 200: hostsSchema },
    handle: async ({ reply }) => sendJson(reply, (await context.live().reader.hosts()).json),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/hosts/:host',
    role: 'viewer',
    tag,
    summary: 'One host, with its VMs',
    params: hostParams,
    answers: { 200: hostWithVmsSchema },
    problems: [404],
    handle: async ({ params }) => {
      const { reader } = context.live();
      mustKnow(context, params.host);
      const [{ byName, nowMs }, { byHost }] = await Promise.all([reader.hosts(), reader.vms()]);
      return { ...byName.get(params.host), vms: byHost.get(params.host) ?? [], nowMs };
    },
  });

  const done = async (request: FastifyRequest, host: string, outcome: ControlOutcome) => {
    request.audited = { target: host, detail: outcome.message, unchanged: !outcome.changed, done: true };
    request.live?.reader.changed();
    return { changed: outcome.changed, message: outcome.message };
  };

  for (const word of ['cordon', 'uncordon'] as const) {
    addRoute(app, {
      method: 'POST',
      url: `/v1/hosts/:host/${word}`,
      role: 'operator',
      action: `host.${word}`,
      tag,
      summary: word === 'cordon' ? 'Place no VM there' : 'VMs may be placed there again',
      params: hostParams,
      body: noBody,
      answers: { 200: controlOutcomeSchema },
      problems: [404, 409],
      handle: async ({ params: { host }, request }) => {
        request.audited = { target: host };
        mustKnow(context, host);
        return done(request, host, await context.live().backend.producer[word](host));
      },
    });
  }

  addRoute(app, {
    method: 'PUT',
    url: '/v1/hosts/:host/capacity',
    role: 'admin',
    action: 'host.capacity',
    tag,
    summary: "Another capacity than the fleet file's, in force within two seconds",
    params: hostParams,
    body: capacityBody,
    answers: { 200: controlOutcomeSchema },
    problems: [404, 409],
    handle: async ({ params: { host }, body: { egress, ingress }, caller, request }) => {
      request.audited = { target: host };
      mustKnow(context, host);
      const capacity = {
        ...(egress === undefined ? {} : { egress }),
        ...(ingress === undefined ? {} : { ingress }),
      };
      return done(request, host, await context.live().backend.producer.capacity(host, capacity, caller.name));
    },
  });

  addRoute(app, {
    method: 'DELETE',
    url: '/v1/hosts/:host/capacity',
    role: 'admin',
    action: 'host.capacity.reset',
    tag,
    summary: "The fleet file's capacity again",
    params: hostParams,
    body: noBody,
    answers: { 200: controlOutcomeSchema },
    problems: [404, 409],
    handle: async ({ params: { host }, caller, request }) => {
      request.audited = { target: host };
      mustKnow(context, host);
      return done(request, host, await context.live().backend.producer.capacity(host, null, caller.name));
    },
  });
}

function vmRoutes(app: FastifyInstance, context: ApiContext): void {
  const tag = 'vms';
  const measuring = new Shared<WhatIfAnswer>();

  addRoute(app, {
    method: 'GET',
    url: '/v1/vms',
    role: 'viewer',
    tag,
    summary: 'VMs, by name',
    query: vmsQuery,
    answers: { 200: vmPageSchema },
    handle: async ({ query }) => {
      const vms = await context.live().reader.vms();
      const limit = query.limit === undefined ? DEFAULT_LIMIT : Number(query.limit);
      const after = query.cursor === undefined ? null : placeOf(query.cursor);
      const wanted = query.name?.toLowerCase();
      const from = query.host === undefined ? vms.items : (vms.byHost.get(query.host) ?? []);
      const items: Vm[] = [];
      for (const vm of from) {
        if (after !== null && !isBehind(vm, after)) continue;
        if (wanted !== undefined && !vm.vm.toLowerCase().includes(wanted)) continue;
        if (items.length === limit) return { items, next: cursorOf(items.at(-1)) };
        items.push(vm);
      }
      return { items, next: null };
    },
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/vms/:vm',
    role: 'viewer',
    tag,
    summary: 'One VM',
    params: vmParams,
    answers: { 200: vmSchema },
    problems: [404],
    handle: async ({ params }) => {
      const { byName } = await context.live().reader.vms();
      const found = byName.get(params.vm);
      if (found !== undefined) return found;
      const meant = nearest(params.vm, [...byName.keys()].slice(0, 2_000));
      throw new HostevacError(
        'unknownVm',
        `no host has a VM ${JSON.stringify(params.vm)}; ${meant === undefined ? 'see /v1/vms' : `did you mean ${meant}?`}`,
      );
    },
  });

  addRoute(app, {
    method: 'POST',
    url: '/v1/vms/:vm/what-if',
    role: 'viewer',
    tag,
    summary: 'What moving a VM now would cost, at every aggression',
    description:
      "Looks at the guest for about three seconds of the fleet's time; nothing is claimed or changed. Who asks the same of a VM " +
      'meanwhile gets the same answer.',
    params: vmParams,
    body: whatIfBody(context.policyNames),
    answers: { 200: whatIfSchema },
    problems: [404, 409],
    handle: async ({ params, body, reply }) => {
      const { producer } = context.live().backend;
      const input = { vm: params.vm, ...body };
      const gone = new AbortController();
      reply.raw.once('close', () => gone.abort());
      return measuring.run(params.vm, JSON.stringify(input), gone.signal, (signal) =>
        producer.whatIf(input, { signal }),
      );
    },
  });
}

/** Throws `unknownHost`. */
function mustKnow({ fleet }: ApiContext, host: string): void {
  if (hostOf(fleet, host) !== undefined) return;
  const meant = nearest(
    host,
    fleet.hosts.map(({ name }) => name),
  );
  throw new HostevacError(
    'unknownHost',
    `the fleet has no host ${JSON.stringify(host)}; ${meant === undefined ? 'see /v1/hosts' : `did you mean ${meant}?`}`,
  );
}

type Place = Pick<Vm, 'vm' | 'host'>;

function cursorOf(last: Place | undefined): string | null {
  return last === undefined ? null : Buffer.from(JSON.stringify([last.vm, last.host])).toString('base64url');
}

const placeSchema = z.tuple([z.string(), z.string()]);

function placeOf(cursor: string): Place {
  try {
    const [vm, host] = placeSchema.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString()));
    return { vm, host };
  } catch {
    const message = 'expected the `next` of the page before';
    throw badInput([
      { path: 'query.cursor', value: JSON.stringify(cursor), message, remedy: 'leave it out to begin anew' },
    ]);
  }
}

function isBehind(one: Place, other: Place): boolean {
  return one.vm > other.vm || (one.vm === other.vm && one.host > other.host);
}
