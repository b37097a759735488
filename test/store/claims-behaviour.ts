/** What claims promise to processes that share them, whatever keeps their cell. Two of them stand for two processes. */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { place } from '../../src/planning/placement.ts';
import type { PlanningHost } from '../../src/planning/snapshot.ts';
import type { CellChange, CellStore, Wakeups } from '../../src/store/cell.ts';
import {
  CLAIMS_TOPIC,
  type ClaimItem,
  Claims,
  type ClaimsState,
  holderOf,
  withClaims,
} from '../../src/store/claims.ts';

export interface ClaimsHarness {
  readonly cells: readonly [CellStore, CellStore];
  readonly wakeups: Wakeups;
  close(): Promise<void>;
}

const LONG_MS = 10_000;
const HOUR_MS = 3_600_000;

function item(moveId: string, vm: string, host = 'b', size = 8): ClaimItem {
  return { moveId, vm, host, memoryBytes: size, cpus: 1 };
}

/** Plans one VM of an operation onto the fleet as the claims have it, and claims what it planned. */
function planOne(operationId: string, vm: string, hosts: readonly Pick<PlanningHost, 'name' | 'memoryBytes'>[]) {
  return (state: ClaimsState): CellChange<ClaimsState, string | null> => {
    const { placed } = place({
      hosts: hosts.map((host) => ({
        ...host,
        cpus: 100,
        cordoned: false,
        vms: [],
        unusable: null,
        reservations: Object.values(state.reservations).filter((each) => each.host === host.name),
      })),
      rules: [],
      reserve: { memory: 0, cpus: 0 },
      tasks: [{ vm, source: 'a', memoryBytes: 8, cpus: 1, wanted: null, avoid: [] }],
    });
    const [first] = placed;
    if (first === undefined) return { unchanged: true, result: null };
    const { state: value } = withClaims(state, operationId, [item(`${operationId}-1-1`, vm, first.destination)]);
    return { value, result: first.destination };
  };
}

