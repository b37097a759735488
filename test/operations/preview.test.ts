/** Previews: the plan as it would be now, and nothing claimed for it. */
import { expect, it } from 'vitest';
import { readFleet } from '../../src/operations/fleet-view.ts';
import { preview } from '../../src/operations/preview.ts';
import { evacuate, host, vm, World } from '../support/world.ts';

it('shows where the VMs would go, and claims nothing', async () => {
  const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
  await world.crew();
  await world.clock.advance(100);
  const before = await world.claims.read();
  const shown = preview(world.fleet, await readFleet(world), before, evacuate('a'));
  expect(shown.moves).toMatchObject([{ vm: 'v1', source: 'a', destination: 'b' }]);
  expect(shown.blocked).toEqual([]);
  expect(await world.claims.read()).toEqual(before);
});

it('of a host that nobody can see is refused: it is not an empty one', async () => {
  const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
  const view = await readFleet(world);
  const claims = await world.claims.read();
  expect(() => preview(world.fleet, view, claims, evacuate('a'))).toThrow(
    /Nobody can see what is on a now: no worker serves a/,
  );
});
