/** The OpenAPI document by itself: valid, complete, and nothing in it that leads nowhere. No Redis: it is there before. */
import { Validator } from '@seriousme/openapi-schema-validator';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ApiServer, startApi } from '../../src/api/server.ts';
import { parseFleet } from '../../src/domain/fleet-file.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { PRESETS_ONLY } from '../../src/runtime/policy-modules.ts';
import { smallFleet } from '../cli/small-fleet.ts';
import { Checker } from './checker.ts';

const MINE = { ...POLICY_PRESETS.maintenance, name: 'mine' };

describe('the OpenAPI document', () => {
  let server: ApiServer;
  let text = '';
  beforeAll(async () => {
    server = await startApi({
      fleet: parseFleet(smallFleet(), { format: 'yaml', name: 'fleet.yaml' }),
      policies: { catalogue: new Map([...PRESETS_ONLY.catalogue, ['mine', MINE]]), behaviours: new Map() },
      log: pino({ level: 'silent' }),
      health: async () => ({ status: 'starting', redis: 'unknown', workers: { operations: false, hosts: [] } }),
      port: 0,
      dashboard: '/nowhere',
    });
    text = await (await fetch(`${server.url}/openapi.json`)).text();
  });
  afterAll(() => server.close());

  it('is valid OpenAPI 3.1', async () => {
    const validator = new Validator();
    const outcome = await validator.validate(JSON.parse(text));
    expect(outcome.errors).toBeUndefined();
    expect(outcome.valid).toBe(true);
    expect(validator.version).toBe('3.1');
    const broken = JSON.parse(text);
    broken.paths['/v1/hosts'].get.responses = 'none';
    expect((await new Validator().validate(broken)).valid).toBe(false);
  });

  it('has schemas that compile, references that lead somewhere, and every parameter of a path', () => {
    const checker = new Checker(JSON.parse(text));
    for (const { method, path, route } of checker.routes) {
      const named = [...path.matchAll(/\{([^}]+)\}/g)].map(([, name]) => name);
      const told = route.parameters.filter((one) => one.in === 'path').map((one) => one.name);
      expect([path, told]).toEqual([path, named]);
      const schemas = [
        ...Object.values(route.responses).flatMap(({ content = {} }) => Object.values(content)),
        ...Object.values(route.requestBody?.content ?? {}),
        ...route.parameters,
      ].map(({ schema }) => schema);
      for (const [index, schema] of schemas.entries()) {
        expect(schema).toBeTypeOf('object');
        checker.validator(`${method} ${path} ${index}`, schema);
      }
    }
    const ids = checker.routes.map(({ route }) => route.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    const names = Object.keys(checker.document.components.schemas);
    expect(names).toEqual(
      expect.arrayContaining(['Problem', 'Operation', 'Migration', 'OperationEvent', 'ProgressPoint']),
    );
    for (const name of names) checker.validator(name, { $ref: `#/components/schemas/${name}` });
  });

  it('names the policies that the fleet has', () => {
    expect(text).toContain('"enum":["maintenance","rebalance","emergency","mine"]');
  });

  it('while the server has no Redis yet, it says that it is starting', async () => {
    const hosts = await fetch(`${server.url}/v1/hosts`);
    expect(hosts.status).toBe(503);
    expect(await hosts.json()).toMatchObject({ code: 'unavailable' });
    expect((await fetch(`${server.url}/healthz`)).status).toBe(503);
    expect(await (await fetch(`${server.url}/readyz`)).json()).toEqual({ ready: false });
    expect((await fetch(`${server.url}/`)).status).toBe(200);
  });

  it('a port that is taken is refused with what to do', async () => {
    const { port } = new URL(server.url);
    const again = startApi({
      fleet: parseFleet(smallFleet(), { format: 'yaml', name: 'fleet.yaml' }),
      policies: PRESETS_ONLY,
      log: pino({ level: 'silent' }),
      health: () => Promise.reject(new Error('never asked')),
      port: Number(port),
      dashboard: '/nowhere',
    });
    await expect(again).rejects.toMatchObject({
      code: 'portTaken',
      message: expect.stringMatching(/already in use.*--port/),
    });
  });
});
