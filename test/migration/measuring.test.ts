/** Looks at a guest are left to themselves when they are no longer wanted: nobody waits for one, nothing comes of it. */
import { expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import type { DirtyingMeasured, Hypervisor } from '../../src/hypervisors/hypervisor.ts';
import { evacuate, host, vm, World } from '../support/world.ts';

type End = (ending: 'fault' | DirtyingMeasured) => void;

/** A hypervisor whose looks end only when the test says so, whatever their signal says. */
function slowLooks(looks: { signal: AbortSignal; end: End }[], slow: (nth: number) => boolean) {
  let nth = 0;
  return (real: Hypervisor): Hypervisor =>
    new Proxy(real, {
      get: (target, key) => {
        if (key === 'fencing') return 'process';
        const value: unknown = Reflect.get(target, key, target);
        if (key !== 'measureDirtying') return typeof value === 'function' ? value.bind(target) : value;
        return (source: string, name: string, windowMs: number, signal: AbortSignal) => {
          nth += 1;
          if (!slow(nth)) return target.measureDirtying(source, name, windowMs, signal);
          return new Promise<DirtyingMeasured>((resolve, reject) => {
            const end: End = (ending) => (ending === 'fault' ? reject(new Error('a late fault')) : resolve(ending));
            looks.push({ signal, end });
          });
        };
      },
    });
}

for (const how of ['fault', 'measured'] as const) {
  it(`a lease that is lost during a look before the start is given back before its holder is ended (late ${how})`, async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
    const looks: { signal: AbortSignal; end: End }[] = [];
    await world.crew({ hypervisor: slowLooks(looks, (nth) => nth === 1) });
    const id = await world.request(evacuate('a'));
    await world.clock.runUntil(() => looks.length === 1, 60_000);
    const [look] = looks;
    expect(look?.signal.aborted).toBe(false);
    // Its lease cannot be renewed for longer than it lasts.
    world.leaseTable.away = true;
    await world.clock.advance(5_600);
    world.leaseTable.away = false;
    expect(look?.signal.aborted).toBe(true);
    await world.crew({ hypervisor: slowLooks(looks, () => false) });
    await world.reaches(id, 'v1', 'precopy');
    const seen = (await world.move(id, 'v1'))?.evidence;
    look?.end(how === 'fault' ? 'fault' : { windowMs: 123_456, bytes: 1, errorBytes: 1 });
    await world.clock.settle();
    expect((await world.move(id, 'v1'))?.evidence).toEqual(seen);
    expect((await world.ended(id)).state).toBe('done');
    expect(world.endedProcesses).toEqual([]);
    expect(world.delivery.errors.filter((error) => !(error instanceof HostevacError))).toEqual([]);
  });
}

it('a migration ends though a look beside it does not', async () => {
  const hot = vm('v1', { memory: '16GiB', dirtyRate: '400MiB/s', workingSet: '4GiB', cpuUse: 1 });
  const world = new World({ hosts: [host('a', [hot]), host('b')] });
  const looks: { signal: AbortSignal; end: End }[] = [];
  let begun = false;
  await world.crew({
    hypervisor: slowLooks(looks, () => begun),
    onEvent: ({ kind }) => {
      begun ||= kind === 'move.precopy';
    },
  });
  const id = await world.request(evacuate('a'));
  expect((await world.ended(id)).state).toBe('done');
  expect(looks.map(({ signal }) => signal.aborted)).toEqual([true]);
  const move = await world.move(id, 'v1');
  looks[0]?.end('fault');
  await world.clock.settle();
  expect(await world.move(id, 'v1')).toEqual(move);
  expect(world.delivery.errors).toEqual([]);
});

/** The VM that waits for its turn while another one of the operation is being copied. */
async function waitsBehindAnother(world: World, id: string): Promise<string> {
  let waits = '';
  await world.clock.runUntil(async () => {
    const moves = await world.moves(id);
    waits = moves.find(({ reason }) => reason?.message.startsWith('waits for') === true)?.vm ?? '';
    return waits !== '' && moves.some(({ step }) => step === 'precopy');
  }, 60_000);
  return waits;
}

