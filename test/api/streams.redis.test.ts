/** Streams of events: nothing is lost on the way, nothing is held for who has gone, nothing holds the server up. */
import { createConnection, type Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Recorder } from '../../src/api/recorder.ts';
import type { OperationEvent } from '../../src/domain/operation.ts';
import { until } from '../support/condition.ts';
import { testRedisSocket } from '../support/redis.ts';
import { type TestApi, testApi } from './api.ts';
import { type OpenStream, openEvents, readEvents } from './sse.ts';

const events = (operationId: string, from: number, count: number, size = 0): OperationEvent[] =>
  Array.from({ length: count }, (_, index) => ({
    atMs: from + index,
    operationId,
    kind: 'move.noted',
    vm: null,
    moveId: null,
    message: `${from + index}`.padEnd(size, '.'),
  }));
const numbers = (from: number, count: number): string[] =>
  Array.from({ length: count }, (_, index) => `${from + index}`);

describe.skipIf(testRedisSocket() === '')('streams', () => {
  let api: TestApi;
  const open: OpenStream[] = [];
  const sockets: Socket[] = [];
  let id = '';
  beforeAll(async () => {
    // No workers: an operation stays as it is, and what happens to it is what the test says.
    const limits = { streams: 120, heartbeatMs: 50, drainMs: 1_000, bufferBytes: 2 ** 20 };
    api = await testApi({ workers: false, limits });
    id = (await api.ask('POST', '/v1/evacuations', { body: { host: 'node-a' } })).json.id;
  });
  afterAll(async () => {
    await Promise.all(open.splice(0).map((stream) => stream.close()));
    for (const socket of sockets.splice(0)) socket.destroy();
    await api.close();
  });

  const follow = async (path: string, after?: string): Promise<OpenStream> => {
    const stream = await openEvents(`${api.url}${path}`, after === undefined ? {} : { 'last-event-id': after });
    open.push(stream);
    return stream;
  };
  const append = async (list: readonly OperationEvent[]): Promise<void> => {
    for (const event of list) await api.backend.stores.events.append(event);
  };
  const messages = async (stream: OpenStream, count: number): Promise<string[]> => {
    const found: string[] = [];
    while (found.length < count) {
      const event = await stream.next();
      if (event === null) throw new Error(`ended after ${found.length}`);
      if (event.event === 'move.noted') found.push(JSON.parse(event.data).message);
    }
    return found;
  };
  const held = () => api.server.hub.held;
  const released = () => until(() => held().streams === 0 && held().tails === 0, 5_000, 'nothing held');
  const closeAll = (streams: readonly OpenStream[]) => Promise.all(streams.map((stream) => stream.close()));

  it.each([
    ['an operation', () => `/v1/operations/${id}/events`],
    ['the fleet', () => '/v1/events'],
  ])('of %s: who comes back with the last id has missed nothing, however far behind', async (_, path) => {
    const first = await follow(path());
    await append(events(id, 0, 20));
    const seen: string[] = [];
    let last = '';
    while (seen.length < 7) {
      const event = await first.next();
      if (event?.event !== 'move.noted') continue;
      seen.push(JSON.parse(event.data).message);
      last = event.id ?? '';
    }
    await first.close();
    // Somebody else follows meanwhile: more passes by than is kept in memory.
    const other = await follow(path(), last);
    const others = messages(other, 1_500 + 13);
    await append(events(id, 20, 1_200));
    const second = await follow(path(), last);
    const rest = messages(second, 1_500 + 13);
    await append(events(id, 1_220, 300));
    expect([...seen, ...(await rest)]).toEqual(numbers(0, 1_520));
    expect([...seen, ...(await others)]).toEqual(numbers(0, 1_520));
    await closeAll([second, other]);
    // The other stream begins anew.
    await api.backend.redis.del(`{hostevac:${api.backend.fleet.name}}:events:${id}`);
    await released();
  });

  it('what cannot be read as an event is passed over, and so is such an entry of the audit log', async () => {
    const { redis, fleet, stores, audit } = api.backend;
    const stream = await follow(`/v1/operations/${id}/events`);
    const key = `{hostevac:${fleet.name}}:events:${id}`;
    await append(events(id, 0, 1));
    for (const text of ['{', '{"kind":"of.tomorrow"}']) await redis.xadd(key, '*', 'e', text);
    await append(events(id, 1, 1));
    expect(await messages(stream, 2)).toEqual(numbers(0, 2));
    const page = await stores.events.read(id, '0', 0, undefined, 1);
    expect(page).toHaveLength(1);
    // Nothing but such entries on a page: what is behind them is found.
    expect(await stores.events.read(id, page[0]?.streamId ?? '', 0, undefined, 1)).toMatchObject([{ message: '1' }]);
    await redis.xadd(`{hostevac:${fleet.name}}:audit`, '*', 'e', '{"actor":1}');
    expect((await api.ask('GET', '/v1/audit')).status).toBe(200);
    expect((await audit.read(1, null)).next).not.toBeNull();
    await closeAll([stream]);
    await redis.del(key);
    await released();
  });

  it('what a look could not tell, for Redis was away, the next one tells', async () => {
    const { backend } = api;
    const recorder = new Recorder(backend, () => undefined);
    let told: string[] = [];
    recorder.onChanged((operations) => told.push(...operations));
    await recorder.look();
    expect(told).toContain(id);
    told = [];
    await recorder.look();
    expect(told).toEqual([]);
    const moves = [{ vm: 'db-1', to: 'node-b' }];
    const made = await api.ask('POST', '/v1/rebalances', { body: { moves } });
    const now = backend.producer.now.bind(backend.producer);
    backend.producer.now = () => Promise.reject(new Error('away'));
    await expect(recorder.look()).rejects.toThrow('away');
    backend.producer.now = now;
    await recorder.look();
    expect(told).toEqual([made.json.id]);
    await recorder.close();
  });

  it('of one token so many streams are served, and the others have room', async () => {
    const own = await testApi({ workers: false, limits: { streamsPerCaller: 3 } });
    try {
      const make = (name: string) =>
        own.backend.tokens.create({ name, role: 'viewer', createdBy: 'test', expiresInMs: null });
      const [one, other] = [(await make('one')).text, (await make('other')).text];
      const inForce = async () => (await own.ask('GET', '/v1/me', { token: other })).json.name === 'other';
      await until(inForce, 3_000, 'the tokens');
      const as = (token: string) => openEvents(`${own.url}/v1/events`, { authorization: `Bearer ${token}` });
      const streams = [await as(one), await as(one), await as(one)];
      await expect(as(one)).rejects.toThrow('429');
      streams.push(await as(other));
      await closeAll(streams);
    } finally {
      await own.close();
    }
  });

  it('the end of an operation ends its streams', async () => {
    const stream = await follow(`/v1/operations/${id}/events`);
    const [last] = events(id, 3, 1);
    if (last === undefined) throw new Error('unreachable');
    await append([...events(id, 0, 3), { ...last, kind: 'operation.cancelled' }]);
    const kinds: string[] = [];
    for (let event = await stream.next(); event !== null; event = await stream.next()) kinds.push(event.event);
    expect(kinds).toEqual(['move.noted', 'move.noted', 'move.noted', 'operation.cancelled', 'end']);
    await released();
  });

  it('a hundred clients are served by one tail, each of them in order', async () => {
    const streams = await Promise.all(Array.from({ length: 100 }, () => follow('/v1/events')));
    expect(held()).toEqual({ streams: 100, tails: 1 });
    const all = Promise.all(streams.map((stream) => messages(stream, 50)));
    await append(events(id, 0, 50));
    for (const found of await all) expect(found).toEqual(numbers(0, 50));
    await closeAll(streams);
    await released();
  });

  it('more than are served are told so, and there is room again when one has gone', async () => {
    const streams = await Promise.all(Array.from({ length: 120 }, () => follow('/v1/events')));
    const refused = await api.ask('GET', '/v1/events');
    expect(refused).toMatchObject({ status: 503, json: { code: 'unavailable' } });
    expect(refused.headers.get('retry-after')).not.toBeNull();
    await streams[0]?.close();
    await until(() => held().streams === 119, 5_000, 'room');
    await (await follow('/v1/events')).close();
    await closeAll(streams);
    await released();
  });

  it('a client that does not read is dropped, and holds nobody up', async () => {
    const { port, hostname } = new URL(api.url);
    const socket = createConnection(Number(port), hostname);
    sockets.push(socket);
    socket.pause();
    socket.write(`GET /v1/events HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`);
    await until(() => held().streams === 1, 5_000, 'the stream');
    const reads = await follow('/v1/events');
    // Far more than the kernel takes for it.
    const all = messages(reads, 400);
    await append(events(id, 0, 400, 40_000));
    expect(await all).toHaveLength(400);
    await until(() => held().streams === 1, 10_000, 'the drop');
    await reads.close();
    await released();
  });

  it('clients that go while they are being let in leave nothing behind', async () => {
    const { port, hostname } = new URL(api.url);
    for (let count = 0; count < 40; count += 1) {
      const socket = createConnection(Number(port), hostname);
      const path = count % 2 === 0 ? '/v1/events' : `/v1/operations/${id}/events`;
      await new Promise<void>((resolve) =>
        socket.write(`GET ${path} HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`, () => resolve()),
      );
      socket.destroy();
    }
    // The last one is let in after all of those.
    await (await follow('/v1/events')).close();
    await released();
  });

  it('hints at what has changed, without an id', async () => {
    const stream = await follow('/v1/events');
    const next = async (): Promise<{ hosts?: boolean; operations?: string[] }> => {
      for (;;) {
        const event = await stream.next();
        if (event === null) throw new Error('ended');
        if (event.event !== 'changed') continue;
        expect(event.id).toBeNull();
        return JSON.parse(event.data);
      }
    };
    // What is there is looked at once before anything can have changed.
    await api.ask('GET', '/v1/hosts');
    const made = await api.ask('POST', '/v1/evacuations', { body: { host: 'node-c' } });
    let hint = await next();
    while (hint.operations?.includes(made.json.id) !== true) hint = await next();
    await api.ask('POST', '/v1/hosts/node-c/cordon');
    while (hint.hosts !== true) hint = await next();
    await stream.close();
  });

  it('an id that is none is refused', async () => {
    const answer = await api.ask('GET', '/v1/events', { headers: { 'last-event-id': 'x' } });
    expect(answer).toMatchObject({ status: 400, json: { problems: [{ path: 'header.last-event-id' }] } });
  });

  it('the end of the server ends every stream at once', async () => {
    const other = await testApi({ workers: false });
    const streams = await Promise.all([1, 2, 3].map(() => openEvents(`${other.url}/v1/events`)));
    const ended = Promise.all(streams.map((stream) => stream.next()));
    const began = performance.now();
    await other.close();
    expect(await ended).toEqual([null, null, null]);
    expect(performance.now() - began).toBeLessThan(3_000);
    await expect(readEvents(`${other.url}/v1/events`)).rejects.toThrow();
  });
});
