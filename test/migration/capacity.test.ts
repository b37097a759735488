/** A host's capacity that a person changes while its VMs are being moved. */
import { expect, it } from 'vitest';
import { setCapacity } from '../../src/queue/capacity.ts';
import { evacuate, host, vm, World } from '../support/world.ts';

const MiB = 2 ** 20;

async function moving(): Promise<{ world: World; rate: () => Promise<number> }> {
  const world = new World({
    hosts: [host('a', [vm('big', { memory: '48GiB', dirtyRate: '1MiB/s' })], { egress: '200MiB/s' }), host('b', [])],
  });
  await world.crew();
  const id = await world.request(evacuate('a'));
  await world.reaches(id, 'big', 'precopy');
  await world.clock.advance(3_000);
  const rate = async (): Promise<number> => (await world.simulated.view()).migrations[0]?.bandwidthBytesPerSec ?? 0;
  return { world, rate };
}

it('is in force at the hypervisor within 2 s, down and up again', async () => {
  const { world, rate } = await moving();
  expect(await rate()).toBeGreaterThan(190 * MiB);
  const by = 'an operator';
  const change = (capacity: Parameters<typeof setCapacity>[2]['capacity']) =>
    setCapacity(world.budget, 'a', { capacity, by, atMs: world.clock.now() });
  expect(await change({ egress: '50MiB/s' })).toEqual({ changed: true, message: 'a has egress 50MiB/s from now on' });
  await world.clock.advance(2_000);
  expect(await rate()).toBeLessThanOrEqual(50 * MiB);
  expect(await rate()).toBeGreaterThan(40 * MiB);
  expect(await world.budget.use()).toMatchObject([{ egress: { capacity: 50 * MiB } }, {}]);
  expect(await change({ egress: 50 * MiB })).toEqual({ changed: false, message: 'a has egress 50MiB/s already' });
  expect(await change(null)).toEqual({ changed: true, message: "a has the fleet file's capacity from now on" });
  await world.clock.advance(2_000);
  expect(await rate()).toBeGreaterThan(190 * MiB);
});

it('what is no rate, or says nothing, is refused with everything that is wrong, and changes nothing', async () => {
  const { budget } = new World({ hosts: [host('a'), host('b')] });
  const set = (capacity: object) => setCapacity(budget, 'a', { capacity, by: 'x', atMs: 1 });
  await expect(set({ egress: 0, ingress: 'fast' })).rejects.toMatchObject({
    code: 'badInput',
    problems: [{ path: 'egress' }, { path: 'ingress' }],
  });
  await expect(set({})).rejects.toMatchObject({ code: 'badInput' });
  await expect(set({ egres: '1MiB/s' })).rejects.toMatchObject({ code: 'badInput' });
  expect(await budget.overridesOf(['a'])).toEqual([{ egress: null, ingress: null }]);
});
