/** Who is let in, who may do what, and what is written down of it. */
import { createHash } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mayAs, roles } from '../../src/domain/access.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import { fleetPrefix } from '../../src/runtime/stores.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';
import { type Answer, type AskOptions, request, type TestApi, testApi } from './api.ts';
import { Generator } from './generate.ts';
import { openEvents } from './sse.ts';

describe.skipIf(testRedisSocket() === '')('while there is no token', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await testApi({ workers: false });
  });
  afterAll(() => api.close());

  /** `fetch` sets its own host. */
  function raw(headers: Readonly<Record<string, string>>, path = '/v1/hosts', method = 'GET'): Promise<number> {
    return new Promise((resolve, reject) => {
      const sent = httpRequest(`${api.url}${path}`, { headers, method }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      sent.once('error', reject);
      sent.end();
    });
  }

  it('everybody on this machine is an admin', async () => {
    expect((await api.ask('GET', '/v1/me')).json).toEqual({ name: 'local', role: 'admin', authenticated: false });
  });

  it('a name of somebody else that leads here is refused: DNS rebinding', async () => {
    const { port } = new URL(api.url);
    for (const host of ['evil.example', `evil.example:${port}`, '127.0.0.1.evil.example', '[::2]', 'localhost.evil']) {
      expect([host, await raw({ host })]).toEqual([host, 403]);
      expect([host, await raw({ host }, '/openapi.json')]).toEqual([host, 200]);
    }
    for (const host of [`localhost:${port}`, `127.0.0.1:${port}`, `[::1]:${port}`, 'LOCALHOST'])
      expect([host, await raw({ host })]).toEqual([host, 200]);
  });

  it("a page of somebody else's is refused: cross-site requests", async () => {
    const { host } = new URL(api.url);
    const evacuate = (headers: Readonly<Record<string, string>>) =>
      raw({ host, ...headers }, '/v1/hosts/node-a/cordon', 'POST');
    for (const origin of ['http://evil.example', 'null', `https://${host}`, 'http://localhost:1'])
      expect([origin, await evacuate({ origin })]).toEqual([origin, 403]);
    for (const site of ['cross-site', 'same-site']) expect(await evacuate({ 'sec-fetch-site': site })).toBe(403);
    expect(await evacuate({ origin: `http://${host}`, 'sec-fetch-site': 'same-origin' })).toBe(200);
    // A form can send text only.
    expect(await raw({ host, 'content-type': 'text/plain', 'content-length': '0' }, '/v1/evacuations', 'POST')).toBe(
      415,
    );
    const page = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
    expect(await raw({ host, ...page }, '/')).toBe(200);
  });
});

