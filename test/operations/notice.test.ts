/** Stories of moves that somebody is told of beforehand: they wait, hold no bandwidth, and can be called off. */
import { describe, expect, it } from 'vitest';
import { eventId } from '../../src/webhooks/message.ts';
import { evacuate, type FleetInput, host, vm, World } from '../support/world.ts';

const WEBHOOKS: FleetInput['webhooks'] = [
  { name: 'log', url: 'http://127.0.0.1:9/', secretEnv: 'SECRET' },
  { name: 'owners', url: 'http://127.0.0.1:9/', secretEnv: 'SECRET', noticeBefore: '30s' },
];

function world(webhooks: FleetInput['webhooks'] = WEBHOOKS): World {
  return new World({ hosts: [host('a', [vm('x'), vm('y')]), host('b'), host('c')], webhooks });
}

const notices = async (fleet: World, id: string) => (await fleet.told(id)).filter(({ kind }) => kind === 'move.notice');

async function pass(fleet: World, ms: number): Promise<void> {
  const untilMs = fleet.clock.now() + ms;
  // Where all processes are dead, somebody has to wait.
  void fleet.clock.sleep(ms);
  await fleet.clock.runUntil(async () => fleet.clock.now() >= untilMs, ms + 1_000);
}

describe('a notice before a move', () => {
  it('says what is about to be done, and nothing of it is begun before its time', async () => {
    const fleet = world();
    await fleet.crew();
    const id = await fleet.request(evacuate('a'));
    await fleet.clock.runUntil(async () => (await notices(fleet, id)).length === 2, 60_000);
    const [first] = await notices(fleet, id);
    const at = first?.notice?.startsNotBeforeMs ?? 0;
    expect(first).toMatchObject({
      vm: 'x',
      moveId: `${id}-1-1`,
      message: expect.stringMatching(/^x is to be moved from a to [bc], not before 30s from now$/),
    });
    expect(first?.notice).toEqual({
      action: 'migration',
      source: 'a',
      destination: expect.stringMatching(/^[bc]$/),
      startsNotBeforeMs: (first?.atMs ?? 0) + 30_000,
    });
    await fleet.clock.runUntil(async () => fleet.clock.now() >= at - 1_000, 60_000);
    for (const move of await fleet.moves(id)) {
      expect(move).toMatchObject({
        state: 'queued',
        token: 0,
        startsNotBeforeMs: expect.any(Number),
        reason: { message: 'waits 30s from its notice to whom it concerns' },
      });
      expect(await fleet.delivery.hasMove({ moveId: move.id, operationId: id, source: 'a' })).toBe(false);
    }
    expect(await fleet.budget.entries()).toEqual([]);
    expect(await fleet.ended(id)).toMatchObject({ state: 'done' });
    for (const move of await fleet.moves(id))
      expect(move.startedAtMs).toBeGreaterThanOrEqual(move.startsNotBeforeMs ?? Number.POSITIVE_INFINITY);
    expect(await notices(fleet, id)).toHaveLength(2);
  });

  it('where no webhook asks for one, nobody waits', async () => {
    const fleet = world([{ name: 'log', url: 'http://127.0.0.1:9/', secretEnv: 'SECRET' }]);
    await fleet.crew();
    const id = await fleet.request(evacuate('a'));
    const record = await fleet.ended(id);
    expect((record.endedAtMs ?? 0) - record.createdAtMs).toBeLessThan(30_000);
    expect(await notices(fleet, id)).toEqual([]);
  });

  it('is not forgotten, not started again and not told anew by the successor of a process that died', async () => {
    const fleet = world();
    const first = await fleet.crew();
    const id = await fleet.request(evacuate('a'));
    await fleet.clock.runUntil(async () => (await notices(fleet, id)).length === 2, 60_000);
    const told = await notices(fleet, id);
    await pass(fleet, 10_000);
    first.kill();
    await pass(fleet, 5_000);
    await fleet.crew();
    expect(await fleet.ended(id)).toMatchObject({ state: 'done' });
    expect(await notices(fleet, id)).toEqual(told);
    const [x] = await fleet.moves(id);
    const late = (x?.startedAtMs ?? 0) - (x?.startsNotBeforeMs ?? 0);
    expect(late).toBeGreaterThanOrEqual(0);
    // A turn a second, and what a migration looks at before it starts.
    expect(late).toBeLessThan(10_000);
  });

  it('of a process that dies between telling and noting is told again under the same id', async () => {
    const fleet = world();
    // Each way to the store takes a while, so that a process can die on it.
    const slow = await fleet.crew({
      locks: true,
      store: async (call) => {
        const answer = await call();
        await fleet.clock.sleep(5);
        return answer;
      },
    });
    const id = await fleet.request(evacuate('a'));
    await fleet.clock.runUntil(async () => (await notices(fleet, id)).length === 1, 60_000);
    slow.kill();
    expect(await fleet.moves(id)).toEqual([]);
    await pass(fleet, 12_000);
    await fleet.crew();
    expect(await fleet.ended(id)).toMatchObject({ state: 'done' });
    const [first, again, ...others] = await notices(fleet, id);
    if (first === undefined || again === undefined) throw new Error('not told again');
    expect(again).toMatchObject({ vm: 'x', moveId: first.moveId });
    expect(eventId(again)).toBe(eventId(first));
    expect(others.map(({ vm: name }) => name)).toEqual(['y']);
    expect(others.map(eventId)).not.toContain(eventId(first));
    // Whoever believed the first was promised no less.
    expect(again.notice?.startsNotBeforeMs).toBeGreaterThan(first.notice?.startsNotBeforeMs ?? 0);
  });

  it('leaves its VMs alone when the operation is cancelled meanwhile', async () => {
    const fleet = world();
    await fleet.crew();
    const id = await fleet.request(evacuate('a'));
    await fleet.clock.runUntil(async () => (await notices(fleet, id)).length === 2, 60_000);
    const cancelledAt = fleet.clock.now();
    await fleet.records.setControl(id, { cancel: true });
    expect(await fleet.ended(id)).toMatchObject({ state: 'cancelled' });
    expect(fleet.clock.now() - cancelledAt).toBeLessThan(10_000);
    expect(fleet.transitions).toEqual([]);
    for (const name of ['x', 'y']) expect(await fleet.copies(name)).toEqual(['a:running']);
    expect((await fleet.claims.read()).reservations).toEqual({});
  });

  it('comes before a guest is shut down, too', async () => {
    const fleet = new World({
      hosts: [host('a', [vm('x', { notMigratable: 'a host device is attached' })]), host('b')],
      webhooks: WEBHOOKS,
    });
    await fleet.crew();
    const id = await fleet.request(evacuate('a', {}, null, { nonMigratable: 'shutdown' }));
    const record = await fleet.ended(id);
    expect(record).toMatchObject({ state: 'done', tasks: [{ state: 'shutOff' }] });
    expect(await notices(fleet, id)).toMatchObject([{ notice: { action: 'shutdown', source: 'a', destination: 'a' } }]);
    const [move] = await fleet.moves(id);
    expect(move?.askedAtMs).toBeGreaterThanOrEqual(move?.startsNotBeforeMs ?? Number.POSITIVE_INFINITY);
  });
});
