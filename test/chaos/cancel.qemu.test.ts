/** An operation is cancelled while one of its guests is held back. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { migrateAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { asking, LabPlace } from '../lab/place.ts';
import { expectQuotasAsBefore, groupsOf, heldBack } from '../lab/quotas.ts';
import { moveOf, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const PROMISED_MS = 2_000;

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'an operation that is cancelled', () => {
  let place: LabPlace;
  beforeEach(() => {
    place = new LabPlace();
  });
  afterEach(() => place.close());

  test('leaves a throttled guest at its source, at full speed within 2 s, and nothing of it elsewhere', async () => {
    await place.lab({ hosts: 2, profiles: ['hot'], egressBytesPerSec: 20 * MIB });
    const source = place.only('hot-1');
    const home = groupsOf(source.pid);
    await place.startUp();
    const id = await place.evacuate('lab-a');
    await until(() => heldBack('lab-a', 'hot-1') !== null, 60_000, 'hot-1 is throttled');

    const cancelled = await place.run('cancel', id);
    const sinceAt = performance.now();
    expect(cancelled.code, cancelled.stderr).toBe(0);
    await until(() => heldBack('lab-a', 'hot-1') === null, PROMISED_MS, 'hot-1 is not held back any more');
    console.log(`unthrottled ${Math.round(performance.now() - sinceAt)} ms after cancel had been accepted`);
    expect(groupsOf(source.pid)).toEqual(home);

    const ended = await place.run('watch', id, '--timeout', '60s', '-o', 'json');
    const result = resultOf(ended);
    expect(result.state, place.said()).toBe('cancelled');
    expect(moveOf(result, 'hot-1')).toMatchObject({ state: 'cancelled', attempts: 1 });
    expect(moveOf(result, 'hot-1').harmCpuMs).toBeGreaterThan(0);
    expect(place.only('hot-1')).toEqual(source);
    expect(await place.stateOf(source)).toBe('running');
    const { status } = await asking(source.dir.spare, (qmp) => qmp.execute('query-migrate', migrateAnswer));
    expect(status).toBe('cancelled');
    expect((await place.check(source)).faults).toEqual([]);
    await place.goesOn(source);
    expect(place.directories()).toEqual(['lab-a/hot-1']);
    expect(await (await place.eyes()).claimed()).toEqual({ vms: [], reservations: [] });
    expectQuotasAsBefore(place.quotasBefore, ['hot-1'], ['lab-a', 'lab-b']);
  });
});
