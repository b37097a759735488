/** The adapters of the simulated fleet on the in-memory log, and what one process's cache must not get wrong. */
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../../src/clock/virtual-clock.ts';
import { SimulatedHypervisor } from '../../../src/hypervisors/simulated/hypervisor.ts';
import type { SimulationLog } from '../../../src/hypervisors/simulated/log.ts';
import { MemorySimulationLog } from '../../../src/hypervisors/simulated/memory-log.ts';
import type { Command } from '../../../src/hypervisors/simulated/model.ts';
import { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { SimulatedThrottle } from '../../../src/hypervisors/simulated/throttle.ts';
import { sampleOf } from '../../../src/hypervisors/simulated/views.ts';
import { throttleBehaviour } from '../../throttling/throttle-behaviour.ts';
import { heldFence, hypervisorBehaviour } from '../hypervisor-behaviour.ts';
import { BEHAVIOUR_FLEET, fleetOf, host, MIB, REFERENCE_GUEST, THROTTLE_FLEET } from './fleets.ts';
import { LOG_FLEET, logBehaviour } from './log-behaviour.ts';

/** Steps of fleet time, so that what happens on the way is seen. */
async function passUntil(clock: VirtualClock, condition: () => Promise<boolean>, limitMs: number): Promise<void> {
  for (let passedMs = 0; !(await condition()); passedMs += 50) {
    if (passedMs > limitMs) throw new Error(`not within ${limitMs} ms of fleet time`);
    await clock.advance(50);
  }
}

const nothing = async (): Promise<void> => undefined;

hypervisorBehaviour('simulated, in memory', async () => {
  const clock = new VirtualClock();
  const log = new MemorySimulationLog(clock);
  const process = () => new SimulatedHypervisor(new SimulatedFleet({ fleet: BEHAVIOUR_FLEET, log }), clock);
  return {
    one: process(),
    other: process(),
    until: (condition, ms) => passUntil(clock, condition, ms),
    close: nothing,
  };
});

throttleBehaviour('simulated, in memory', async () => {
  const clock = new VirtualClock({ speed: 10 });
  const log = new MemorySimulationLog(clock);
  const process = () => new SimulatedThrottle(new SimulatedFleet({ fleet: THROTTLE_FLEET, log }), clock);
  return {
    one: process(),
    other: process(),
    until: (condition, ms) => passUntil(clock, condition, ms),
    close: nothing,
  };
});

logBehaviour('in memory', async () => {
  let ms = 0;
  // Moves on a little at every look, as real time does.
  const log = new MemorySimulationLog({ now: () => (ms += 0.7) });
  return { process: async () => log, close: nothing };
});

describe('one process of a simulated fleet', () => {
  test('takes back what it had computed when the clock went back and somebody else acted before that', async () => {
    let nowMs = 0;
    const memory = new MemorySimulationLog({ now: () => nowMs });
    const one = new SimulatedFleet({ fleet: LOG_FLEET, log: memory });
    const other = new SimulatedFleet({ fleet: LOG_FLEET, log: memory });
    const target = { token: 1, vm: 'ref', source: 'a', destination: 'b', migrationId: 'm' };
    await one.send({ kind: 'prepareDestination', ...target });
    await one.send({
      kind: 'startMigration',
      ...target,
      bandwidthBytesPerSec: 40 * MIB,
      downtimeLimitMs: 300,
      postCopy: false,
    });
    nowMs = 5_000;
    expect(sampleOf(await one.view(), 'a', 'ref')?.pass).toBe(4);
    nowMs = 1_000;
    await other.send({ kind: 'cancelMigration', token: 1, vm: 'ref', source: 'a' });
    expect(sampleOf(await one.view(), 'a', 'ref')).toMatchObject({
      status: 'cancelled',
      pass: 1,
      transferredBytes: 40 * MIB,
    });
    expect(await one.view()).toEqual(await other.view());
  });

  test('takes time as it comes: a view never is older than the one before', async () => {
    let nowMs = 5_000;
    const fleet = new SimulatedFleet({ fleet: LOG_FLEET, log: new MemorySimulationLog({ now: () => nowMs }) });
    expect((await fleet.view()).nowMs).toBe(5_000);
    nowMs = 4_000;
    expect((await fleet.view()).nowMs).toBe(5_000);
  });

  test('sends in the tick in which it checked the lease', async () => {
    const sent: Command[] = [];
    const memory = new MemorySimulationLog({ now: () => 0 });
    const log: SimulationLog = {
      append: (command, since) => {
        sent.push(command);
        return memory.append(command, since);
      },
      readSince: (index) => memory.readSince(index),
      compact: (state) => memory.compact(state),
    };
    const fleet = new SimulatedFleet({ fleet: BEHAVIOUR_FLEET, log });
    const pending = new SimulatedHypervisor(fleet, new VirtualClock()).cancelMigration(heldFence(3), 'a', 'quick');
    expect(sent).toEqual([{ kind: 'cancelMigration', token: 3, vm: 'quick', source: 'a' }]);
    await pending;
  });

  test('keeps a throttle for its validity in real time, whatever the speed of the fleet', async () => {
    const clock = new VirtualClock({ speed: 10 });
    const fleet = new SimulatedFleet({ fleet: THROTTLE_FLEET, log: new MemorySimulationLog(clock) });
    const throttle = new SimulatedThrottle(fleet, clock);
    const busy = { host: 'a', vm: 'busy' };
    await throttle.set(heldFence(), { ...busy, share: 0.5, validForMs: 300, longestStretchMs: 300 });
    await clock.advance(2_999);
    expect((await throttle.guestCpu(busy)).share).toBe(0.5);
    await clock.advance(1);
    expect((await throttle.guestCpu(busy)).share).toBe(1);
  });

  test('refuses hosts that the fleet does not have, and hosts that are dead', async () => {
    const fleet = new SimulatedFleet({ fleet: BEHAVIOUR_FLEET, log: new MemorySimulationLog({ now: () => 0 }) });
    const hypervisor = new SimulatedHypervisor(fleet, new VirtualClock());
    const throttle = new SimulatedThrottle(fleet, new VirtualClock());
    await expect(hypervisor.inventory('x')).rejects.toMatchObject({ code: 'unknownHost' });
    await fleet.inject({ kind: 'hostDies', host: 'a' });
    for (const call of [
      () => hypervisor.inventory('a'),
      () => hypervisor.look('a', 'quick'),
      () => hypervisor.sample('a', 'quick'),
      () => throttle.unavailable('a'),
      () => throttle.guestCpu({ host: 'a', vm: 'quick' }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: 'hostUnreachable' });
    }
    await throttle.release(heldFence(), { host: 'a', vm: 'quick' });
  });

  test('of 200 hosts and 2,000 VMs with 200 migrations is seen whole at every look', async () => {
    const name = (prefix: string, n: number) => `${prefix}${n}`;
    const spec = fleetOf(
      Array.from({ length: 200 }, (_, h) =>
        host(
          name('h', h),
          Array.from({ length: 10 }, (_, v) => ({ ...REFERENCE_GUEST, name: name('v', h * 10 + v) })),
          { egress: '10Gbit/s', ingress: '10Gbit/s', memory: '16GiB' },
        ),
      ),
    );
    let nowMs = 0;
    const fleet = new SimulatedFleet({ fleet: spec, log: new MemorySimulationLog({ now: () => nowMs }) });
    for (let n = 0; n < 200; n += 1) {
      const where = { token: 1, vm: name('v', n * 10), source: name('h', n), destination: name('h', (n + 7) % 200) };
      await fleet.send({ kind: 'prepareDestination', migrationId: 'm', ...where });
      const limits = { bandwidthBytesPerSec: (30 + n / 10) * MIB, downtimeLimitMs: 300, postCopy: false };
      await fleet.send({ kind: 'startMigration', migrationId: 'm', ...where, ...limits });
    }
    for (let look = 0; look < 60; look += 1) {
      nowMs += 1_000;
      const state = await fleet.view();
      expect(state.nowMs).toBe(nowMs);
      expect(state.migrations).toHaveLength(200);
    }
  });
});
