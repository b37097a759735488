/** What a request may name as its policy. */
import type { FastifyInstance } from 'fastify';
import { describedPolicies } from '../../runtime/policy-modules.ts';
import type { ApiContext } from '../context.ts';
import { addRoute } from '../route.ts';
import { policiesSchema } from '../schemas/policies.ts';

export function policyRoutes(app: FastifyInstance, context: ApiContext): void {
  addRoute(app, {
    method: 'GET',
    url: '/v1/policies',
    role: 'viewer',
    tag: 'operations',
    summary: 'The policies that a request may name, with their requirements',
    answers: { 200: policiesSchema },
    handle: async () => ({ items: describedPolicies(context.policies) }),
  });
}