describe.skipIf(testRedisSocket() === '')('while there is no token, and others come near', () => {
  it('what a proxy passes on is refused, and it is said what to do', async () => {
    const api = await testApi({ workers: false });
    try {
      for (const name of ['forwarded', 'x-forwarded-for', 'X-Forwarded-Proto', 'x-real-ip', 'via']) {
        const { status, json } = await api.ask('GET', '/v1/hosts', { headers: { [name]: '10.0.0.1' } });
        expect([name, status]).toEqual([name, 403]);
        expect(json.detail).toContain('hostevac token create');
      }
      const near = await api.ask('GET', '/healthz');
      expect(near.json.workers.hosts).toEqual([]);
      const far = await api.ask('GET', '/healthz', { headers: { 'x-forwarded-for': '10.0.0.1' } });
      expect(far.json.workers).toEqual({ operations: true });
    } finally {
      await api.close();
    }
  });

  it('nobody is let in where a token is required, also from elsewhere', async () => {
    const api = await testApi({ workers: false, api: { requireToken: true, address: '0.0.0.0' } });
    try {
      expect((await api.ask('GET', '/v1/me')).status).toBe(401);
      expect((await api.ask('GET', '/healthz')).json.workers).not.toHaveProperty('hosts');
      expect(api.logged()).toContain('--tls-cert');
      const { text } = await api.backend.tokens.create({
        name: 'a',
        role: 'admin',
        createdBy: 'test',
        expiresInMs: null,
      });
      await until(async () => (await api.ask('GET', '/v1/me', { token: text })).status === 200, 3_000, 'the token');
      expect((await api.ask('GET', '/healthz', { token: text })).json.workers).toHaveProperty('hosts');
    } finally {
      await api.close();
    }
  });

  it('who is refused all the time does not fill the audit log, and it is said how often', async () => {
    const api = await testApi({ workers: false });
    try {
      const before = await api.backend.redis.xlen(`${fleetPrefix(api.backend.fleet.name)}:audit`);
      expect(before).toBe(0);
      for (let sent = 0; sent < 100; sent += 1)
        await api.ask('POST', '/v1/hosts/node-a/cordon', { headers: { origin: 'http://evil.example' } });
      await api.server.detach();
      const { items } = await api.backend.audit.read(500, null);
      expect(items).toHaveLength(61);
      expect(items[0]).toMatchObject({
        action: 'requests.refused',
        outcome: 'refused',
        detail: expect.stringMatching(/^40 /),
      });
    } finally {
      await api.close();
    }
  });

  it('too many requests are refused before anything else is done for them, everywhere but in health checks', async () => {
    const api = await testApi({ workers: false, limits: { requestsPer10s: 5 } });
    try {
      for (const path of ['/', '/nowhere', '/openapi.json', '/v1/hosts', '/docs'])
        expect((await request(`${api.url}${path}`, 'GET', {})).status).toBeLessThan(429);
      for (const path of ['/', '/nowhere', '/openapi.json', '/v1/hosts'])
        expect([path, (await request(`${api.url}${path}`, 'GET', {})).status]).toEqual([path, 429]);
      for (let sent = 0; sent < 10; sent += 1) expect((await request(`${api.url}/readyz`, 'GET', {})).status).toBe(200);
    } finally {
      await api.close();
    }
  });

  it('a change that has begun when the server ends is answered and written down as it was', async () => {
    const api = await testApi({ workers: false });
    try {
      const { producer } = api.backend;
      const cordon = producer.cordon.bind(producer);
      let [begun, open] = [false, (): void => undefined];
      const gate = new Promise<void>((resolve) => {
        open = resolve;
      });
      producer.cordon = async (host) => {
        begun = true;
        await gate;
        return cordon(host);
      };
      const answer = request(`${api.url}/v1/hosts/node-a/cordon`, 'POST', {});
      await until(() => begun, 5_000, 'its beginning');
      let over = false;
      const ended = api.server.detach().then(() => {
        over = true;
      });
      for (let asked = 0; asked < 50; asked += 1)
        expect((await request(`${api.url}/v1/hosts`, 'GET', {})).status).toBe(503);
      expect(over).toBe(false);
      open();
      expect((await answer).json).toMatchObject({ changed: true });
      await ended;
      const { items } = await api.backend.audit.read(5, null);
      expect(items).toMatchObject([{ action: 'host.cordon', target: 'node-a', outcome: 'done' }]);
    } finally {
      await api.close();
    }
  });

  it('Redis being away tells nothing of where it is', async () => {
    const api = await testApi({ workers: false });
    try {
      await api.ask('GET', '/v1/me');
      api.backend.tokens.read = () =>
        Promise.reject(new HostevacError('redisAway', 'redis.inside.example:6379 is away'));
      const away = async () => (await request(`${api.url}/v1/me`, 'GET', {})).status === 503;
      await until(away, 5_000, 'the end of what was known');
      const { text } = await request(`${api.url}/v1/me`, 'GET', {});
      expect(text).not.toContain('inside');
      expect(api.logged()).toContain('redis.inside.example');
      expect((await request(`${api.url}/`, 'GET', {})).status).toBe(200);
    } finally {
      await api.close();
    }
  });
});

