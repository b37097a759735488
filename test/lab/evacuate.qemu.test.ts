/**
 * The lab's promise, as a user types it: `lab up`, `evacuate`, `lab down`. Four real guests leave their host, one of them
 * throttled on the way; whatever is claimed of them is looked up from outside.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';
import { LabPlace } from './place.ts';
import { expectQuotasAsBefore, groupsOf } from './quotas.ts';
import { moveOf, resultOf } from './results.ts';

const GUESTS = ['idle-1', 'mild-1', 'hot-1', 'big-1'];
const HOSTS = ['lab-a', 'lab-b', 'lab-c'];
/** The default policy's max stall. */
const MAX_STALL_MS = 300;

/** It takes one minute on a free machine of two cores. */
const LIMIT_MS = 300_000;

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'hostevac lab up, evacuate, lab down', () => {
  let place: LabPlace;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(() => place.close());

  test(
    'every guest ends up running exactly once at its destination, whole, and nothing else has changed',
    async () => {
      const up = await place.run('lab', 'up', '--hosts', '3', '--guests', '4');
      expect(up.code, up.stderr).toBe(0);
      const before = new Map<string, number>();
      const homes = new Map<string, string[]>();
      for (const copy of place.copies()) {
        before.set(copy.vm, await place.progressOf(copy));
        homes.set(copy.vm, groupsOf(copy.pid));
      }
      expect([...before.keys()].sort()).toEqual([...GUESTS].sort());

      const ended = await place.run('evacuate', 'lab-a', '--wait', '-o', 'json');
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      console.log(`makespan ${result.makespanMs} ms; ${JSON.stringify(result.moves)}`);
      expect(result).toMatchObject({ kind: 'evacuateNode', state: 'done', host: 'lab-a', blocked: [] });
      expect(result.moves.map(({ vm }) => vm).sort()).toEqual([...GUESTS].sort());
      for (const move of result.moves) {
        expect(move, move.vm).toMatchObject({ source: 'lab-a', state: 'done', attempts: 1, relaxed: [], reason: null });
        expect(HOSTS.slice(1), move.vm).toContain(move.destination);
        expect(move.downtimeMs, move.vm).toBeLessThanOrEqual(MAX_STALL_MS);
        expect(move.totalMs, move.vm).toBeGreaterThan(0);
        expect(move.transferredBytes, move.vm).toBeGreaterThan(0);
      }
      // The hot one writes four times as fast as the link carries: without a throttle it would never have arrived.
      const hot = moveOf(result, 'hot-1');
      expect(hot.minShare).toBeLessThan(1);
      expect(hot.meanShare).toBeLessThan(1);
      expect(hot.harmCpuMs).toBeGreaterThan(0);
      for (const vm of ['idle-1', 'mild-1']) expect(moveOf(result, vm).minShare, vm).toBe(1);

      expect(place.copies('hot-1').map(({ host }) => host)).toEqual([hot.destination]);
      for (const { vm, destination } of result.moves) {
        const copy = place.only(vm);
        expect(copy.host, vm).toBe(destination);
        expect(await place.stateOf(copy), vm).toBe('running');
        const report = await place.check(copy);
        expect(report.faults, vm).toEqual([]);
        expect(report.progress, vm).toBeGreaterThan(before.get(vm) ?? 0);
        await place.goesOn(copy);
        expect(groupsOf(copy.pid), vm).toEqual(homes.get(vm));
      }
      expect(place.directories().sort()).toEqual(
        result.moves.map(({ vm, destination }) => `${destination}/${vm}`).sort(),
      );
      expectQuotasAsBefore(place.quotasBefore, GUESTS, HOSTS);

      const down = await place.run('lab', 'down');
      expect(down.code, down.stderr).toBe(0);
      // The guard goes by itself when nobody has needed it for a few seconds.
      await until(() => place.running().length === 0, 10_000, 'no process left');
      expect(place.files()).toEqual([]);
      expectQuotasAsBefore(place.quotasBefore, GUESTS, HOSTS);
    },
    LIMIT_MS,
  );
});
