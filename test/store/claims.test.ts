/** Claims over cells in memory, and their laws. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { HostevacError } from '../../src/domain/errors.ts';
import type { CellStore } from '../../src/store/cell.ts';
import {
  Claims,
  type ClaimsState,
  claimsSchema,
  isCordoned,
  withClaims,
  withoutMove,
  withoutOperation,
} from '../../src/store/claims.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { claimsBehaviour } from './claims-behaviour.ts';

function memory(): { cells: MemoryCellStore; wakeups: MemoryWakeups } {
  const clock = new VirtualClock();
  const wakeups = new MemoryWakeups(clock);
  return { cells: new MemoryCellStore(clock, wakeups), wakeups };
}

claimsBehaviour('memory', async () => {
  const { cells, wakeups } = memory();
  return { cells: [cells, cells], wakeups, close: async () => undefined };
});

test('a cordon whose writer fell behind does not land when its operation is over (seed 14739)', async () => {
  const { cells } = memory();
  const rival = new Claims(cells);
  let held = true;
  const fence = {
    token: 1,
    assertHeld: () => {
      if (!held) throw new HostevacError('leaseLost', 'another process has it');
    },
  };
  const slow: CellStore = {
    read: (key) => cells.read(key),
    readMany: (keys) => cells.readMany(keys),
    readGuarded: (key) => cells.readGuarded(key),
    compareAndSet: async (key, version, text, options) => {
      if (held) {
        // While this write is on its way another process carries the operation to its end.
        held = false;
        await rival.cordon('a', 'op-1');
        await rival.releaseOperation('op-1', 1);
      }
      return cells.compareAndSet(key, version, text, options);
    },
  };
  await expect(new Claims(slow).cordon('a', 'op-1', fence)).rejects.toMatchObject({ code: 'leaseLost' });
  expect(await rival.isCordoned('a')).toBe(false);
});

test('a planner that was overtaken between reading and writing plans again on what the other claimed', async () => {
  const { cells } = memory();
  const rival = new Claims(cells);
  let overtaken = false;
  const slow: CellStore = {
    read: (key) => cells.read(key),
    readMany: (keys) => cells.readMany(keys),
    readGuarded: (key) => cells.readGuarded(key),
    compareAndSet: async (key, version, text, options) => {
      if (!overtaken) {
        overtaken = true;
        await rival.claim('op-2', [{ moveId: 'op-2-1-1', vm: 'web-1', host: 'b', memoryBytes: 8, cpus: 1 }]);
      }
      return cells.compareAndSet(key, version, text, options);
    },
  };
  const seen: string[][] = [];
  const outcome = await new Claims(slow).transact((state) => {
    seen.push(Object.keys(state.vms));
    const { state: value, refused } = withClaims(state, 'op-1', [
      { moveId: 'op-1-1-1', vm: 'web-1', host: 'b', memoryBytes: 8, cpus: 1 },
    ]);
    return { value, result: refused };
  });
  expect(seen).toEqual([[], ['web-1']]);
  expect(outcome).toMatchObject([{ vm: 'web-1', heldBy: 'op-2' }]);
  expect(await rival.read()).toMatchObject({ vms: { 'web-1': 'op-2' } });
});

const NAMES = { operations: ['op-1', 'op-2', 'op-3'], vms: ['v1', 'v2', 'v3', 'v4'], hosts: ['b', 'c'] };
const anyStep = fc.record({
  kind: fc.constantFrom('claim', 'claim', 'claim', 'releaseMove', 'releaseOperation'),
  operation: fc.constantFrom(...NAMES.operations),
  vms: fc.uniqueArray(fc.constantFrom(...NAMES.vms), { minLength: 1 }),
  host: fc.constantFrom(...NAMES.hosts),
  round: fc.nat({ max: 2 }),
  atMs: fc.nat({ max: 10_000 }),
});

describe('laws of claims', () => {
  const play = (
    steps: readonly (typeof anyStep extends fc.Arbitrary<infer S> ? S : never)[],
    look: (before: ClaimsState, after: ClaimsState) => void,
  ): void => {
    let state: ClaimsState = { vms: {}, reservations: {}, cordons: {}, changedAtMs: {} };
    for (const { kind, operation, vms, host, round, atMs } of steps) {
      const before = structuredClone(state);
      const given = state;
      const moveId = (vm: string): string => `${operation}-${round}-${vm}`;
      if (kind === 'claim') {
        const items = vms.map((vm) => ({ moveId: moveId(vm), vm, host, memoryBytes: 1, cpus: 1 }));
        const outcome = withClaims(state, operation, items);
        expect(outcome.claimed.length + outcome.refused.length).toBe(vms.length);
        state = outcome.state;
      } else if (kind === 'releaseMove') {
        for (const vm of vms) state = withoutMove(state, moveId(vm), atMs);
      } else {
        state = withoutOperation(state, operation, atMs);
      }
      expect(given).toEqual(before);
      look(before, state);
    }
  };

  test('no VM ever passes from one operation to another without being released, and no room is kept for a stranger', () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 30 }), (steps) => {
        play(steps, (before, after) => {
          for (const [vm, holder] of Object.entries(before.vms)) {
            expect([undefined, holder]).toContain(after.vms[vm]);
          }
          for (const { vm, operationId } of Object.values(after.reservations)) expect(after.vms[vm]).toBe(operationId);
          expect(claimsSchema.parse(JSON.parse(JSON.stringify(after)))).toEqual(after);
        });
      }),
    );
  });

  test('room that ends is marked where it was, and a mark never goes back in time', () => {
    fc.assert(
      fc.property(fc.array(anyStep, { maxLength: 30 }), (steps) => {
        play(steps, (before, after) => {
          for (const [moveId, { host }] of Object.entries(before.reservations)) {
            if (after.reservations[moveId] === undefined) expect(after.changedAtMs[host]).toBeDefined();
          }
          for (const [host, atMs] of Object.entries(before.changedAtMs)) {
            expect(after.changedAtMs[host]).toBeGreaterThanOrEqual(atMs);
          }
        });
      }),
    );
  });

  test('a cordoned host is one that somebody still wants cordoned', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.boolean(), fc.constantFrom('b', 'c'), fc.constantFrom('operator', 'op-1', 'op-2')), {
          maxLength: 20,
        }),
        async (steps) => {
          const claims = new Claims(memory().cells);
          const wanted = new Set<string>();
          for (const [on, host, by] of steps) {
            const key = `${host} ${by}`;
            expect(await (on ? claims.cordon(host, by) : claims.uncordon(host, by))).toBe(on !== wanted.has(key));
            if (on) wanted.add(key);
            else wanted.delete(key);
          }
          const state = await claims.read();
          for (const host of ['b', 'c']) {
            expect(isCordoned(state, host)).toBe([...wanted].some((key) => key.startsWith(`${host} `)));
          }
        },
      ),
    );
  });
});
