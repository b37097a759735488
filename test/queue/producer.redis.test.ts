/** What a producer reads and sets, on a real Redis; what the workers of a fleet have published is published here. */
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { RealClock } from '../../src/clock/real-clock.ts';
import { fleetSchema } from '../../src/domain/fleet.ts';
import { createProducer } from '../../src/queue/create-producer.ts';
import type { Producer } from '../../src/queue/producer.ts';
import { fleetPrefix, Stores } from '../../src/runtime/stores.ts';
import type { StoredEvent } from '../../src/store/event-log.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';
import { host, vm } from '../support/world.ts';

describe.skipIf(testRedisSocket() === '')('a producer', () => {
  let server: TestRedis;
  let stores: Stores;
  let producer: Producer;
  let prefix: string;
  const fleet = fleetSchema.parse({
    name: `producer-${randomBytes(4).toString('hex')}`,
    hosts: [host('a', [vm('web-1')]), host('b', [])],
  });

  beforeEach(async () => {
    server = await testRedis();
    prefix = fleetPrefix(fleet.name);
    stores = new Stores({
      redis: server.redis,
      prefix,
      clock: new RealClock(),
      openSubscriber: () => server.open('subscriber'),
    });
    producer = await createProducer({ connection: server.socketPath, fleet });
  });
  afterEach(async () => {
    await producer.close();
    await stores.close();
    const keys = await server.redis.keys(`*${prefix}*`);
    if (keys.length > 0) await server.redis.unlink(...keys);
    await server.close();
  });

  test("tells a host's capacity that a person has set, whole or in part, and takes it back", async () => {
    expect((await producer.hosts()).map(({ capacityOverride }) => capacityOverride)).toEqual([null, null]);
    expect(await producer.capacity('a', { egress: '20MiB/s' }, 'ann')).toMatchObject({ changed: true });
    const [a, b] = await producer.hosts();
    expect(a).toMatchObject({ egress: { capacity: 20 * 2 ** 20 }, ingress: { capacity: 2 ** 30 } });
    expect(a?.capacityOverride).toEqual({ egress: 20 * 2 ** 20, by: 'ann', atMs: expect.any(Number) });
    expect(b?.capacityOverride).toBeNull();
    // The whole of it: what is not named is the fleet file's again.
    await producer.capacity('a', { ingress: 5_000_000 }, 'bob');
    expect((await producer.hosts())[0]?.capacityOverride).toEqual({
      ingress: 5e6,
      by: 'bob',
      atMs: expect.any(Number),
    });
    expect(await producer.capacity('a', { ingress: 5_000_000 }, 'eve')).toMatchObject({ changed: false });
    expect((await producer.hosts())[0]?.capacityOverride?.by).toBe('bob');
    expect(await producer.capacity('a', null, 'ann')).toMatchObject({ changed: true });
    expect(await producer.capacity('a', null, 'ann')).toMatchObject({ changed: false });
    await expect(producer.capacity('c', null, 'ann')).rejects.toMatchObject({ code: 'unknownHost' });
    await expect(producer.capacity('a', { egress: 0 }, 'ann')).rejects.toMatchObject({ code: 'badInput' });
  });

  test('lists VMs with the operation that has claimed them, with and without the fleet file', async () => {
    expect(await producer.vms()).toEqual([]);
    const seen = { uuid: 'u-1', touchedBytes: 1, demandCores: 0, notMigratable: null, cpus: 2, memoryBytes: 4096 };
    await stores.presence.publish({
      host: 'a',
      takenAtMs: 1,
      unreachable: null,
      vms: [{ name: 'web-1', state: 'running', ...seen }],
    });
    await stores.claims.claim('op-1', [{ moveId: 'op-1-1-1', vm: 'web-1', host: 'b', memoryBytes: 4096, cpus: 2 }]);
    const listed = [
      { vm: 'web-1', uuid: 'u-1', host: 'a', state: 'running', cpus: 2, memoryBytes: 4096, operation: 'op-1' },
    ];
    expect(await producer.vms()).toEqual(listed);
    const published = { hash: 'h', speed: 1, originMs: 0, hosts: ['a', 'b'] };
    await stores.publishedFleet.update(() => ({ value: published, result: undefined }));
    const other = await createProducer({ connection: server.socketPath, fleetName: fleet.name });
    expect(await other.vms()).toEqual(listed);
    await other.close();
  });

  test('gives operations in pages, newest first', async () => {
    const ids: string[] = [];
    for (let n = 0; n < 5; n += 1) {
      const { id } = await producer.loadBalance({ moves: [{ vm: 'web-1', to: 'b' }] });
      ids.unshift(id);
    }
    const asked = ids.toSorted().toReversed();
    const first = await producer.operations({ limit: 2 });
    const second = await producer.operations({ limit: 2, before: first.at(-1)?.id ?? '' });
    const last = await producer.operations({ limit: 2, before: second.at(-1)?.id ?? '' });
    const page = [...first, ...second, ...last].map(({ id }) => id);
    expect([...page].sort()).toEqual([...ids].sort());
    expect(page.map((id) => id.split('-')[1])).toEqual(asked.map((id) => id.split('-')[1]));
    expect(await producer.operations({ limit: 9, states: ['running'] })).toEqual([]);
    expect((await producer.operations(3)).length).toBe(3);
  });

  test("follows all operations' events from now on, or from where it was, and ends with its signal", async () => {
    const say = (operationId: string, kind: string) =>
      stores.events.append({ atMs: 1, operationId, kind, vm: null, moveId: null, message: kind });
    await say('op-1', 'before');
    const stop = new AbortController();
    const seen: StoredEvent[] = [];
    const following = (async () => {
      for await (const event of producer.fleetEvents({ after: '0', signal: stop.signal })) {
        seen.push(event);
        if (event.kind === 'last') stop.abort();
      }
    })();
    await say('op-2', 'move.done');
    await say('op-1', 'last');
    await following;
    expect(seen.map(({ operationId, kind }) => [operationId, kind])).toEqual([
      ['op-1', 'before'],
      ['op-2', 'move.done'],
      ['op-1', 'last'],
    ]);
    const later = new AbortController();
    const rest: string[] = [];
    for await (const event of producer.fleetEvents({ after: seen[0]?.streamId ?? '', signal: later.signal })) {
      rest.push(event.kind);
      if (event.kind === 'last') break;
    }
    expect(rest).toEqual(['move.done', 'last']);
    const fresh = producer.fleetEvents()[Symbol.asyncIterator]();
    const next = fresh.next();
    // From now on: what was there before does not come. It is said until it is heard, for when it begins nobody is told.
    let heard: StoredEvent | null = null;
    void next.then(({ value }) => {
      heard = value ?? null;
    });
    while (heard === null) await say('op-3', 'fresh');
    expect(heard).toMatchObject({ operationId: 'op-3', kind: 'fresh' });
    await fresh.return?.();
  });

  test('an evacuation that waits for approval is joined, and that is said; approving too early changes nothing', async () => {
    const first = await producer.evacuateNode({ host: 'a', approveFirst: true });
    expect(await first.record()).toMatchObject({ request: { approveFirst: true }, proposal: null, state: 'queued' });
    const second = await producer.evacuateNode({ host: 'a' });
    expect([second.id, second.acceptance]).toEqual([first.id, 'joined']);
    expect(second.warnings).toEqual([expect.stringContaining(`hostevac approve ${first.id}`)]);
    expect(await second.approve()).toMatchObject({
      changed: false,
      message: expect.stringContaining('no plan to approve yet'),
    });
  });
});
