/** No schedule is faster than the bound, and simple ones are as fast. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { allocate, type Entry } from '../../src/bandwidth/allocate.ts';
import { makespanLowerBound, type Transfer } from '../../src/bandwidth/lower-bound.ts';
import type { Network } from '../../src/bandwidth/resources.ts';

const MIB = 2 ** 20;
const nic = (egress: number, ingress = egress) => ({ egress: egress * MIB, ingress: ingress * MIB });
const NETWORK: Network = {
  capacities: { a: nic(100), b: nic(50), c: nic(40), d: nic(100, 10) },
  links: { capacities: { rack: 60 * MIB }, ofHost: { a: ['rack'], b: ['rack'] } },
};
const of = (source: string, destination: string | null, mib: number, more: Partial<Transfer> = {}): Transfer => ({
  source,
  destination,
  bytes: mib * MIB,
  ...more,
});

describe('the least time', () => {
  test.each([
    ['nothing to carry', [], 0, null],
    ['one that its destination slows most', [of('a', 'd', 100)], 10_000, 'a to d'],
    ['one that is a single stream', [of('c', 'b', 100, { maxBytesPerSec: 5 * MIB })], 20_000, 'c to b'],
    ['two out of one host', [of('c', 'a', 200), of('c', 'b', 200)], 10_000, 'egress of c'],
    ['two into one host', [of('b', 'c', 200), of('d', 'c', 200)], 10_000, 'ingress of c'],
    ['two over one link', [of('a', 'c', 120), of('d', 'b', 240), of('b', 'c', 120)], 8_000, 'link rack'],
    ['any host will do', [of('a', null, 600)], 10_000, 'a to anywhere'],
    ['all that others can take', [of('d', null, 950), of('d', null, 950)], 19_000, 'egress of d'],
  ] as const)('%s', (_, transfers, ms, by) => {
    expect(makespanLowerBound(transfers, NETWORK)).toEqual({ ms, by });
  });

  test('what must come in somewhere', () => {
    const network: Network = { capacities: { a: nic(1_000), b: nic(10), c: nic(20) } };
    expect(makespanLowerBound([of('a', null, 100), of('a', null, 200)], network)).toEqual({
      ms: 10_000,
      by: 'ingress of all other hosts',
    });
  });

  test('out of a rack, less what stays in it', () => {
    const network: Network = {
      capacities: { a: nic(100), b: nic(100), c: nic(5), d: nic(200) },
      links: { capacities: { rack: 15 * MIB }, ofHost: { a: ['rack'], b: ['rack'], c: ['rack'] }, uplinks: ['rack'] },
    };
    const transfers = [of('a', null, 300), of('b', null, 300)];
    const closed = new Set(['a', 'b']);
    // Each second c takes 5 MiB, and 15 leave; c is full after 10 s.
    expect(makespanLowerBound(transfers, network, { closed })).toEqual({ ms: 30_000, by: 'link rack' });
    const full = makespanLowerBound(transfers, network, { closed, roomBytes: { c: 50 * MIB } });
    expect(full.ms).toBeCloseTo((550 / 15) * 1_000, 6);
    expect(full.by).toBe('link rack');
  });

  test('into racks behind links', () => {
    const network: Network = {
      capacities: { a: nic(1_000), b: nic(100), c: nic(100), d: nic(5) },
      links: { capacities: { rack: 10 * MIB }, ofHost: { b: ['rack'], c: ['rack'] }, uplinks: ['rack'] },
    };
    expect(makespanLowerBound([of('a', null, 150)], network)).toEqual({ ms: 10_000, by: 'ingress of all other hosts' });
  });

  test('more than there is room for: never', () => {
    const takers = { roomBytes: { b: MIB, c: MIB, d: MIB } };
    expect(makespanLowerBound([of('a', null, 4)], NETWORK, takers).ms).toBe(Number.POSITIVE_INFINITY);
  });

  test('an uplink is not on the way between two of its hosts', () => {
    const links = { capacities: { rack: 10 * MIB }, ofHost: { a: ['rack'], b: ['rack'], c: ['rack'] } };
    const transfers = [of('a', 'b', 100), of('c', 'b', 100)];
    const network = { capacities: { a: nic(100), b: nic(100), c: nic(100) } };
    expect(makespanLowerBound(transfers, { ...network, links }).by).toBe('link rack');
    expect(makespanLowerBound(transfers, { ...network, links: { ...links, uplinks: ['rack'] } }).by).toBe(
      'ingress of b',
    );
  });

  test('over what carries nothing: never', () => {
    const overrides = { 'egress a': 0 };
    expect(makespanLowerBound([of('a', 'b', 1)], { ...NETWORK, overrides }).ms).toBe(Number.POSITIVE_INFINITY);
  });
});

/** Carried out by the allocation, as if the rates changed at once; ms. */
function makespanOf(transfers: readonly Transfer[], network: Network): number {
  let left = transfers.map((transfer, index) => ({ id: `m${index}`, bytes: transfer.bytes, transfer, target: 0 }));
  let ms = 0;
  for (let steps = 0; left.length > 0 && steps < 1_000; steps += 1) {
    const entries = left.map(
      ({ id, transfer, target }, order): Entry => ({
        migrationId: id,
        operationId: 'op',
        moveId: id,
        headStart: false,
        endsSoon: false,
        vm: id,
        source: transfer.source,
        destination: transfer.destination ?? '',
        tier: 'evacuation',
        order,
        usefulBytesPerSec: 1,
        maxBytesPerSec: transfer.maxBytesPerSec ?? Number.MAX_SAFE_INTEGER,
        target,
        inForce: target,
        started: target > 0,
        overtaken: 0,
      }),
    );
    const { targets } = allocate({ ...network, entries });
    const going = left.map((one) => ({ ...one, target: targets.get(one.id) ?? 0 }));
    const nextMs = Math.min(...going.map(({ bytes, target }) => (bytes / target) * 1_000));
    ms += nextMs;
    left = going
      .map((one) => ({ ...one, bytes: one.bytes - (one.target * nextMs) / 1_000 }))
      .filter(({ bytes }) => bytes > 1);
  }
  return left.length > 0 ? Number.POSITIVE_INFINITY : ms;
}

test('no schedule of ours is faster', () => {
  const hosts = ['a', 'b', 'c', 'd'];
  const transfer = fc
    .record({
      source: fc.constantFrom(...hosts),
      destination: fc.constantFrom(...hosts),
      mib: fc.integer({ min: 1, max: 4_000 }),
      most: fc.option(fc.integer({ min: 1, max: 200 }), { nil: undefined }),
    })
    .filter(({ source, destination }) => source !== destination)
    .map(({ source, destination, mib, most }) =>
      of(source, destination, mib, most === undefined ? {} : { maxBytesPerSec: most * MIB }),
    );
  fc.assert(
    fc.property(fc.array(transfer, { minLength: 1, maxLength: 8 }), (transfers) => {
      const bound = makespanLowerBound(transfers, NETWORK).ms;
      const took = makespanOf(transfers, NETWORK);
      expect(took).toBeLessThan(Number.POSITIVE_INFINITY);
      expect(took).toBeGreaterThanOrEqual(bound * (1 - 1e-6));
    }),
    { numRuns: 200 },
  );
});
