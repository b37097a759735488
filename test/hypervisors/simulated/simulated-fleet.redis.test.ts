/** The same behaviour on the log in Redis, and what only that can do: keep a fleet beyond its processes, refuse another one. */
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RealClock } from '../../../src/clock/real-clock.ts';
import type { Fleet } from '../../../src/domain/fleet.ts';
import { SimulatedHypervisor } from '../../../src/hypervisors/simulated/hypervisor.ts';
import { RedisSimulationLog, simulationOrigin } from '../../../src/hypervisors/simulated/redis-log.ts';
import { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../../../src/hypervisors/simulated/throttle.ts';
import { until } from '../../support/condition.ts';
import { type TestRedis, testRedis, testRedisSocket } from '../../support/redis.ts';
import { SocketRelay } from '../../support/socket-relay.ts';
import { throttleBehaviour } from '../../throttling/throttle-behaviour.ts';
import { hypervisorBehaviour } from '../hypervisor-behaviour.ts';
import { BEHAVIOUR_FLEET, THROTTLE_FLEET } from './fleets.ts';
import { LOG_FLEET, logBehaviour } from './log-behaviour.ts';

const share = { kind: 'setShare', token: 1, vm: 'ref', host: 'a', share: 0.5, validForMs: 1e9 } as const;

describe.skipIf(testRedisSocket() === '')('the simulated fleet in Redis', () => {
  let server: TestRedis;
  beforeAll(async () => {
    server = await testRedis();
  });
  afterAll(() => server.close());
  const freshPrefix = (): string => `${server.prefix}${randomBytes(4).toString('hex')}`;
  const nothing = async (): Promise<void> => undefined;

  /** Opens processes of one fresh fleet, each with a connection of its own. */
  const processes = (fleet: Fleet, prefix = freshPrefix()) => {
    return async () => {
      const redis = await server.open('worker');
      return new SimulatedFleet({ fleet, log: new RedisSimulationLog({ redis, prefix, fleet }) });
    };
  };

  hypervisorBehaviour('simulated, in Redis', async () => {
    const open = processes(BEHAVIOUR_FLEET);
    const clock = new RealClock({ speed: BEHAVIOUR_FLEET.simulation.speed });
    return {
      one: new SimulatedHypervisor(await open(), clock),
      other: new SimulatedHypervisor(await open(), clock),
      until,
      close: nothing,
    };
  });

  throttleBehaviour('simulated, in Redis', async () => {
    const open = processes(THROTTLE_FLEET);
    const clock = new RealClock({ speed: THROTTLE_FLEET.simulation.speed });
    return {
      one: new SimulatedThrottle(await open(), clock),
      other: new SimulatedThrottle(await open(), clock),
      until,
      close: nothing,
    };
  });

  logBehaviour('in Redis', async () => {
    const prefix = freshPrefix();
    return {
      process: async () => new RedisSimulationLog({ redis: await server.open('worker'), prefix, fleet: LOG_FLEET }),
      close: nothing,
    };
  });

  test('fleet time runs on the same for the log and for a clock that was given the origin', async () => {
    const prefix = freshPrefix();
    const originMs = await simulationOrigin(server.redis, prefix);
    expect(await simulationOrigin(server.redis, prefix)).toBe(originMs);
    const clock = new RealClock({ speed: LOG_FLEET.simulation.speed, originMs });
    const fleet = await processes(LOG_FLEET, prefix)();
    const before = clock.now();
    const { nowMs } = await fleet.view();
    const after = clock.now();
    // Date.now() counts whole milliseconds, Redis microseconds.
    expect(nowMs).toBeGreaterThanOrEqual(before - LOG_FLEET.simulation.speed);
    expect(nowMs).toBeLessThanOrEqual(after + LOG_FLEET.simulation.speed);
  });

  test('another fleet file is refused on a running simulation, with what to do about it', async () => {
    const prefix = freshPrefix();
    await (await processes(LOG_FLEET, prefix)()).send(share);
    for (const fleet of [
      THROTTLE_FLEET,
      { ...LOG_FLEET, simulation: { ...LOG_FLEET.simulation, seed: 2 } },
      { ...LOG_FLEET, simulation: { ...LOG_FLEET.simulation, speed: 2 } },
    ]) {
      const stranger = await processes(fleet, prefix)();
      await expect(stranger.view()).rejects.toMatchObject({ code: 'fleetMismatch' });
      await expect(stranger.send(share)).rejects.toThrow(/another fleet name or state directory/);
    }
    // Rules are the planner's business; the fleet that runs is the same.
    const ruled = { ...LOG_FLEET, rules: [{ pinned: ['ref'] }] };
    expect((await (await processes(ruled, prefix)()).view()).index).toBe(1);
  });

  test('a process whose simulation was deleted under it says so instead of showing what is no more', async () => {
    const prefix = freshPrefix();
    const fleet = await processes(LOG_FLEET, prefix)();
    await fleet.send(share);
    await server.redis.unlink(...(await server.redis.keys(`${prefix}:sim:*`)));
    await expect(fleet.view()).rejects.toMatchObject({ code: 'fleetMismatch' });
    await expect(fleet.send(share)).rejects.toMatchObject({ code: 'fleetMismatch' });
    expect((await (await processes(LOG_FLEET, prefix)()).view()).index).toBe(0);
  });

  test('a command that is sent again, because the connection broke before the reply, is carried out once', async () => {
    const prefix = freshPrefix();
    const relay = await SocketRelay.start(server.socketPath);
    const redis = await relay.connect('worker');
    try {
      const fleet = new SimulatedFleet({
        fleet: LOG_FLEET,
        log: new RedisSimulationLog({ redis, prefix, fleet: LOG_FLEET }),
      });
      const target = { token: 1, vm: 'ref', source: 'a', destination: 'b', migrationId: 'm' };
      await fleet.send({ kind: 'prepareDestination', ...target });
      const limits = { bandwidthBytesPerSec: 2 ** 20, downtimeLimitMs: 300, postCopy: false };
      relay.dropReplies(true);
      const pending = fleet.send({ kind: 'startMigration', ...target, ...limits });
      await until(async () => (await server.redis.llen(`${prefix}:sim:log`)) === 2, 5_000);
      relay.dropReplies(false);
      relay.cut();
      // A second start would be refused: it is being migrated already.
      await pending;
      expect((await fleet.view()).index).toBe(2);
    } finally {
      redis.disconnect();
      await relay.close();
    }
  });

  test('no entry is older than the one before, also when the clock of Redis goes back', async () => {
    const prefix = freshPrefix();
    const log = new RedisSimulationLog({ redis: server.redis, prefix, fleet: LOG_FLEET });
    await log.append(share, 0);
    // The same as a clock that now stands an hour before the last entry.
    await server.redis.hset(`${prefix}:sim:meta`, 'lastAtMs', '200000000.000');
    expect((await log.readSince(0)).nowMs).toBe(200_000_000);
    expect((await log.append(share, 1)).entries[0]?.atMs).toBe(200_000_000);
  });

  test('keys that record what was sent do not stay', async () => {
    const prefix = freshPrefix();
    await (await processes(LOG_FLEET, prefix)()).send(share);
    const sent = await server.redis.keys(`${prefix}:sim:sent:*`);
    expect(sent).toHaveLength(1);
    expect(await server.redis.pttl(sent[0] ?? '')).toBeGreaterThan(0);
  });
});
