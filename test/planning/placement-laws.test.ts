/** Laws of placement over random, crowded fleets. The checks count anew from the snapshot, with none of the planner's code. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Network } from '../../src/bandwidth/resources.ts';
import { type PlacementInput, place } from '../../src/planning/placement.ts';
import { anyInput, GIB, host, input, NO_RESERVE, reserved, task } from './snapshots.ts';

const NIC = { egress: GIB, ingress: GIB };

/** VM -> figures of everything that takes room on a host, before the plan. */
function loadOf({ vms, reservations }: PlacementInput['hosts'][number]): Map<string, { memory: number; cpus: number }> {
  const load = new Map<string, { memory: number; cpus: number }>();
  for (const each of vms) {
    if (each.state !== 'shutOff') load.set(each.name, { memory: each.memoryBytes, cpus: each.cpus });
  }
  for (const each of reservations) load.set(each.vm, { memory: each.memoryBytes, cpus: each.cpus });
  return load;
}

function sum(load: Map<string, { memory: number; cpus: number }>): { memory: number; cpus: number } {
  return [...load.values()].reduce((a, b) => ({ memory: a.memory + b.memory, cpus: a.cpus + b.cpus }), {
    memory: 0,
    cpus: 0,
  });
}

/** Memory and CPUs in use on a host beyond what it may carry, with this plan. */
function loadAfter(
  of: PlacementInput,
  name: string,
): { before: { memory: number; cpus: number }; load: Map<string, { memory: number; cpus: number }> } {
  const found = of.hosts.find((each) => each.name === name);
  if (found === undefined) throw new Error(`no host ${name}`);
  const load = loadOf(found);
  const before = sum(load);
  for (const { vm, destination } of place(of).placed) {
    const moved = of.tasks.find((each) => each.vm === vm);
    if (destination === name && moved !== undefined) load.set(vm, { memory: moved.memoryBytes, cpus: moved.cpus });
  }
  return { before, load };
}