describe.skipIf(testRedisSocket() === '')('once there are tokens', () => {
  let api: TestApi;
  const tokens = new Map<string, string>();
  const make = async (name: string, role: 'viewer' | 'operator' | 'admin', expiresInMs: number | null = null) => {
    const made = await api.backend.tokens.create({ name, role, createdBy: 'test', expiresInMs });
    return made;
  };
  const inForce = (token: string, status: number) =>
    until(async () => (await request(`${api.url}/v1/me`, 'GET', { token })).status === status, 2_000, `${status}`);

  beforeAll(async () => {
    api = await testApi({ workers: false });
    for (const role of roles) tokens.set(role, (await make(role, role)).text);
    await inForce('none', 401);
  });
  afterAll(() => api.close());

  const asRole = (role: string, options: AskOptions = {}): AskOptions => ({
    ...options,
    token: tokens.get(role) ?? '',
  });

  it('a token says who one is', async () => {
    const { json } = await api.ask('GET', '/v1/me', asRole('operator'));
    expect(json).toEqual({ name: 'operator', role: 'operator', authenticated: true });
    expect((await api.ask('GET', '/v1/me')).status).toBe(401);
    expect((await api.ask('GET', '/healthz')).status).toBe(200);
    expect((await api.ask('GET', '/readyz')).json).toEqual({ ready: true });
  });

  it('every route refuses those whose role is too low, and the document says which', async () => {
    const generator = new Generator(api.checker, { hosts: ['node-a'], vms: ['db-1'], ids: () => ['x'] });
    expect(api.checker.routes.length).toBeGreaterThan(20);
    for (const one of api.checker.routes) {
      const wanted = one.route['x-hostevac-role'];
      const [sent] = fc.sample(generator.to(one, true), { numRuns: 1, seed: 1 });
      if (sent === undefined) throw new Error('nothing was generated');
      const { method, path, headers, body } = sent;
      const options = { headers, ...(body === undefined ? {} : { body }) };
      expect(one.route.security !== undefined).toBe(wanted !== 'none');
      const nobody = await api.ask(method, path, options);
      expect([method, path, nobody.status === 401]).toEqual([method, path, wanted !== 'none']);
      for (const role of roles) {
        const { status } = await api.ask(method, path, asRole(role, options));
        expect([method, path, role, status === 403]).toEqual([method, path, role, !mayAs(role, wanted)]);
      }
    }
  });

  it('a viewer changes nothing by any route', async () => {
    const generator = new Generator(api.checker, { hosts: ['node-a', 'node-b'], vms: ['db-1'], ids: () => ['x', id] });
    const made = await api.ask('POST', '/v1/evacuations', asRole('operator', { body: { host: 'node-b' } }));
    const id: string = made.json.id;
    const before = await fingerprint(api);
    for (const one of api.checker.routes) {
      for (const { method, path, headers, body } of fc.sample(generator.to(one, true), 5)) {
        const { status } = await api.ask(
          method,
          path,
          asRole('viewer', { headers, ...(body === undefined ? {} : { body }) }),
        );
        if (one.route['x-hostevac-role'] === 'viewer') expect(status).not.toBe(403);
      }
    }
    expect(await fingerprint(api)).toEqual(before);
    // The same, if it were an operator's, is seen.
    await api.ask('POST', '/v1/hosts/node-a/cordon', asRole('operator'));
    expect(await fingerprint(api)).not.toEqual(before);
  });

  it('whatever is wrong with a token, the answer is the same, byte by byte', async () => {
    const [expired, revoked] = [await make('late', 'admin', 1), await make('gone', 'admin')];
    await api.backend.tokens.revoke(revoked.info.id);
    await until(async () => Date.now() > (expired.info.expiresAtMs ?? 0), 1_000);
    await inForce(revoked.text, 401);
    const right = tokens.get('admin') ?? '';
    const wrongSecret = `${right.slice(0, -2)}${right.endsWith('AA') ? 'BB' : 'AA'}`;
    const unknownId = `hev_00000000_${right.split('_').slice(2).join('_')}`;
    const headers: (string | null)[] = [
      null,
      ...[expired.text, revoked.text, wrongSecret, unknownId, 'x', 'hev_constructor_x', right.slice(4)].map(
        (t) => `Bearer ${t}`,
      ),
      `Basic ${right}`,
      right,
      'Bearer',
    ];
    const answers = await Promise.all(
      headers.map((authorization) =>
        request(`${api.url}/v1/hosts`, 'GET', { headers: authorization === null ? {} : { authorization } }),
      ),
    );
    const seen = answers.map(({ status, text, headers: answered }) => [status, text, answered.get('www-authenticate')]);
    expect(new Set(seen.map((one) => JSON.stringify(one))).size).toBe(1);
    expect(seen[0]?.[0]).toBe(401);
    expect((await request(`${api.url}/v1/hosts`, 'GET', { token: right })).status).toBe(200);
  });

  it('a token that is made or revoked is in force within two seconds', async () => {
    const made = await make('short', 'viewer');
    await inForce(made.text, 200);
    const stream = await openEvents(`${api.url}/v1/events`, { authorization: `Bearer ${made.text}` });
    await api.backend.tokens.revoke(made.info.id);
    await inForce(made.text, 401);
    await until(() => api.server.hub.held.streams === 0, 2_000, 'the end of its stream');
    // What it was told before its end may still be on the way.
    for (let event = await stream.next(); event !== null; event = await stream.next())
      expect(event.event).toBe('changed');
  });

  it('the secret is nowhere but with its holder: not in Redis, not in the log', async () => {
    const text = tokens.get('operator') ?? '';
    const secret = text.split('_').slice(2).join('_');
    const kept = JSON.stringify(await api.backend.stores.cells.read('tokens'));
    expect(kept).toContain(createHash('sha256').update(secret).digest('hex'));
    expect(kept).not.toContain(secret);
    await api.ask('POST', '/v1/evacuations', asRole('operator', { body: '{' }));
    await request(`${api.url}/v1/hosts/%`, 'GET', { token: text });
    await request(`${api.url}/v1/hosts?token=${text}`, 'GET', {});
    api.server.app.log.warn({ req: { headers: { authorization: text } } }, 'a careless line');
    expect(api.logged()).toContain('a careless line');
    expect(api.logged()).not.toContain(secret);
  });

  it('what was asked for is written down with its outcome, what was refused too', async () => {
    await api.ask('POST', '/v1/hosts/node-c/cordon', asRole('operator'));
    await api.ask('POST', '/v1/hosts/node-c/cordon', asRole('operator'));
    // One that was not refused before: of each so many refusals are written down.
    const viewer = await make('viewer', 'viewer');
    await inForce(viewer.text, 200);
    await api.ask('POST', '/v1/hosts/node-c/cordon', { token: viewer.text });
    await api.ask('POST', '/v1/hosts/node-c/cordon');
    await api.ask('POST', '/v1/hosts/node-x/cordon', asRole('operator'));
    const { json } = await api.ask('GET', '/v1/audit?limit=5', asRole('admin'));
    const shown = json.items.map(({ actor, role, via, action, target, outcome }: Record<string, string>) =>
      [actor, role, via, action, target, outcome].join(' '),
    );
    expect(shown).toEqual([
      'operator operator api host.cordon node-x failed',
      'unknown  api host.cordon node-c refused',
      'viewer viewer api host.cordon node-c refused',
      'operator operator api host.cordon node-c unchanged',
      'operator operator api host.cordon node-c done',
    ]);
    const older = await api.ask('GET', `/v1/audit?limit=5&cursor=${json.next}`, asRole('admin'));
    expect(older.json.items[0]).not.toEqual(json.items[4]);
    expect((await api.ask('GET', '/v1/audit?cursor=x', asRole('admin'))).status).toBe(400);
    expect((await api.ask('GET', '/v1/audit', asRole('operator'))).status).toBe(403);
  });

  it('a stream needs a token as everything does', async () => {
    await expect(openEvents(`${api.url}/v1/events`)).rejects.toThrow('401');
    const stream = await openEvents(`${api.url}/v1/events`, { authorization: `Bearer ${tokens.get('viewer')}` });
    await stream.close();
  });

  it('tokens work under any name that leads here, for proxies', async () => {
    const answer: Answer = await api.ask(
      'GET',
      '/v1/me',
      asRole('viewer', { headers: { origin: 'https://ops.example' } }),
    );
    expect(answer.status).toBe(200);
  });
});

describe.skipIf(testRedisSocket() === '')('an address that others can reach', () => {
  it('is refused while there is no token, with what to do', async () => {
    await expect(testApi({ workers: false, api: { address: '0.0.0.0' } })).rejects.toMatchObject({
      code: 'badInput',
      message: expect.stringMatching(/0\.0\.0\.0.*hostevac token create/),
    });
  });
});

/** Everything that Redis keeps for the fleet, but the audit log. */
async function fingerprint({ backend }: TestApi): Promise<Record<string, string>> {
  const keys = (await backend.redis.keys(`*${backend.fleet.name}*`)).filter((key) => !key.endsWith(':audit')).sort();
  const dumps = await Promise.all(keys.map((key) => backend.redis.dump(key)));
  return Object.fromEntries(keys.map((key, index) => [key, String(dumps[index])]));
}
