/** A worker that may not throttle: that is found before any guest is touched, and said with what to grant. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Ended } from '../cli/spawn.ts';
import { describeWith } from '../support/needs.ts';
import { LabPlace } from './place.ts';
import { moveOf, resultOf } from './results.ts';

/** As in a container that was given no right to control groups. */
const READ_ONLY = 'mount -o remount,bind,ro /sys/fs/cgroup/cpu && exec "$@"';

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'a worker that may not throttle', () => {
  let place: LabPlace;
  beforeEach(async () => {
    place = new LabPlace();
    await place.lab({ hosts: 2, profiles: ['idle'] });
  });
  afterEach(() => place.close());

  const evacuate = (...options: string[]): Promise<Ended> =>
    place.run('evacuate', 'lab-a', '--wait', '--timeout', '60s', '-o', 'json', ...options);

  /** Nothing was begun, and why is said. */
  async function expectFoundBefore(why: RegExp): Promise<void> {
    const source = place.only('idle-1');
    const ended = await evacuate();
    const result = resultOf(ended);
    expect(ended.code, place.said()).not.toBe(0);
    expect(result.state).not.toBe('done');
    const [move, ...more] = await (await place.eyes()).moves(result.id, 'idle-1');
    expect(more).toEqual([]);
    expect(move).toMatchObject({ migrateSent: false, startedAtMs: null, reason: { code: 'throttleUnavailable' } });
    expect(moveOf(result, 'idle-1').reason).toMatch(why);
    expect(place.only('idle-1')).toEqual(source);
    expect(place.directories()).toEqual(['lab-a/idle-1']);
  }

  /** Asked to, it goes on without, and says that it did. */
  async function expectRelaxed(why: RegExp): Promise<void> {
    const ended = await evacuate('--throttling', 'optional');
    expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
    const result = resultOf(ended);
    expect(result.state).toBe('done');
    const { relaxed, minShare } = moveOf(result, 'idle-1');
    expect(relaxed).toEqual([{ requirement: 'throttling', atMs: expect.any(Number), why: expect.stringMatching(why) }]);
    expect(minShare).toBe(1);
    const copy = place.only('idle-1');
    expect(copy.host).toBe('lab-b');
    expect((await place.check(copy)).faults).toEqual([]);
    await place.goesOn(copy);
  }

  test('as control groups are read-only: nothing begins, it says what to grant; where throttling is optional it goes on', async () => {
    await place.startUp(['unshare', '--mount', 'sh', '-c', READ_ONLY, 'sh']);
    const why = /guests of lab-a cannot be throttled: .*EROFS.*mount them writable/;
    await expectFoundBefore(why);
    await expectRelaxed(why);
  });

  test('as its guard has no place for its journal: nothing begins, it says so; where throttling is optional it goes on', async () => {
    writeFileSync(join(place.home, 'guard'), 'in the way');
    await place.startUp();
    const why = new RegExp(`guests of lab-a cannot be throttled: .*${join(place.home, 'guard')}`);
    await expectFoundBefore(why);
    await expectRelaxed(why);
  });
});