it('a guest that changes its ways while it waits for its turn is seen to, and its prediction knows both', async () => {
  const turning = (name: string) =>
    vm(name, {
      memory: '16GiB',
      dirtyRate: '300MiB/s',
      workingSet: '1GiB',
      cpuUse: 1,
      phases: [
        { duration: '1015s', dirtyRate: '300MiB/s' },
        { duration: '1h', dirtyRate: '4MiB/s' },
      ],
    });
  const world = new World({ hosts: [host('a', [turning('v1'), turning('v2')], { egress: '200MiB/s' }), host('b')] });
  await world.crew();
  const id = await world.request(evacuate('a'));
  const name = await waitsBehindAnother(world, id);
  // The other one takes more than a minute: looks that nobody asked for come all the while.
  await world.clock.advance(40_000);
  const waiting = await world.move(id, name);
  expect(waiting?.step).toBe('standby');
  const last = waiting?.evidence.findLast(({ source }) => source === 'sampling');
  expect(world.clock.now() - (last?.atMs ?? 0)).toBeLessThan(5_000);
  const { predicted } = await world.reaches(id, name, 'precopy');
  // As it is now it ends in 81 s or little more; as it was it would not end by itself.
  expect(predicted?.totalMs.value).toBeLessThan(90_000);
  expect(predicted?.totalMs.high).toBeGreaterThan(300_000);
  expect((await world.ended(id)).state).toBe('done');
});

/** Notes when it is asked for a look (fleet ms), and which guest; with `tells` false it never can tell. */
function countedLooks(asked: { vm: string; atMs: number }[], now: () => number, tells: boolean) {
  return (real: Hypervisor): Hypervisor =>
    new Proxy(real, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (key !== 'measureDirtying') return typeof value === 'function' ? value.bind(target) : value;
        return async (...given: Parameters<Hypervisor['measureDirtying']>) => {
          asked.push({ vm: given[1], atMs: now() });
          return tells ? target.measureDirtying(...given) : null;
        };
      },
    });
}

const ROOM = { memory: '512GiB', cpus: 64 } as const;

it('guests that wait take turns to be looked at, also where their hypervisor cannot tell', async () => {
  const big = (name: string) => vm(name, { memory: '16GiB', dirtyRate: '4MiB/s' });
  const guests = Array.from({ length: 9 }, (_, index) => big(`v${index}`));
  const world = new World({ hosts: [host('a', guests, { egress: '200MiB/s' }), host('b', [], ROOM)] });
  const asked: { vm: string; atMs: number }[] = [];
  await world.crew({ hypervisor: countedLooks(asked, () => world.clock.now(), false) });
  const id = await world.request(evacuate('a'));
  const waits = await waitsBehindAnother(world, id);
  const fromMs = world.clock.now();
  await world.clock.advance(20_000);
  const times = asked.filter(({ vm: name, atMs }) => name === waits && atMs > fromMs).map(({ atMs }) => atMs);
  // Eight wait, two are looked at in a second: each once in four.
  expect(times.length).toBeGreaterThanOrEqual(3);
  expect(times.length).toBeLessThanOrEqual(6);
});

it('after a pause a guest is looked at anew before it is predicted from', async () => {
  const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
  const asked: { vm: string; atMs: number }[] = [];
  await world.crew({ hypervisor: countedLooks(asked, () => world.clock.now(), true) });
  const id = await world.request(evacuate('a'));
  await world.clock.runUntil(() => asked.length > 0, 60_000);
  await world.records.setControl(id, { pause: true });
  await world.clock.runUntil(
    async () => (await world.move(id, 'v1'))?.reason?.message.startsWith('waits for paused;') === true,
    60_000,
  );
  await world.clock.advance(3 * 3_600_000);
  const resumedAtMs = world.clock.now();
  await world.records.setControl(id, { pause: false });
  await world.reaches(id, 'v1', 'preparing');
  expect(asked.filter(({ atMs }) => atMs >= resumedAtMs).length).toBeGreaterThan(2);
});
