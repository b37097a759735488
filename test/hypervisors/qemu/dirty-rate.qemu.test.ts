/** Looks at how much real guests dirty: before a migration and during it, free and throttled, and those that cannot be had. */
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { RealClock } from '../../../src/clock/real-clock.ts';
import { dirtyRateAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import { QemuHypervisor } from '../../../src/hypervisors/qemu/hypervisor.ts';
import { CgroupThrottle } from '../../../src/throttling/cgroup-throttle.ts';
import { GuardClient } from '../../../src/throttling/guard/client.ts';
import { asking, LabPlace } from '../../lab/place.ts';
import { until } from '../../support/condition.ts';
import { describeWith } from '../../support/needs.ts';
import { GUARD_ENTRY } from '../../throttling/place.ts';
import { heldFence } from '../hypervisor-behaviour.ts';

const MIB = 2 ** 20;
const fence = heldFence(1);
const never = new AbortController().signal;
const anyAnswer = z.unknown();

describeWith(['qemu', 'root', 'cgroup'], 'looks at real guests', () => {
  let place: LabPlace;
  let hypervisor: QemuHypervisor;
  let guard: GuardClient;
  let throttle: CgroupThrottle;
  let hot = '';
  let idle = '';

  beforeAll(async () => {
    place = new LabPlace();
    const { guests, hosts } = await place.lab({ hosts: 2, profiles: ['hot', 'idle'] });
    hot = guests.find(({ profile }) => profile === 'hot')?.name ?? '';
    idle = guests.find(({ profile }) => profile === 'idle')?.name ?? '';
    const clock = new RealClock();
    const log = pino({ level: 'silent' });
    hypervisor = new QemuHypervisor({
      hosts: hosts.map((host) => ({ ...host, memoryBytes: 2_048 * MIB, cpus: 4 })),
      clock,
      log,
      gatekeeper: null,
    });
    guard = new GuardClient({ stateDir: place.home, log: () => undefined, entry: GUARD_ENTRY });
    throttle = new CgroupThrottle({ guard, vcpuThreadsOf: hypervisor.vcpuThreads, clock, log: () => undefined });
  });
  afterAll(async () => {
    await guard.close();
    await hypervisor.close();
    await place.close();
  });

  const look = async (vm: string, windowMs: number) => {
    const measured = await hypervisor.measureDirtying('lab-a', vm, windowMs, never);
    if (measured === null) throw new Error(`no look of ${windowMs} ms at ${vm}`);
    return measured;
  };
  const statusOf = async (vm: string) =>
    (await asking(place.only(vm).dir.spare, (qmp) => qmp.execute('query-dirty-rate', dirtyRateAnswer))).status;
  /** Pages that the guest has written, every write counted, while `work` lasts. */
  const writesDuring = async <T>(vm: string, work: () => Promise<T>) => {
    const source = { dir: place.dir('lab-a', vm) };
    const before = await place.progressOf(source);
    const value = await work();
    return { value, writtenBytes: ((await place.progressOf(source)) - before) * 4_096 };
  };
  /** Against what the guest itself counted: a busy machine slows it, not the look. */
  const isRight = async (vm: string, windowMs: number, workingSetBytes: number) => {
    const { value, writtenBytes } = await writesDuring(vm, () => look(vm, windowMs));
    expect(value.windowMs).toBeGreaterThanOrEqual(windowMs);
    const most = Math.min(workingSetBytes, writtenBytes);
    expect(value.bytes).toBeLessThan(most + 4 * value.errorBytes);
    // The guest goes on while the answer is fetched: the look is a part of what it wrote meanwhile.
    expect(value.bytes).toBeGreaterThan(most / 3 - 4 * value.errorBytes);
    return value;
  };

  test('tell what a guest dirties, and where its working set ends', async () => {
    await isRight(hot, 100, 64 * MIB);
    await isRight(hot, 250, 64 * MIB);
    const long = await isRight(hot, 2_000, 64 * MIB);
    expect(Math.abs(long.bytes - 64 * MIB)).toBeLessThan(4 * long.errorBytes);
    expect(long.errorBytes).toBeLessThan(3 * MIB);
  });

  test('tell that an idle guest dirties next to nothing', async () => {
    // The timer's pages, and up to 1 MiB/s that rounding hides.
    expect((await look(idle, 1_000)).bytes).toBeLessThan(2 * MIB);
    expect((await look(idle, 50)).bytes).toBeLessThan(MIB);
  });

  test('come one after the other, though they are asked for at once', async () => {
    const began = performance.now();
    const both = await Promise.all([look(hot, 300), look(hot, 300)]);
    expect(performance.now() - began).toBeGreaterThanOrEqual(600);
    for (const { windowMs } of both) expect(windowMs).toBeGreaterThanOrEqual(300);
  });

  test('wait for one that a process left behind, and give up on one that takes too long', async () => {
    const leave = (ms: number) =>
      asking(place.only(hot).dir.spare, (qmp) =>
        qmp.execute('calc-dirty-rate', anyAnswer, { 'calc-time': ms, 'calc-time-unit': 'millisecond' }),
      );
    await leave(800);
    expect((await look(hot, 100)).windowMs).toBeLessThan(800);
    await leave(6_000);
    expect(await hypervisor.measureDirtying('lab-a', hot, 100, never)).toBeNull();
    const stop = new AbortController();
    const waiting = hypervisor.measureDirtying('lab-a', hot, 100, stop.signal);
    stop.abort();
    expect(await waiting).toBeNull();
    await until(async () => (await hypervisor.measureDirtying('lab-a', hot, 50, never)) !== null, 15_000, 'its end');
  });

  test('end at once when they are aborted, also one that waits for its turn', async () => {
    const stop = new AbortController();
    const long = hypervisor.measureDirtying('lab-a', idle, 4_000, stop.signal);
    const next = hypervisor.measureDirtying('lab-a', idle, 4_000, stop.signal);
    await until(async () => (await statusOf(idle)) === 'measuring', 2_000, 'its beginning');
    stop.abort();
    expect(await Promise.all([long, next])).toEqual([null, null]);
    expect(await statusOf(idle)).toBe('measuring');
    await until(async () => (await statusOf(idle)) === 'measured', 20_000, 'its end');
  });

  test('cannot be had of a guest that is not there, or stands still', async () => {
    expect(await hypervisor.measureDirtying('lab-b', hot, 50, never)).toBeNull();
    const { spare } = place.only(idle).dir;
    await asking(spare, (qmp) => qmp.execute('stop', anyAnswer));
    expect(await hypervisor.measureDirtying('lab-a', idle, 50, never)).toBeNull();
    await asking(spare, (qmp) => qmp.execute('cont', anyAnswer));
    expect(await hypervisor.measureDirtying('lab-a', idle, 50, never)).not.toBeNull();
    await expect(hypervisor.measureDirtying('nowhere', idle, 50, never)).rejects.toMatchObject({ code: 'unknownHost' });
  });

  test('are right while the guest is migrated, free and throttled, and neither delays it nor ends with it', async () => {
    const target = { vm: hot, source: 'lab-a', destination: 'lab-b', migrationId: 'looked-at' };
    await hypervisor.prepareDestination(fence, target);
    await hypervisor.startMigration(fence, {
      ...target,
      bandwidthBytesPerSec: 20 * MIB,
      downtimeLimitMs: 100,
      postCopy: false,
    });
    await until(async () => ((await hypervisor.sample('lab-a', hot))?.pass ?? 0) >= 2, 30_000, 'the second pass');
    await isRight(hot, 100, 64 * MIB);
    await isRight(hot, 500, 64 * MIB);
    const held = { host: 'lab-a', vm: hot, share: 0.1, validForMs: 1_800, longestStretchMs: 300 };
    await throttle.guestCpu(held);
    await throttle.set(fence, held);
    const throttled = await isRight(hot, 500, 64 * MIB);
    // 80 MiB would have been written free.
    expect(throttled.bytes).toBeLessThan(40 * MIB);
    await throttle.release(fence, held);
    await hypervisor.setBandwidth(fence, 'lab-a', hot, 1_000 * MIB);
    const last = hypervisor.measureDirtying('lab-a', hot, 3_000, never);
    await until(async () => (await hypervisor.sample('lab-a', hot))?.status === 'completed', 30_000, 'its end');
    expect(await last).toBeNull();
  });
});
