/** The link between two hosts goes silent while a throttled guest is being copied: no reset, no carrier lost. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { cutLink, healLink } from '../../src/lab/network.ts';
import { LabPlace } from '../lab/place.ts';
import { expectQuotasAsBefore, groupsOf, heldBack } from '../lab/quotas.ts';
import { moveOf, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const PROMISED_MS = 15_000;

/** On a busy machine: the copy, the silence, and the copy again. */
const LIMIT_MS = 240_000;

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis'], 'a link that is silently cut', () => {
  let place: LabPlace;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(() => place.close());

  test(
    'the attempt fails in time, the guest stays at its source at full speed, and moves when the link is back',
    async () => {
      const lab = await place.lab({ hosts: 2, profiles: ['hot'], network: true, egressBytesPerSec: 20 * MIB });
      const source = place.only('hot-1');
      const home = groupsOf(source.pid);
      await place.startUp();
      const id = await place.evacuate('lab-a');
      await until(() => heldBack('lab-a', 'hot-1') !== null, 60_000, 'hot-1 is throttled');

      await cutLink(lab, 'lab-b');
      const cutAt = performance.now();
      const eyes = await place.eyes();
      const first = async () => (await eyes.moves(id, 'hot-1'))[0];
      await until(async () => (await first())?.endedAtMs !== null, 40_000, 'the end of the first attempt');
      const tookMs = performance.now() - cutAt;
      const failed = await first();
      console.log(`failed ${Math.round(tookMs)} ms after the cut: ${failed?.reason?.code} ${failed?.reason?.message}`);
      expect(failed).toMatchObject({
        state: 'failed',
        reason: { code: expect.stringMatching(/migrationStuck|linkFailed/) },
      });
      expect(tookMs).toBeLessThan(PROMISED_MS);
      // It may have begun anew by now; the guest has never left, and is held back by nobody while no byte moves.
      expect(place.copies('hot-1')).toContainEqual(source);
      expect(await place.stateOf(source)).toBe('running');
      expect(heldBack('lab-a', 'hot-1')).toBe(null);
      expect(groupsOf(source.pid)).toEqual(home);
      await place.goesOn(source);

      await healLink(lab, 'lab-b');
      const healedAt = performance.now();
      const ended = await place.run('watch', id, '--timeout', '150s', '-o', 'json');
      expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
      const result = resultOf(ended);
      console.log(`done ${Math.round(performance.now() - healedAt)} ms after healing; ${JSON.stringify(result.moves)}`);
      expect(result.state).toBe('done');
      expect(moveOf(result, 'hot-1').attempts).toBeGreaterThan(1);
      const copy = place.only('hot-1');
      expect(copy.host).toBe('lab-b');
      expect((await place.check(copy)).faults).toEqual([]);
      await place.goesOn(copy);
      expect(place.directories()).toEqual(['lab-b/hot-1']);
      expectQuotasAsBefore(place.quotasBefore, ['hot-1'], ['lab-a', 'lab-b']);
    },
    LIMIT_MS,
  );
});
