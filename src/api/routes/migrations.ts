/** Routes of single migrations: one, and its course. */
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { ApiContext } from '../context.ts';
import { addRoute } from '../route.ts';
import { idParams } from '../schemas/common.ts';
import { migrationOf, migrationSchema } from '../schemas/migrations.ts';

const tag = 'migrations';

export function migrationRoutes(app: FastifyInstance, context: ApiContext): void {
  addRoute(app, {
    method: 'GET',
    url: '/v1/migrations/:id',
    role: 'viewer',
    tag,
    summary: 'One migration',
    params: idParams,
    answers: { 200: migrationSchema },
    problems: [404],
    handle: async ({ params }) => migrationOf(await context.live().reader.move(params.id)),
  });

  addRoute(app, {
    method: 'GET',
    url: '/v1/migrations/:id/progress',
    role: 'viewer',
    tag,
    summary: 'The course of a migration',
    description:
      'Server-sent events `event: progress` with a ProgressPoint as `data`: first what this server has recorded (its past more ' +
      'coarsely, nothing from before the server started), then live, about one a second. After its end comes `event: end`.',
    params: idParams,
    contentType: 'text/event-stream',
    answers: { 200: z.string().describe('Points until the migration ends.') },
    problems: [404],
    handle: async ({ params, reply }) => {
      const { reader, recorder } = context.live();
      const track = recorder.trackOf(await reader.move(params.id));
      context.hub.serve(reply, track, 0);
      return reply;
    },
  });
}
