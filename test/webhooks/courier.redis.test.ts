/** The courier between a real Redis and a real HTTP receiver. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RealClock } from '../../src/clock/real-clock.ts';
import type { OperationEvent } from '../../src/domain/operation.ts';
import { webhookSchema } from '../../src/domain/webhook.ts';
import type { Observer } from '../../src/runtime/observer.ts';
import { thisProcess } from '../../src/runtime/process-identity.ts';
import { RedisLeases } from '../../src/store/redis-leases.ts';
import { RedisCellStore, RedisEventLog, RedisWakeups } from '../../src/store/redis-store.ts';
import { runCourier } from '../../src/webhooks/courier.ts';
import { until } from '../support/condition.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../support/redis.ts';
import { Receiver } from './receiver.ts';

const SECRET = 'a secret that nobody guesses';
const clock = new RealClock();

describe.skipIf(!testRedisSocket())('webhooks', () => {
  let place: TestRedis;
  let events: RedisEventLog;
  let receiver: Receiver;
  let count = 0;
  const closing: (() => Promise<unknown>)[] = [];
  const logged: string[] = [];
  const outcomes: string[] = [];

  beforeEach(async () => {
    place = await testRedis();
    const wakeups = new RedisWakeups(place.redis, () => place.open('subscriber'), place.prefix);
    events = new RedisEventLog(place.redis, wakeups, place.prefix);
    receiver = await Receiver.start(SECRET);
    closing.push(
      () => wakeups.close(),
      () => receiver.close(),
    );
    logged.length = 0;
    outcomes.length = 0;
  });
  afterEach(async () => {
    for (const close of closing.splice(0).toReversed()) await close();
    await place.close();
  });

  const happened = (operationId: string, kind: string, over: Partial<OperationEvent> = {}): Promise<void> => {
    count += 1;
    return events.append({
      atMs: count,
      operationId,
      kind,
      vm: null,
      moveId: null,
      message: `event ${count}`,
      ...over,
    });
  };

  interface Options {
    readonly owner?: string;
    readonly url?: string;
    readonly name?: string;
    readonly events?: string[];
    readonly firstRetryMs?: number;
    readonly requestMs?: number;
    readonly keptMs?: number;
  }
  /** One process's; `stop` is its death too: nothing is written by it any more. */
  function courier({
    owner = 'one',
    url,
    name = 'owners',
    events: globs,
    firstRetryMs = 5,
    requestMs = 500,
    keptMs,
  }: Options = {}): { stop: () => Promise<void> } {
    const webhook = webhookSchema.parse({
      name,
      url: url ?? receiver.url,
      secretEnv: 'S',
      ...(globs === undefined ? {} : { events: globs }),
    });
    const leases = new RedisLeases({
      redis: place.redis,
      prefix: place.prefix,
      owner: { ...thisProcess(), id: owner },
      isDead: () => false,
      clock,
    });
    const stopping = new AbortController();
    const tell = (line: object, message?: string): void => void logged.push(JSON.stringify([line, message]));
    const running = runCourier(
      {
        fleetName: 'test',
        endpoints: [{ webhook, secret: SECRET }],
        events,
        cells: new RedisCellStore(place.redis, place.prefix),
        leases,
        clock,
        observer: { delivery: ({ outcome }) => void outcomes.push(outcome) } satisfies Observer,
        log: { info: tell, warn: tell },
        times: { firstRetryMs, longestRetryMs: 200, requestMs, ...(keptMs === undefined ? {} : { keptMs }) },
      },
      stopping.signal,
    );
    const stop = async (): Promise<void> => {
      stopping.abort();
      await running;
    };
    closing.push(stop);
    return { stop };
  }

  /** The first event that a new receiver is told of is one that comes after it. */
  async function begun(name = 'owners'): Promise<void> {
    await until(
      async () => (await place.redis.exists(`${place.prefix}:cell:webhook:${name}`)) === 1,
      5_000,
      'a cursor',
    );
  }
  const arrived = (number: number): Promise<void> =>
    until(() => receiver.taken.length >= number, 10_000, `${number} events`);

  it('brings what happens from now on, signed, with an id, as it was; what it does not want it does not get', async () => {
    await happened('op-0', 'operation.done');
    courier({ events: ['operation.*', 'move.notice'] });
    await begun();
    await happened('op-1', 'operation.planning');
    await happened('op-1', 'move.precopy', { vm: 'x', moveId: 'm' });
    const notice = { action: 'migration', source: 'a', destination: 'b', startsNotBeforeMs: 7 } as const;
    await happened('op-1', 'move.notice', { vm: 'x', moveId: 'm', notice });
    await arrived(2);
    expect(receiver.received.map(({ kind, signed }) => [kind, signed])).toEqual([
      ['operation.planning', true],
      ['move.notice', true],
    ]);
    const [, last] = receiver.received;
    expect(last?.eventId).toBe(last?.id);
    expect(JSON.parse(last?.body ?? '')).toEqual({
      id: expect.stringMatching(/^evt_[0-9a-f]{32}$/),
      kind: 'move.notice',
      fleet: 'test',
      operation: 'op-1',
      atMs: expect.any(Number),
      vm: 'x',
      move: 'm',
      message: expect.any(String),
      ...notice,
    });
  });

  it('after a 500 sends the same again under the same id, and nothing of that operation before it was taken', async () => {
    const left = new Map<string, number>([['op-1', 3]]);
    receiver.answer = ({ operation }) => {
      const failures = left.get(operation) ?? 0;
      left.set(operation, failures - 1);
      return failures > 0 ? 500 : 204;
    };
    const first = courier();
    await begun();
    await first.stop();
    for (let step = 1; step <= 5; step += 1) {
      await happened('op-1', `move.step${step}`);
      await happened('op-2', `move.step${step}`);
    }
    // So that they are read all at once.
    courier();
    await arrived(10);
    const of = (operation: string) => receiver.received.filter((one) => one.operation === operation);
    expect(of('op-1').map(({ kind, status }) => [kind, status])).toEqual([
      ['move.step1', 500],
      ['move.step1', 500],
      ['move.step1', 500],
      ...[1, 2, 3, 4, 5].map((step) => [`move.step${step}`, 204]),
    ]);
    expect(
      new Set(
        of('op-1')
          .slice(0, 4)
          .map(({ id, body }) => `${id} ${body}`),
      ).size,
    ).toBe(1);
    expect(of('op-2').map(({ kind }) => kind)).toEqual([1, 2, 3, 4, 5].map((step) => `move.step${step}`));
    expect(outcomes.filter((one) => one === 'retried')).toHaveLength(3);
  });

  it('a successor goes on where the cursor stands: nothing is lost, what is sent again has the same id', async () => {
    receiver.answer = ({ message }) => (message === 'stop here' ? 'hang' : 204);
    const first = courier({ owner: 'one', requestMs: 60_000 });
    await begun();
    await happened('op-1', 'move.a');
    await arrived(1);
    await happened('op-1', 'move.b', { message: 'stop here' });
    await happened('op-1', 'move.c');
    await until(
      () => receiver.received.some(({ message }) => message === 'stop here'),
      5_000,
      'the request that hangs',
    );
    await first.stop();
    const before = receiver.received.find(({ message }) => message === 'stop here');
    receiver.answer = () => 204;
    courier({ owner: 'two' });
    await arrived(3);
    expect(receiver.taken.map(({ kind }) => kind)).toEqual(['move.a', 'move.b', 'move.c']);
    expect(receiver.taken[1]?.id).toBe(before?.id);
  });

  it('one process at a time delivers', async () => {
    courier({ owner: 'one' });
    courier({ owner: 'two' });
    await begun();
    for (let step = 0; step < 20; step += 1) await happened('op-1', `move.step${step}`);
    await arrived(20);
    expect(receiver.received.map(({ kind }) => kind)).toEqual(
      Array.from({ length: 20 }, (_, step) => `move.step${step}`),
    );
  });

  it('an event that is refused is given up, and one that fails alone; the others go on', async () => {
    receiver.answer = ({ kind }) => (kind === 'move.bad' ? 400 : 204);
    courier();
    await begun();
    await happened('op-1', 'move.bad', { vm: 'x' });
    await happened('op-1', 'move.good');
    await arrived(1);
    expect(receiver.received.filter(({ kind }) => kind === 'move.bad')).toHaveLength(5);
    expect(outcomes.filter((one) => one === 'dropped')).toHaveLength(1);
    receiver.answer = ({ kind }) => (kind === 'move.worse' ? 500 : 204);
    await happened('op-1', 'move.worse');
    await until(() => receiver.received.some(({ kind }) => kind === 'move.worse'), 5_000, 'the one that fails');
    await happened('op-1', 'move.later');
    await happened('op-2', 'move.other');
    // All of a batch is brought before the next begins: the other operation's is in the next one, or was in this one.
    expect(logged.join('\n')).toContain('HTTP 400');
    expect(logged.join('\n')).not.toContain(SECRET);
  });

  it('redirects are not followed; one that answers nothing is tried again after its time', async () => {
    let redirected = 0;
    receiver.answer = ({ kind }) => {
      if (kind === 'move.redirected') {
        redirected += 1;
        return 302;
      }
      return redirected > 0 && receiver.received.filter((one) => one.kind === 'move.hangs').length === 0 ? 'hang' : 204;
    };
    courier({ requestMs: 200 });
    await begun();
    await happened('op-1', 'move.redirected');
    await happened('op-1', 'move.hangs');
    await arrived(1);
    expect(redirected).toBe(5);
    expect(receiver.received.filter(({ kind }) => kind === 'move.hangs').map(({ status }) => status)).toEqual([0, 204]);
  });

  it('a receiver that is away is waited for, and then gets all in order; Redis keeps no more than the stream', async () => {
    const { port } = receiver;
    await receiver.close();
    courier({ url: `http://127.0.0.1:${port}/` });
    await begun();
    const keysBefore = (await place.redis.keys(`${place.prefix}*`)).length;
    for (let step = 0; step < 300; step += 1) await happened('op-1', `move.step${step % 10}`, { message: `m${step}` });
    await until(() => outcomes.length > 5, 5_000, 'attempts');
    expect((await place.redis.keys(`${place.prefix}*`)).length).toBeLessThanOrEqual(keysBefore + 2);
    receiver = await Receiver.start(SECRET, port);
    await arrived(300);
    expect(receiver.taken.map(({ message }) => message)).toEqual(Array.from({ length: 300 }, (_, step) => `m${step}`));
    expect(outcomes).not.toContain('dropped');
    expect(logged.filter((line) => line.includes('not taken'))).toHaveLength(1);
  });

  it('what is older than it is kept for is given up', async () => {
    receiver.answer = () => 500;
    courier({ keptMs: 100 });
    await begun();
    await happened('op-1', 'move.old');
    await until(() => outcomes.includes('dropped'), 5_000, 'it to be given up');
    receiver.answer = () => 204;
    await happened('op-1', 'move.new');
    await arrived(1);
    expect(receiver.taken.map(({ kind }) => kind)).toEqual(['move.new']);
  });
});
