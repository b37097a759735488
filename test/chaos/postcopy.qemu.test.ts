/**
 * A real guest that does not converge goes on in post-copy: the whole program switches it, a link that is silently cut
 * meanwhile is repaired, and a worker that is killed leaves it to its successor. Memory is checked page by page.
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { migrateAnswer } from '../../src/hypervisors/qemu/answers.ts';
import { cutLink, healLink } from '../../src/lab/network.ts';
import { asking, type Copy, LabPlace } from '../lab/place.ts';
import { expectQuotasAsBefore, groupsOf, heldBack } from '../lab/quotas.ts';
import { moveOf, type Result, resultOf } from '../lab/results.ts';
import { until } from '../support/condition.ts';
import { describeWith } from '../support/needs.ts';

const MIB = 2 ** 20;
const VM = 'hot-1';
/** So slow that 64 MiB take about ten seconds, also those that the guest asks for: the link itself lets no more through. */
const EGRESS = 6 * MIB;
/** It writes 160 MiB/s and may hardly be slowed: it cannot converge. */
const POST_COPY = ['--at-deadline', 'postCopy', '--max-time', '25s', '--min-cpu', '0.9'];
const LIMIT_MS = 240_000;

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis'], 'a guest that goes on in post-copy', () => {
  let place: LabPlace;
  let source: Copy;
  let home: readonly string[];
  beforeEach(async () => {
    place = new LabPlace();
    await place.lab({ hosts: 2, profiles: ['hot'], network: true, egressBytesPerSec: EGRESS });
    source = place.only(VM);
    home = groupsOf(source.pid);
  });
  afterEach(() => place.close());

  const statusAt = ({ dir }: Copy) =>
    asking(dir.spare, async (qmp) => (await qmp.execute('query-migrate', migrateAnswer)).status);
  const missingAt = ({ dir }: Copy) =>
    asking(dir.spare, async (qmp) => (await qmp.execute('query-migrate', migrateAnswer)).ram?.remaining);

  /** Evacuates lab-a and waits until the guest runs at lab-b while most of it is still missing there. */
  async function goesOver(): Promise<{ id: string; destination: Copy }> {
    const id = await place.evacuate('lab-a', ...POST_COPY);
    await until(async () => (await statusAt(source)) === 'postcopy-active', 90_000, `post-copy; ${place.said()}`);
    const destination = place.copies(VM).find(({ host }) => host === 'lab-b');
    if (destination === undefined) throw new Error('the copy is gone');
    return { id, destination };
  }

  /** Waits for the end; what the move came to. */
  async function arrives(id: string): Promise<Result['moves'][number]> {
    const ended = await place.run('watch', id, '--timeout', '120s', '-o', 'json');
    const move = moveOf(resultOf(ended), VM);
    console.log(`${JSON.stringify(move)}\n${(await (await place.eyes()).eventsOf(id)).join('\n')}`);
    expect(move, place.said()).toMatchObject({ state: 'done', attempts: 1, destination: 'lab-b', reason: null });
    const copy = place.only(VM);
    expect(copy.host).toBe('lab-b');
    await place.goesOn(copy);
    expect((await place.check(copy)).faults).toEqual([]);
    expect(place.directories()).toEqual([`lab-b/${VM}`]);
    expectQuotasAsBefore(place.quotasBefore, [VM], ['lab-a', 'lab-b']);
    return move;
  }

  test(
    'arrives whole after a short standstill; a cancel meanwhile is refused',
    async () => {
      await place.startUp();
      const { id, destination } = await goesOver();
      expect(await place.stateOf(destination)).toBe('running');
      expect(heldBack('lab-a', VM)).toBe(null);
      expect(groupsOf(source.pid)).toEqual(home);
      await place.run('cancel', id);
      const eyes = await place.eyes();
      const refused = async () => (await eyes.moves(id, VM))[0]?.reason?.message ?? '';
      await until(async () => /cannot be called off/.test(await refused()), 20_000, 'the refusal');
      const move = await arrives(id);
      // A handover and a last look, and what a busy machine adds.
      expect(move.downtimeMs).toBeLessThan(1_500);
      expect(move.harmCpuMs).toBeGreaterThan(move.downtimeMs);
    },
    LIMIT_MS,
  );

  test(
    'over a link that is silently cut and healed: connected anew, it arrives whole',
    async () => {
      const lab = place.manifest;
      await place.startUp();
      const { id } = await goesOver();
      await cutLink(lab, 'lab-b');
      const eyes = await place.eyes();
      const recovering = async () => (await eyes.eventsOf(id)).filter((event) => event.startsWith('move.recovering'));
      await until(async () => (await recovering()).length > 0, 40_000, `an attempt; ${place.said()}`);
      await until(async () => (await statusAt(source)) !== 'postcopy-active', 20_000, 'the source has given it up');
      expect(await missingAt(source)).toBeGreaterThan(0);
      expect(place.copies(VM)).toHaveLength(2);
      await healLink(lab, 'lab-b');
      await arrives(id);
    },
    LIMIT_MS,
  );

  test(
    'whose worker is killed is adopted by the next, and arrives whole',
    async () => {
      const killed = await place.startUp();
      const { id } = await goesOver();
      killed.signalGroup('SIGKILL');
      await killed.ended;
      expect(await statusAt(source)).toBe('postcopy-active');
      await place.startUp();
      await arrives(id);
    },
    LIMIT_MS,
  );
});