export function claimsBehaviour(name: string, open: () => Promise<ClaimsHarness>): void {
  describe(`${name}: claims`, () => {
    let harness: ClaimsHarness;
    let one: Claims;
    let other: Claims;
    beforeEach(async () => {
      harness = await open();
      one = new Claims(harness.cells[0]);
      other = new Claims(harness.cells[1]);
    });
    afterEach(() => harness.close());

    test('a VM that one operation moves is refused to another, which learns by whom; its siblings are not', async () => {
      expect(await one.claim('op-1', [item('op-1-1-1', 'web-1')])).toMatchObject({ refused: [] });
      const outcome = await other.claim('op-2', [item('op-2-1-1', 'web-1'), item('op-2-1-2', 'web-2')]);
      expect(outcome.refused).toEqual([{ ...item('op-2-1-1', 'web-1'), heldBy: 'op-1' }]);
      expect(outcome.claimed).toEqual([item('op-2-1-2', 'web-2')]);
      const state = await one.read();
      expect(state.vms).toEqual({ 'web-1': 'op-1', 'web-2': 'op-2' });
      expect(Object.keys(state.reservations)).toEqual(['op-1-1-1', 'op-2-1-2']);
    });

    test('of two that claim one VM at once, one has it', async () => {
      const outcomes = await Promise.all([
        one.claim('op-1', [item('op-1-1-1', 'web-1')]),
        other.claim('op-2', [item('op-2-1-1', 'web-1')]),
      ]);
      expect(outcomes.map((outcome) => outcome.claimed.length).sort()).toEqual([0, 1]);
      expect(Object.keys((await one.read()).reservations)).toHaveLength(1);
    });

    test('of two planners that race for the last hole, one gets it', async () => {
      const hosts = [{ name: 'b', memoryBytes: 15 }];
      const destinations = await Promise.all([
        one.transact(planOne('op-1', 'web-1', hosts)),
        other.transact(planOne('op-2', 'web-2', hosts)),
      ]);
      expect(destinations.filter((destination) => destination !== null)).toEqual(['b']);
    });

    test('many planners at once fill the holes exactly', async () => {
      const hosts = [
        { name: 'b', memoryBytes: 24 },
        { name: 'c', memoryBytes: 17 },
      ];
      const destinations = await Promise.all(
        Array.from({ length: 12 }, (_, n) =>
          (n % 2 === 0 ? one : other).transact(planOne(`op-${n}`, `vm-${n}`, hosts)),
        ),
      );
      const count = (host: string | null): number => destinations.filter((each) => each === host).length;
      expect([count('b'), count('c'), count(null)]).toEqual([3, 2, 7]);
    });

    test('a claim is repeated harmlessly, and a released move leaves the VM with its operation', async () => {
      await one.claim('op-1', [item('op-1-1-1', 'web-1')]);
      await one.claim('op-1', [item('op-1-1-1', 'web-1')]);
      await one.releaseMove('op-1-1-1', 1_000);
      const state = await other.read();
      expect(state.reservations).toEqual({});
      expect(holderOf(state, 'web-1')).toBe('op-1');
      expect((await other.claim('op-2', [item('op-2-1-1', 'web-1')])).refused).toHaveLength(1);
      await one.releaseVm('web-1', 'op-1');
      expect((await other.claim('op-2', [item('op-2-1-1', 'web-1')])).refused).toHaveLength(0);
    });

    test('nobody gives back what another holds', async () => {
      await one.claim('op-1', [item('op-1-1-1', 'web-1')]);
      await other.releaseVm('web-1', 'op-2');
      await other.releaseOperation('op-2', 1_000);
      expect(await one.read()).toMatchObject({ vms: { 'web-1': 'op-1' }, changedAtMs: {} });
    });

    test('a release marks its destination, and the hosts it names, as changed; doing it twice marks once', async () => {
      await one.claim('op-1', [item('op-1-1-1', 'web-1', 'b')]);
      await one.releaseMove('op-1-1-1', 1_000, ['a']);
      await one.releaseMove('op-1-1-1', 2_000, ['a']);
      await other.releaseMove('never', 3_000, ['c']);
      expect((await one.read()).changedAtMs).toEqual({ a: 1_000, b: 1_000 });
    });

    test('a slower clock does not make a host look unchanged, and old changes are forgotten', async () => {
      await one.claim('op-1', [item('1', 'v1', 'b'), item('2', 'v2', 'b'), item('3', 'v3', 'c'), item('4', 'v4', 'd')]);
      await one.releaseMove('1', 5_000);
      await other.releaseMove('2', 4_000);
      expect((await one.read()).changedAtMs).toEqual({ b: 5_000 });
      await one.releaseMove('3', HOUR_MS + 5_000);
      expect((await one.read()).changedAtMs).toEqual({ b: 5_000, c: HOUR_MS + 5_000 });
      await one.releaseMove('4', HOUR_MS + 5_001);
      expect((await one.read()).changedAtMs).toEqual({ c: HOUR_MS + 5_000, d: HOUR_MS + 5_001 });
    });

    test('an ended operation leaves nothing: VMs, room, cordon', async () => {
      await one.cordon('a', 'op-1');
      await one.claim('op-1', [item('op-1-1-1', 'web-1', 'b'), item('op-1-1-2', 'web-2', 'c')]);
      await other.claim('op-2', [item('op-2-1-1', 'db-1', 'c')]);
      await one.releaseOperation('op-1', 1_000);
      expect(await other.read()).toEqual({
        vms: { 'db-1': 'op-2' },
        reservations: { 'op-2-1-1': { operationId: 'op-2', vm: 'db-1', host: 'c', memoryBytes: 8, cpus: 1 } },
        cordons: {},
        changedAtMs: { b: 1_000, c: 1_000 },
      });
    });

    test("a host is cordoned as long as anybody wants it; a person's cordon outlives the operation's", async () => {
      expect(await one.cordon('a', 'op-1')).toBe(true);
      expect(await one.cordon('a', 'op-1')).toBe(false);
      expect(await other.cordon('a', 'operator')).toBe(true);
      expect(await one.uncordon('a', 'op-2')).toBe(false);
      expect(await one.uncordon('a', 'op-1')).toBe(true);
      expect(await other.isCordoned('a')).toBe(true);
      expect(await other.uncordon('a', 'operator')).toBe(true);
      expect(await other.uncordon('a', 'operator')).toBe(false);
      expect(await one.isCordoned('a')).toBe(false);
      expect((await one.read()).cordons).toEqual({});
    });

    test('VMs and hosts may have any name', async () => {
      const state = await one.read();
      expect(holderOf(state, 'constructor')).toBeNull();
      expect(await one.isCordoned('toString')).toBe(false);
      await one.claim('op-1', [item('op-1-1-1', 'constructor', 'toString')]);
      await one.releaseMove('op-1-1-1', 1_000);
      expect((await one.read()).changedAtMs).toEqual({ toString: 1_000 });
      expect((await other.claim('op-2', [item('op-2-1-1', 'constructor')])).refused).toHaveLength(1);
    });

    test('a release wakes whoever waits for room; what changes nothing wakes nobody', async () => {
      await one.claim('op-1', [item('op-1-1-1', 'web-1')]);
      const version = async (): Promise<number> => (await harness.cells[0].read('claims')).version;
      const before = await version();
      await other.claim('op-1', [item('op-1-1-1', 'web-1')]);
      await other.releaseMove('never', 1_000);
      await other.releaseOperation('op-9', 1_000);
      expect(await version()).toBe(before);
      const listener = await harness.wakeups.listen(CLAIMS_TOPIC);
      const woken = listener.next(LONG_MS);
      await other.releaseMove('op-1-1-1', 1_000);
      await woken;
      expect((await one.read()).reservations).toEqual({});
      await listener.close();
    });
  });
}
