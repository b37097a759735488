/** Laws of the allocation over random networks and histories. The sums are made anew here, from the rules alone. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  allocate,
  byRank,
  type Entry,
  HEAD_START_BYTES_PER_SEC,
  hasHeadStart,
  PATIENCE,
} from '../../src/bandwidth/allocate.ts';
import type { Network } from '../../src/bandwidth/resources.ts';
import { MIB, network, settle, waiting } from './entries.ts';

const HOSTS = ['a', 'b', 'c', 'd'];
const LINKS = { ofHost: { a: ['left'], b: ['left', 'core'], c: ['core'] } };

const anyNetwork: fc.Arbitrary<Network> = fc
  .record({
    rates: fc.array(fc.integer({ min: 0, max: 120 }), { minLength: 8, maxLength: 8 }),
    left: fc.integer({ min: 10, max: 150 }),
    core: fc.integer({ min: 10, max: 150 }),
    uplinks: fc.subarray(['left', 'core']),
  })
  .map(({ rates, left, core, uplinks }) => ({
    ...network(
      100,
      Object.fromEntries(HOSTS.map((host, n) => [host, { egress: rates[n] ?? 0, ingress: rates[n + 4] ?? 0 }])),
    ),
    links: { ...LINKS, capacities: { left: left * MIB, core: core * MIB }, uplinks },
  }));

const anyEntries: fc.Arbitrary<Entry[]> = fc
  .array(
    fc.record({
      source: fc.nat({ max: 3 }),
      hop: fc.integer({ min: 1, max: 3 }),
      tier: fc.constantFrom('evacuation' as const, 'rebalance' as const),
      order: fc.nat({ max: 5 }),
      useful: fc.integer({ min: 0, max: 90 }),
      max: fc.integer({ min: 1, max: 150 }),
      overtaken: fc.nat({ max: PATIENCE }),
      headStart: fc.boolean(),
      endsSoon: fc.boolean(),
    }),
    { maxLength: 12 },
  )
  .map((drawn) =>
    drawn.map(({ source, hop, overtaken, ...more }, n) =>
      waiting(
        `m${n}`,
        { ...more, source: HOSTS[source] ?? 'a', destination: HOSTS[(source + hop) % 4] ?? 'b' },
        overtaken,
      ),
    ),
  );

/** What happens between allocations. */
const anyHistory = fc.array(
  fc.record({
    kind: fc.constantFrom('ack', 'ack', 'release', 'fleet', 'max'),
    of: fc.nat(),
    to: fc.integer({ min: 0, max: 100 }),
  }),
  { maxLength: 25 },
);

function keys(of: Network, entry: Entry): string[] {
  const ofHost: Record<string, string[]> = LINKS.ofHost;
  const [out = [], into = []] = [ofHost[entry.source], ofHost[entry.destination]];
  const apart = (link: string): boolean => out.includes(link) !== into.includes(link);
  const links = ['left', 'core'].filter(
    (link) =>
      (out.includes(link) || into.includes(link)) && (apart(link) || of.links?.uplinks?.includes(link) !== true),
  );
  return [`>${entry.source}`, `<${entry.destination}`, ...links];
}

function capacity(of: Network, key: string): number {
  if (key.startsWith('>')) return of.capacities[key.slice(1)]?.egress ?? 0;
  if (key.startsWith('<')) return of.capacities[key.slice(1)]?.ingress ?? 0;
  return of.links?.capacities[key] ?? 0;
}

const ALL_KEYS = [...HOSTS.map((host) => `>${host}`), ...HOSTS.map((host) => `<${host}`), 'left', 'core'];

function counted(of: Network, entries: readonly Entry[], key: string): number {
  return entries
    .filter((entry) => keys(of, entry).includes(key))
    .reduce((sum, { target, inForce }) => sum + Math.max(target, inForce), 0);
}

/** Plays a history and calls `look` after every allocation. */
function play(
  start: { readonly of: Network; readonly entries: Entry[] },
  history: readonly { kind: string; of: number; to: number }[],
  look: (step: { of: Network; entries: Entry[]; before: Entry[]; lowered: boolean }) => void,
): void {
  let { of, entries } = start;
  const allocateNow = (lowered: boolean): void => {
    const before = entries;
    entries = settle(entries, allocate({ ...of, entries }));
    look({ of, entries, before, lowered });
  };
  allocateNow(false);
  for (const event of history) {
    const runs = entries.filter((entry) => entry.started);
    const chosen = runs.length > 0 ? runs[event.of % runs.length] : undefined;
    if (event.kind === 'fleet') {
      const host = HOSTS[event.of % 4] ?? 'a';
      const ingress = of.capacities[host]?.ingress ?? 0;
      of = { ...of, capacities: { ...of.capacities, [host]: { egress: event.to * MIB, ingress } } };
    } else if (event.kind === 'release') {
      entries = entries.filter((entry) => entry !== chosen);
    } else {
      entries = entries.map((entry) => {
        if (entry !== chosen) return entry;
        return event.kind === 'ack'
          ? { ...entry, inForce: entry.target }
          : { ...entry, maxBytesPerSec: Math.max(1, event.to) * MIB };
      });
    }
    allocateNow(event.kind === 'fleet');
  }
}

