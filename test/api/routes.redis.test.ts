/** The routes, each at least once, on a fleet whose workers carry out what is asked for. */
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { smallFleet } from '../cli/small-fleet.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';
import { type TestApi, testApi } from './api.ts';
import { readEvents } from './sse.ts';

describe.skipIf(testRedisSocket() === '')('the API', () => {
  let api: TestApi;
  beforeAll(async () => {
    api = await testApi();
  });
  afterAll(() => api.close());

  it('an evacuation is asked for, followed to its end, and told in full', async () => {
    const key = { 'idempotency-key': 'first' };
    const made = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-a' }, headers: key });
    expect(made).toMatchObject({ status: 201, json: { acceptance: 'created', operation: { host: 'node-a' } } });
    const { id } = made.json;
    expect(made.headers.get('location')).toBe(`/v1/operations/${id}`);

    const again = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-a' }, headers: key });
    expect(again).toMatchObject({ status: 200, json: { id, acceptance: 'repeated' } });
    const joined = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-a' } });
    expect(joined).toMatchObject({ status: 200, json: { id, acceptance: 'joined' } });
    const other = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-b' }, headers: key });
    expect(other).toMatchObject({ status: 409, json: { code: 'idempotencyConflict' } });

    const events = await readEvents(`${api.url}/v1/operations/${id}/events`);
    expect(events.at(-1)?.event).toBe('end');
    const kinds = events.map(({ event }) => event);
    expect(kinds.filter((kind) => kind === 'move.done')).toHaveLength(3);
    expect(kinds.at(-2)).toBe('operation.done');

    const told = await api.ask('GET', `/v1/operations/${id}`);
    expect(told.json).toMatchObject({ state: 'done', etaMs: null, result: { state: 'done', empty: true } });
    expect(told.json.result.moves).toHaveLength(3);
    expect(told.json).not.toHaveProperty('token');
    const migrations = await api.ask('GET', `/v1/operations/${id}/migrations`);
    expect(migrations.json.items).toHaveLength(3);
    const one = await api.ask('GET', `/v1/migrations/${migrations.json.items[0].id}`);
    expect(one.json).toEqual(migrations.json.items[0]);
    for (const hidden of ['token', 'account', 'evidence']) expect(one.json).not.toHaveProperty(hidden);

    const course = await readEvents(`${api.url}/v1/migrations/${one.json.id}/progress`);
    expect(course.length).toBeGreaterThan(1);
    expect(course.at(-1)?.event).toBe('end');
    expect(JSON.parse(course.at(-2)?.data ?? '')).toMatchObject({ state: 'done' });

    const listed = await api.ask('GET', '/v1/operations?state=done');
    expect(listed.json.items).toMatchObject([{ id, vms: { total: 3, done: 3, running: 0, queued: 0, failed: 0 } }]);
    expect((await api.ask('GET', '/v1/operations?state=running')).json.items).toEqual([]);
  });

  it('waits for approval where that was asked for, and carries out what was approved', async () => {
    await api.ask('POST', '/v1/hosts/node-a/uncordon');
    const { json } = await api.ask('POST', '/v1/rebalances', {
      body: { moves: [{ vm: 'mail-1', to: 'node-b' }], approveFirst: true },
    });
    let record = json.operation;
    const read = async (): Promise<void> => {
      record = (await api.ask('GET', `/v1/operations/${json.id}`)).json;
    };
    await until(
      async () => {
        await read();
        return record.state === 'awaitingApproval';
      },
      15_000,
      'a proposal',
    );
    expect(record.proposal.moves).toMatchObject([{ vm: 'mail-1', destination: 'node-b' }]);
    const blind = await api.ask('POST', `/v1/operations/${json.id}/approve`, { body: {} });
    expect(blind.json).toMatchObject({ status: 400, problems: [{ path: 'hash' }] });
    expect((await api.ask('POST', `/v1/operations/${json.id}/approve`)).status).toBe(400);
    const approved = await api.ask('POST', `/v1/operations/${json.id}/approve`, {
      body: { hash: record.proposal.hash },
    });
    expect(approved).toMatchObject({ status: 200, json: { changed: true } });
    await until(
      async () => {
        await read();
        return record.state === 'done';
      },
      20_000,
      'the end',
    );
  });

  it('what was made is told and written down as made, also where it cannot be shown just then', async () => {
    const { producer } = api.backend;
    const operation = producer.operation.bind(producer);
    producer.operation = () => Promise.reject(new HostevacError('redisAway', 'away'));
    const made = await api.ask('POST', '/v1/rebalances', {
      body: { moves: [{ vm: 'db-1', to: 'node-b' }], approveFirst: true },
    });
    producer.operation = operation;
    expect(made).toMatchObject({ status: 201, json: { acceptance: 'created', operation: null } });
    const [told] = (await api.ask('GET', '/v1/audit?limit=1')).json.items;
    expect(told).toMatchObject({ action: 'rebalance.create', target: made.json.id, outcome: 'done' });
    await api.ask('POST', `/v1/operations/${made.json.id}/cancel`);
    // What a route has parsed itself and could not is no fault of who asks.
    producer.operation = () => Promise.reject(new SyntaxError('a record that is none'));
    expect((await api.ask('GET', '/v1/operations/y')).json).toMatchObject({ status: 500, code: 'internal' });
    producer.operation = operation;
  });

  it('pause, resume and cancel say what they did', async () => {
    const { json } = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-c', approveFirst: true } });
    const at = `/v1/operations/${json.id}`;
    expect((await api.ask('POST', `${at}/pause`, { body: { now: true } })).json).toMatchObject({ changed: true });
    expect((await api.ask('POST', `${at}/resume`)).json).toMatchObject({ changed: true });
    expect((await api.ask('POST', `${at}/cancel`, { body: {} })).json).toMatchObject({ changed: true });
    expect((await api.ask('POST', `${at}/cancel`, { body: { now: true } })).status).toBe(400);
    expect((await api.ask('POST', '/v1/operations/nope/cancel')).json).toMatchObject({ code: 'unknownOperation' });
  });

  it('a plan changes nothing', async () => {
    const before = (await api.ask('GET', '/v1/operations')).json.items.length;
    const plan = await api.ask('POST', '/v1/plans', { body: { evacuateNode: { host: 'node-b' } } });
    expect(plan.status).toBe(200);
    expect(plan.json.moves.length).toBeGreaterThan(0);
    expect((await api.ask('GET', '/v1/operations')).json.items).toHaveLength(before);
  });

  it('the policies that may be named, with what holds unless a request says otherwise', async () => {
    const { status, json } = await api.ask('GET', '/v1/policies');
    expect(status).toBe(200);
    expect(json.items.map(({ name }: { name: string }) => name)).toEqual(['maintenance', 'rebalance', 'emergency']);
    expect(json.items[0]).toMatchObject({
      what: expect.stringContaining('deadline comes first'),
      requirements: { aggression: 0.5, minCpuShare: 0.1, maxStallMs: 300 },
    });
  });

  it("those of the fleet's modules, too", async () => {
    const module = fileURLToPath(new URL('../../docs/examples/gentle-nights.mjs', import.meta.url));
    const fleet = `${smallFleet('mine')}\npolicies: [{ name: gentle-nights, module: ${JSON.stringify(module)} }]\n`;
    const own = await testApi({ fleet, workers: false });
    try {
      const { json } = await own.ask('GET', '/v1/policies');
      expect(json.items.at(-1)).toMatchObject({
        name: 'gentle-nights',
        what: expect.stringContaining('nobody waits for'),
        requirements: { minCpuShare: 0.3, maxTimeMs: 1_800_000 },
      });
    } finally {
      await own.close();
    }
  });

  it('hosts: listed, cordoned, given another capacity', async () => {
    const hosts = await api.ask('GET', '/v1/hosts');
    expect(hosts.json.items.map(({ host }: { host: string }) => host)).toEqual(['node-a', 'node-b', 'node-c']);
    expect((await api.ask('POST', '/v1/hosts/node-b/cordon')).json).toMatchObject({ changed: true });
    expect((await api.ask('GET', '/v1/hosts/node-b')).json).toMatchObject({ cordoned: true });
    expect((await api.ask('POST', '/v1/hosts/node-b/cordon')).json).toMatchObject({ changed: false });
    expect((await api.ask('POST', '/v1/hosts/node-b/uncordon')).json).toMatchObject({ changed: true });
    const set = await api.ask('PUT', '/v1/hosts/node-b/capacity', { body: { egress: '20MiB/s' } });
    expect(set.json).toMatchObject({ changed: true });
    expect((await api.ask('GET', '/v1/hosts/node-b')).json).toMatchObject({
      egress: { capacity: 20 * 2 ** 20 },
      capacityOverride: { egress: 20 * 2 ** 20, by: 'local' },
    });
    expect((await api.ask('DELETE', '/v1/hosts/node-b/capacity')).json).toMatchObject({ changed: true });
    expect((await api.ask('GET', '/v1/hosts/node-b')).json.capacityOverride).toBeNull();
    expect((await api.ask('PUT', '/v1/hosts/node-b/capacity', { body: {} })).json.problems).toHaveLength(1);
    expect((await api.ask('GET', '/v1/hosts/node-x')).json.detail).toContain('node-');
  });

  it('VMs: every one on exactly one page, found by host and by a part of the name', async () => {
    const names: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const page = await api.ask('GET', `/v1/vms?limit=1${cursor === '' ? '' : `&cursor=${cursor}`}`);
      names.push(...page.json.items.map(({ vm }: { vm: string }) => vm));
      cursor = page.json.next;
    }
    expect(names).toEqual(['db-1', 'mail-1', 'web-1', 'web-2']);
    expect((await api.ask('GET', '/v1/vms?name=WEB')).json.items).toHaveLength(2);
    const { host } = (await api.ask('GET', '/v1/vms/web-1')).json;
    const there = (await api.ask('GET', `/v1/vms?host=${host}`)).json.items;
    expect(there.map(({ vm }: { vm: string }) => vm)).toContain('web-1');
    expect((await api.ask('GET', '/v1/vms/web-3')).json).toMatchObject({ code: 'unknownVm' });
    expect((await api.ask('GET', '/v1/vms?cursor=nonsense')).status).toBe(400);
  });

  it('what-if: who asks the same at once gets the same answer', async () => {
    const ask = () => api.ask('POST', '/v1/vms/db-1/what-if', { body: { aggression: 0.3 } });
    const [one, other] = await Promise.all([ask(), ask()]);
    expect(one.status).toBe(200);
    expect(one.json.rows.length).toBeGreaterThan(2);
    expect(other.json).toEqual(one.json);
  });

  it('every fault of a body is told at once, with its value and a remedy', async () => {
    const body = { host: 'node-a', aggression: 2, maxTim: '5m', overrides: { 'db-1': { minCpu: 'much' } } };
    const { status, json } = await api.ask('POST', '/v1/evacuations', { body });
    expect(status).toBe(400);
    expect(json.problems.map(({ path }: { path: string }) => path).sort()).toEqual([
      'aggression',
      'maxTim',
      'overrides.db-1.minCpu',
    ]);
    for (const problem of json.problems) expect(problem.remedy).not.toBe('');
  });

  it('what cannot be read, is too large, or is nowhere', async () => {
    const post = (body: string, headers = {}) => api.ask('POST', '/v1/evacuations', { body, headers });
    expect((await post('{')).json).toMatchObject({ status: 400, code: 'badInput' });
    expect((await post('{"__proto__":{"x":1},"host":"node-a"}')).status).toBe(400);
    expect((await post('host=node-a', { 'content-type': 'application/x-www-form-urlencoded' })).status).toBe(415);
    expect((await post('{}', { 'content-type': 'text/plain' })).status).toBe(415);
    expect((await post(JSON.stringify({ host: 'x'.repeat(70_000) }))).json).toMatchObject({ code: 'payloadTooLarge' });
    const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`;
    expect((await post(`{"host":${deep},"x":${deep}}`.slice(0, 60_000))).status).toBe(400);
    expect((await post(`{"host":${deep}}`)).json).toMatchObject({ status: 400, problems: [{ path: 'host' }] });
    const large = { evacuateNode: { host: 'node-a', x: 'x'.repeat(70_000) } };
    expect((await api.ask('POST', '/v1/plans', { body: large })).json).toMatchObject({ code: 'payloadTooLarge' });
    const wrongMethod = await api.ask('PATCH', '/v1/hosts/node-a/capacity');
    expect(wrongMethod.status).toBe(405);
    expect(wrongMethod.headers.get('allow')?.split(', ').sort()).toEqual(['DELETE', 'PUT']);
    expect((await api.ask('GET', '/v1/nothing')).json).toMatchObject({ status: 404, code: 'unknownRoute' });
    expect((await api.ask('GET', '/v1/hosts/%E0%A4%A')).json).toMatchObject({ status: 400 });
  });

  it('a big rebalance is taken where an evacuation of its size is not', async () => {
    const moves = Array.from({ length: 3_000 }, (_, index) => ({ vm: `vm-${index}`, to: 'node-b' }));
    const { status } = await api.ask('POST', '/v1/plans', { body: { loadBalance: { moves } } });
    expect(JSON.stringify(moves).length).toBeGreaterThan(64 * 1_024);
    expect([200, 404]).toContain(status);
  });

  it('the page says that there is no dashboard, under a policy that lets nothing in', async () => {
    const page = await fetch(`${api.url}/`);
    expect(page.status).toBe(200);
    expect(await page.text()).toContain('not built');
    expect(page.headers.get('content-security-policy')).toContain("default-src 'none'");
    const docs = await fetch(`${api.url}/docs`);
    const text = await docs.text();
    expect(text).toContain('/v1/evacuations');
    expect(text).not.toMatch(/<script|https?:\/\//);
  });
});
