/** Whatever is sent: no answer that is the server's fault, and none that is not in the document. */
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testRedisSocket } from '../support/redis.ts';
import { request, type TestApi, testApi } from './api.ts';
import { type Generated, Generator } from './generate.ts';

const AT_ONCE = 8;
const RUNS = 275;

describe.skipIf(testRedisSocket() === '')('random requests', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await testApi();
  });
  afterAll(() => api.close());

  it(`${AT_ONCE * RUNS} of them, made from the document, are all answered as it says`, {
    timeout: 170_000,
  }, async () => {
    const ids: string[] = ['nothing'];
    const generator = new Generator(api.checker, {
      hosts: ['node-a', 'node-b', 'node-c'],
      vms: ['db-1', 'web-1', 'web-2', 'mail-1'],
      ids: () => ids.slice(-8),
    });
    const statuses = new Map<number, number>();
    const send = async ({ method, path, headers, body }: Generated) => {
      const answer = await request(`${api.url}${path}`, method, { headers, ...(body === undefined ? {} : { body }) });
      statuses.set(answer.status, (statuses.get(answer.status) ?? 0) + 1);
      if (answer.status === 201) ids.push(answer.json.id);
      if (answer.status >= 500) throw new Error(`${method} ${path} ${body}: ${answer.status} ${answer.text}`);
      api.checker.check(method, path, answer);
    };
    await fc.assert(
      fc.asyncProperty(fc.array(generator.request(), { minLength: AT_ONCE, maxLength: AT_ONCE }), async (requests) => {
        await Promise.all(requests.map(send));
      }),
      { numRuns: RUNS, endOnFailure: true, seed: Number(process.env['HOSTEVAC_SEED'] ?? Date.now() % 1e6) },
    );
    const told = JSON.stringify([...statuses].sort());
    const total = [...statuses.values()].reduce((sum, count) => sum + count, 0);
    expect(total).toBeGreaterThanOrEqual(2_000);
    // It got past the first check often enough to have tested anything.
    for (const status of [200, 201, 400, 404, 409])
      expect(statuses.get(status) ?? 0, `${status} of ${told}`).toBeGreaterThan(5);
  });
});