const RUNS = { numRuns: 250 };

describe('laws of the allocation', () => {
  test('never over: what counts grows beyond no capacity, and where a capacity fell it only shrinks', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, (step) => {
          for (const key of ALL_KEYS) {
            // A waiting entry that had 0 and a running one whose floor is 1 byte never meet: only starts add.
            const limit = Math.max(capacity(step.of, key), counted(step.of, step.before, key));
            expect(counted(step.of, step.entries, key)).toBeLessThanOrEqual(limit);
          }
        });
      }),
      RUNS,
    );
  });

  test('after a fall the targets fit, but for the least that a running one must have', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, (step) => {
          for (const key of ALL_KEYS) {
            const there = step.entries.filter((entry) => entry.started && keys(step.of, entry).includes(key));
            const sum = there.reduce((total, { target }) => total + target, 0);
            expect(sum).toBeLessThanOrEqual(Math.max(capacity(step.of, key), there.length));
          }
        });
      }),
      RUNS,
    );
  });

  test('a started one never has 0, and loses only where a capacity or its own maximum fell', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, ({ entries: after, before, lowered }) => {
          for (const entry of after) {
            const was = before.find((each) => each.migrationId === entry.migrationId);
            if (was === undefined || !was.started) continue;
            expect(entry.target).toBeGreaterThanOrEqual(1);
            if (!lowered) expect(entry.target).toBeGreaterThanOrEqual(Math.min(was.target, entry.maxBytesPerSec));
          }
        });
      }),
      RUNS,
    );
  });

  test('one that starts gets a useful rate, or what it takes to connect; none gets more than it can use', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, ({ entries: after, before }) => {
          for (const entry of after) {
            const was = before.find((each) => each.migrationId === entry.migrationId);
            expect(entry.target).toBeLessThanOrEqual(entry.maxBytesPerSec);
            if (was?.started === false && entry.started) {
              const useful = Math.min(entry.usefulBytesPerSec, entry.maxBytesPerSec);
              const least = entry.headStart ? Math.min(HEAD_START_BYTES_PER_SEC, useful) : useful;
              expect(entry.target).toBeGreaterThanOrEqual(least);
            }
          }
        });
      }),
      RUNS,
    );
  });

  test('work-conserving: whoever waits lacks something itself, or stands behind one that does', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, (step) => {
          const free = (key: string): number => capacity(step.of, key) - counted(step.of, step.entries, key);
          const need = (entry: Entry): number => Math.max(1, Math.min(entry.usefulBytesPerSec, entry.maxBytesPerSec));
          const waits = step.entries.filter((entry) => !entry.started);
          for (const entry of waits) {
            if (keys(step.of, entry).some((key) => free(key) < need(entry))) continue;
            const ahead = [...waits.filter((other) => byRank(other, entry) < 0), ...step.entries.filter(hasHeadStart)];
            const lacks = (other: Entry): boolean =>
              keys(step.of, other).some((key) => free(key) < need(other) - other.target);
            const beside = ahead.filter((other) =>
              keys(step.of, other).some((key) => keys(step.of, entry).includes(key)),
            );
            expect(beside.some(lacks)).toBe(true);
          }
        });
      }),
      RUNS,
    );
  });

  test('a second allocation on the outcome changes nothing', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, (step) => {
          expect(settle(step.entries, allocate({ ...step.of, entries: step.entries }))).toEqual(step.entries);
        });
      }),
      RUNS,
    );
  });

  test('the order in which entries are listed changes nothing', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, (of, entries) => {
        const sorted = (list: Entry[]) => [...allocate({ ...of, entries: list }).targets].sort();
        expect(sorted(entries.toReversed())).toEqual(sorted(entries));
      }),
      RUNS,
    );
  });

  test('nobody is passed more often than patience allows', () => {
    fc.assert(
      fc.property(anyNetwork, anyEntries, anyHistory, (of, entries, history) => {
        play({ of, entries }, history, (step) => {
          for (const entry of step.entries) expect(entry.overtaken).toBeLessThanOrEqual(PATIENCE);
        });
      }),
      RUNS,
    );
  });
});