function shuffled<T>(items: readonly T[], seed: number): T[] {
  return items
    .map((item, index) => ({ item, key: Math.sin(seed + index * 7919) }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item);
}

const RUNS = { numRuns: 600 };

describe('laws of placement', () => {
  test('no host is ever overcommitted, reserve and reservations included', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        for (const each of of.hosts) {
          const { before, load } = loadAfter(of, each.name);
          const used = sum(load);
          const memory = each.memoryBytes * (1 - of.reserve.memory) + 1e-3;
          const cpus = each.cpus * (1 - of.reserve.cpus) + 1e-3;
          // A host that carried too much before the plan gets nothing more of what it lacks.
          expect(used.memory).toBeLessThanOrEqual(Math.max(memory, before.memory));
          expect(used.cpus).toBeLessThanOrEqual(Math.max(cpus, before.cpus));
        }
      }),
      RUNS,
    );
  });

  test('no plan breaks anti-affinity or a pin', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        for (const { vm, destination } of place(of).placed) {
          const there = new Set(loadAfter(of, destination).load.keys());
          for (const rule of of.rules) {
            if ('antiAffinity' in rule) {
              if (!rule.antiAffinity.includes(vm)) continue;
              expect(rule.antiAffinity.filter((other) => other !== vm && there.has(other))).toEqual([]);
            } else if (rule.pinned.includes(vm)) {
              expect(rule.hosts ?? []).toContain(destination);
            }
          }
        }
      }),
      RUNS,
    );
  });

  test('nothing goes to its source, to a cordoned or unusable host, or elsewhere than asked', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        for (const { vm, source, destination } of place(of).placed) {
          const to = of.hosts.find((each) => each.name === destination);
          expect(to).toMatchObject({ cordoned: false, unusable: null });
          expect(destination).not.toBe(source);
          const wanted = of.tasks.find((each) => each.vm === vm)?.wanted ?? null;
          if (wanted !== null) expect(destination).toBe(wanted);
        }
      }),
      RUNS,
    );
  });

  test('every task is placed or has a reason, once', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        const { placed, unplaced } = place(of);
        const answered = [...placed, ...unplaced].map(({ vm }) => vm).sort();
        expect(answered).toEqual(of.tasks.map(({ vm }) => vm).sort());
        for (const { reason } of unplaced) expect(reason.message).not.toBe('');
      }),
      RUNS,
    );
  });

  test('the order in which hosts, VMs, rules and tasks are listed changes nothing', () => {
    fc.assert(
      fc.property(anyInput, fc.integer(), (of, seed) => {
        const mixed = {
          ...of,
          hosts: shuffled(of.hosts, seed).map((each) => ({
            ...each,
            vms: shuffled(each.vms, seed),
            reservations: shuffled(each.reservations, seed),
          })),
          tasks: shuffled(of.tasks, seed),
        };
        expect(place(mixed)).toEqual(place(of));
      }),
      RUNS,
    );
  });

  test('whoever is told to wait for other operations fits once their VMs have gone', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        for (const { vm, waitsFor, waitsForVms, waitsForHosts } of place(of).unplaced) {
          if (waitsFor.length === 0 || waitsForVms.length > 0 || waitsForHosts.length > 0) continue;
          const leaving = new Set(
            of.hosts
              .flatMap(({ reservations }) => reservations)
              .filter((each) => waitsFor.includes(each.operationId))
              .map((each) => each.vm),
          );
          const hosts = of.hosts.map((each) => ({
            ...each,
            vms: each.vms.filter(({ name }) => !leaving.has(name)),
            reservations: each.reservations.filter((one) => !leaving.has(one.vm)),
          }));
          // Alone: its siblings have their places in the first plan, and take part of the same room.
          const rest = place({ ...of, hosts, tasks: of.tasks.filter((each) => each.vm === vm) });
          expect(rest.placed.map((each) => each.vm)).toEqual([vm]);
        }
      }),
      RUNS,
    );
  });

  test('a fleet with one empty large host places everything that may move', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        const free = of.tasks.filter(
          ({ vm }) => !of.rules.some((rule) => ('pinned' in rule ? rule.pinned : rule.antiAffinity).includes(vm)),
        );
        const tasks = free.map((each) => ({ ...each, wanted: null }));
        const hosts = [...of.hosts, host('zz', 10_000, 10_000)];
        expect(place({ ...of, hosts, tasks }).unplaced).toEqual([]);
      }),
      RUNS,
    );
  });

  test('of two plans made one after the other, the second never takes what the first reserved', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        const half = Math.ceil(of.tasks.length / 2);
        const first = place({ ...of, tasks: of.tasks.slice(0, half) });
        const claimed = of.hosts.map((each) => ({
          ...each,
          reservations: [
            ...each.reservations,
            ...first.placed
              .filter(({ destination }) => destination === each.name)
              .map(({ vm }) => {
                const moved = of.tasks.find((one) => one.vm === vm);
                return reserved(vm, (moved?.memoryBytes ?? 0) / GIB, moved?.cpus ?? 0, 'op-7');
              }),
          ],
        }));
        const second = { ...of, hosts: claimed, tasks: of.tasks.slice(half), operationId: 'op-8' };
        for (const each of claimed) {
          const { before, load } = loadAfter(second, each.name);
          expect(sum(load).memory).toBeLessThanOrEqual(
            Math.max(each.memoryBytes * (1 - of.reserve.memory) + 1e-3, before.memory),
          );
        }
      }),
      RUNS,
    );
  });

  test('who knows the network places as many', () => {
    fc.assert(
      fc.property(anyInput, (of) => {
        const { network: _, ...blind } = of;
        expect(place(of).placed.length).toBeGreaterThanOrEqual(place(blind).placed.length);
      }),
      RUNS,
    );
  });

  test('ten thousand hosts and a hundred VMs are planned within seconds, 500 uplinks and all', () => {
    const hosts = Array.from({ length: 10_000 }, (_, n) => host(`h${n}`, 1 + (n % 7), 4));
    const tasks = Array.from({ length: 100 }, (_, n) => task(`vm-${n}`, 1 + (n % 9), 2, { touchedBytes: GIB }));
    const racks = Array.from({ length: 500 }, (_, n) => `rack-${n}`);
    const links: Network = {
      capacities: Object.fromEntries(['a', ...hosts.map(({ name }) => name)].map((name) => [name, NIC])),
      links: {
        capacities: Object.fromEntries(racks.map((name) => [name, GIB])),
        ofHost: Object.fromEntries(hosts.map(({ name }, n) => [name, [`rack-${n % 500}`]])),
        uplinks: racks,
      },
    };
    const { placed, unplaced } = place(input({ hosts, tasks, reserve: NO_RESERVE, network: { links, loads: [] } }));
    expect(placed.length + unplaced.length).toBe(100);
    expect(placed.length).toBeGreaterThan(70);
  });

  test('ten thousand hosts and a hundred VMs are planned within seconds', () => {
    const hosts = Array.from({ length: 10_000 }, (_, n) => host(`h${n}`, 1 + (n % 7), 4));
    const tasks = Array.from({ length: 100 }, (_, n) => task(`vm-${n}`, 1 + (n % 9), 2));
    const { placed, unplaced } = place(input({ hosts, tasks, reserve: NO_RESERVE }));
    expect(placed.length + unplaced.length).toBe(100);
    expect(placed.length).toBeGreaterThan(70);
  });
});
