/** Destinations are chosen so that a plan ends no later than what leaves its sources takes anyway, where that can be. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { makespanLowerBound } from '../../src/bandwidth/lower-bound.ts';
import type { Network } from '../../src/bandwidth/resources.ts';
import { BusyLinks, type Load } from '../../src/planning/busy-links.ts';
import { type PlacementInput, place } from '../../src/planning/placement.ts';
import { GIB, host, input, task } from './snapshots.ts';

const nic = (gibPerSec: number, ingress = gibPerSec) => ({ egress: gibPerSec * GIB, ingress: ingress * GIB });
const big = (name: string) => host(name, 256, 64);
const touched = (gib: number) => ({ touchedBytes: gib * GIB });

/** Two racks, each with an uplink of 2 GiB/s; hosts of 1 GiB/s. */
const RACKS: Network = {
  capacities: { a1: nic(1), a2: nic(1), a3: nic(1), b1: nic(1), b2: nic(1) },
  links: {
    capacities: { a: 2 * GIB, b: 2 * GIB },
    ofHost: { a1: ['a'], a2: ['a'], a3: ['a'], b1: ['b'], b2: ['b'] },
    uplinks: ['a', 'b'],
  },
};

function placed(of: Partial<PlacementInput>): Map<string, { to: string; why: string }> {
  const { placed: all, unplaced } = place(input(of));
  expect(unplaced).toEqual([]);
  return new Map(all.map(({ vm, destination, why }) => [vm, { to: destination, why }]));
}

describe('where a VM goes', () => {
  const three = { a: nic(1), b: nic(1), c: nic(1) };

  test('while there is time, where it fits best, all to one host if it takes as much as the source sends', () => {
    const tasks = [task('one', 8, 4, touched(8)), task('two', 8, 4, touched(8))];
    const hosts = [host('b', 64, 32), host('c', 32, 16)];
    const to = placed({ hosts, tasks, network: { links: { capacities: three }, loads: [] } });
    expect([...to.values()].map((one) => one.to)).toEqual(['c', 'c']);
    expect(to.get('one')?.why).toContain('best fit of 2 hosts;');
  });

  test('not where others come in all the while', () => {
    const loads: Load[] = [{ source: 'x', destination: 'c', bytes: 20 * GIB }];
    const to = placed({
      hosts: [host('b', 64, 32), host('c', 32, 16), host('d', 128, 32)],
      tasks: [task('one', 8, 4, touched(8))],
      network: { links: { capacities: { ...three, d: nic(1) } }, loads },
    });
    expect(to.get('one')?.to).toBe('b');
    expect(to.get('one')?.why).toContain('best fit of those 2 of 3 hosts to which the way is free');
  });

  test('where every host is busy, to the one that is free soonest', () => {
    const loads: Load[] = [
      { source: 'x', destination: 'b', bytes: 20 * GIB },
      { source: 'x', destination: 'c', bytes: 40 * GIB },
    ];
    const to = placed({
      hosts: [host('b', 64, 32), host('c', 32, 16)],
      tasks: [task('one', 8, 4, touched(8))],
      network: { links: { capacities: three }, loads },
    });
    expect(to.get('one')).toMatchObject({
      to: 'b',
      why: expect.stringContaining('of 2 hosts the way to this one is free soonest'),
    });
  });

  test('spread where each takes less than the source sends', () => {
    const names = ['one', 'two', 'three', 'four'];
    const to = placed({
      hosts: [big('b'), big('c')],
      tasks: names.map((name) => task(name, 8, 4, touched(8))),
      network: { links: { capacities: { a: nic(2), b: nic(1), c: nic(1) } }, loads: [] },
    });
    expect(names.map((name) => to.get(name)?.to).sort()).toEqual(['b', 'b', 'c', 'c']);
  });

  test('within its rack rather than over the uplink, and over it when the rack is full', () => {
    const to = placed({
      hosts: [host('a2', 16, 16), host('b1', 8, 8), big('b2')],
      tasks: ['one', 'two', 'three'].map((name) => task(name, 8, 4, { source: 'a1', ...touched(8) })),
      network: { links: RACKS, loads: [] },
    });
    // In the order of placing; by fit alone the first would go to b1.
    expect(['one', 'three', 'two'].map((name) => to.get(name)?.to)).toEqual(['a2', 'a2', 'b1']);
    expect(to.get('one')?.why).toContain(
      'best fit of those 1 of 3 hosts that are reached over the fewest shared links',
    );
  });

  test('over the uplink when the rack is busy and the uplink is not', () => {
    const loads: Load[] = [
      { source: 'a2', destination: 'a3', bytes: 100 * GIB },
      { source: 'a3', destination: 'a2', bytes: 100 * GIB },
    ];
    const to = placed({
      hosts: [big('a2'), big('a3'), big('b1')],
      tasks: [task('one', 8, 4, { source: 'a1', ...touched(8) })],
      network: { links: RACKS, loads },
    });
    expect(to.get('one')?.to).toBe('b1');
    expect(to.get('one')?.why).toContain('best fit of those 1 of 3 hosts to which the way is free');
  });

  test('on a busy host, if it fits nowhere else', () => {
    const loads: Load[] = [{ source: 'x', destination: 'b', bytes: 100 * GIB }];
    const tasks = [task('large', 16, 4, touched(16)), task('small', 8, 4, touched(8))];
    const hosts = [host('b', 16, 16), host('c', 8, 8)];
    const to = placed({ hosts, tasks, network: { links: { capacities: three }, loads } });
    expect([to.get('large')?.to, to.get('small')?.to]).toEqual(['b', 'c']);
  });

  test('of ways that are all as busy, as ever where it fits best', () => {
    const loads: Load[] = [{ source: 'a2', destination: 'b9', bytes: 100 * GIB }];
    const to = placed({
      hosts: [big('b1'), host('b2', 64, 16)],
      tasks: [task('one', 8, 4, { source: 'a1', ...touched(8) })],
      network: { links: RACKS, loads },
    });
    expect(to.get('one')).toMatchObject({ to: 'b2', why: expect.stringContaining('best fit of 2 hosts;') });
  });
});

describe('the time that links need', () => {
  test('is that of the slowest thing on the way, with all that is under way', () => {
    const busy = new BusyLinks(RACKS, [{ source: 'a2', destination: 'b1', bytes: 4 * GIB }]);
    expect(busy.busyMs({ source: 'a1', destination: 'a3', bytes: GIB })).toBe(1_000);
    expect(busy.busyMs({ source: 'a1', destination: 'b2', bytes: GIB })).toBe(2_500);
    expect(busy.busyMs({ source: 'a1', destination: 'b1', bytes: GIB })).toBe(5_000);
    expect(busy.leavesMs('a2', 2 * GIB)).toBe(6_000);
  });

  test('is at its longest what no schedule can beat', () => {
    const load = fc.record({
      source: fc.constantFrom('a1', 'a2', 'b1'),
      destination: fc.constantFrom('a3', 'b2'),
      bytes: fc.integer({ min: 1, max: 100 }).map((gib) => gib * GIB),
    });
    fc.assert(
      fc.property(fc.array(load, { minLength: 1, maxLength: 10 }), (loads) => {
        const busy = new BusyLinks(RACKS, loads);
        const longest = Math.max(...loads.map((one) => busy.busyMs({ ...one, bytes: 0 })));
        expect(longest).toBeCloseTo(makespanLowerBound(loads, RACKS).ms, 3);
      }),
    );
  });
});
