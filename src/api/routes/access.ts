/** Who one is here, and who did what. */
import type { FastifyInstance } from 'fastify';
import { badInput } from '../../domain/problems.ts';
import type { ApiContext } from '../context.ts';
import { addRoute } from '../route.ts';
import { auditPageSchema, auditQuery } from '../schemas/access.ts';
import { DEFAULT_LIMIT, meSchema, streamId } from '../schemas/common.ts';

export function accessRoutes(app: FastifyInstance, context: ApiContext): void {
  addRoute(app, {
    method: 'GET',
    url: '/v1/me',
    role: 'viewer',
    tag: 'access',
    summary: 'Who asks',
    answers: { 200: meSchema },
    handle: async ({ caller: { name, role, authenticated } }) => ({ name, role, authenticated }),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/audit',
    role: 'admin',
    tag: 'access',
    summary: 'Who asked for what, newest first',
    query: auditQuery,
    answers: { 200: auditPageSchema },
    handle: async ({ query }) => {
      const before = query.cursor ?? null;
      if (before !== null && !streamId.safeParse(before).success) {
        const message = 'expected the `next` of the page before';
        const remedy = 'leave it out to begin anew';
        throw badInput([{ path: 'query.cursor', value: JSON.stringify(before), message, remedy }]);
      }
      const limit = query.limit === undefined ? DEFAULT_LIMIT : Number(query.limit);
      return context.live().backend.audit.read(limit, before);
    },
  });
}
