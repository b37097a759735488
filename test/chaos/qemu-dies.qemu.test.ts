/** One of the two QEMU processes of a migration is killed while its memory is being copied. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Copy, LabPlace } from '../lab/place.ts';
import { expectQuotasAsBefore } from '../lab/quotas.ts';
import { moveOf, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
/** An idle guest has 32 MiB: two at once take eight seconds. */
const EGRESS = 8 * MIB;
const GUESTS = ['idle-1', 'idle-2'];
const HOSTS = ['lab-a', 'lab-b', 'lab-c'];

describeWith(['qemu', 'root', 'cgroup', 'redis'], 'a QEMU that dies in the middle of a copy', () => {
  let place: LabPlace;
  beforeEach(async () => {
    place = new LabPlace();
    await place.lab({ profiles: ['idle', 'idle'], egressBytesPerSec: EGRESS });
    await place.startUp();
  });
  afterEach(() => place.close());

  /** Both ends of idle-1's migration, some of its memory sent and most of it not. */
  async function midCopy(): Promise<{ source: Copy; destination: Copy }> {
    const source = place.only('idle-1');
    await until(() => place.copies('idle-1').length === 2, 30_000, 'a waiting copy');
    await place.untilSent(source, 4 * MIB, 30_000);
    const destination = place.copies('idle-1').find(({ host }) => host !== 'lab-a');
    if (destination === undefined) throw new Error('the waiting copy is gone');
    expect(await place.stateOf(destination)).toBe('inmigrate');
    return { source, destination };
  }

  test('the destination: the move is made again, to a host that works, and every guest arrives whole', async () => {
    const id = await place.evacuate('lab-a');
    const { destination } = await midCopy();
    process.kill(destination.pid, 'SIGKILL');

    const ended = await place.run('watch', id, '--timeout', '90s', '-o', 'json');
    expect(ended.code, `${ended.stdout}${place.said()}`).toBe(0);
    const result = resultOf(ended);
    console.log(`makespan ${result.makespanMs} ms; ${JSON.stringify(result.moves)}`);
    expect(result.state).toBe('done');
    expect(moveOf(result, 'idle-1').attempts).toBe(2);
    expect(moveOf(result, 'idle-2').attempts).toBe(1);
    const [first] = await (await place.eyes()).moves(id, 'idle-1');
    expect(first).toMatchObject({ state: 'failed', destination: destination.host });
    console.log(`the first attempt: ${first?.reason?.code} ${first?.reason?.message}`);
    for (const move of result.moves) {
      const copy = place.only(move.vm);
      expect(copy.host, move.vm).toBe(move.destination);
      expect((await place.check(copy)).faults, move.vm).toEqual([]);
      await place.goesOn(copy);
    }
    expect(place.directories().sort()).toEqual(result.moves.map((move) => `${move.destination}/${move.vm}`).sort());
    expectQuotasAsBefore(place.quotasBefore, GUESTS, HOSTS);
  });

  test('the source: it is reported as died, nothing is claimed of it, its waiting copy goes, the other guest moves', async () => {
    const id = await place.evacuate('lab-a');
    const { source, destination } = await midCopy();
    process.kill(source.pid, 'SIGKILL');

    const ended = await place.run('watch', id, '--timeout', '90s', '-o', 'json');
    const result = resultOf(ended);
    console.log(`makespan ${result.makespanMs} ms; ${JSON.stringify(result.moves)}`);
    expect(ended.code, place.said()).toBe(3);
    expect(result.state).toBe('partial');
    const eyes = await place.eyes();
    const [dead, ...more] = await eyes.moves(id, 'idle-1');
    expect(more).toEqual([]);
    expect(dead).toMatchObject({ state: 'failed', reason: { code: 'sourceDied' } });
    console.log(`it says: ${dead?.reason?.message}`);
    expect(await eyes.claimed()).toEqual({ vms: [], reservations: [] });
    // No copy of it was let go, neither there nor anywhere else; its definition stays where it was.
    expect(place.copies('idle-1')).toEqual([]);
    expect(place.directories()).toContain('lab-a/idle-1');
    expect(place.directories()).not.toContain(`${destination.host}/idle-1`);

    const moved = moveOf(result, 'idle-2');
    expect(moved).toMatchObject({ state: 'done', attempts: 1 });
    const copy = place.only('idle-2');
    expect(copy.host).toBe(moved.destination);
    expect((await place.check(copy)).faults).toEqual([]);
    expectQuotasAsBefore(place.quotasBefore, GUESTS, HOSTS);
  });
});
