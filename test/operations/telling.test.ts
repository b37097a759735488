/** What watchers and webhooks are told of: each change once where nothing goes wrong, and never nothing. */
import { describe, expect, it } from 'vitest';
import type { OperationEvent } from '../../src/domain/operation.ts';
import { eventId } from '../../src/webhooks/message.ts';
import { evacuate, type FleetInput, host, vm, World } from '../support/world.ts';

const fleet = (webhooks: FleetInput['webhooks'] = []): FleetInput => ({
  hosts: [host('a', [vm('x')]), host('b')],
  webhooks,
});
const owners = { name: 'owners', url: 'http://127.0.0.1:9/', secretEnv: 'SECRET', noticeBefore: '30s' };

const told = async (world: World, id: string, kind: string): Promise<OperationEvent[]> =>
  (await world.told(id)).filter((event) => event.kind === kind);

describe('what an operation waits for', () => {
  it('is told when it changes, not as its age grows, and written now and then', async () => {
    const world = new World(fleet());
    const first = await world.crew();
    await world.clock.advance(5_000);
    await first.close();
    await world.crew({ hosts: ['b'] });
    await world.clock.advance(20_000);
    const id = await world.request(evacuate('a'));
    await world.clock.runUntil(async () => (await world.operation(id)).waitingFor.length > 0, 60_000);
    const shown = new Set<string>();
    const key = `operation:${id}`;
    const versions = new Set<number>();
    for (let second = 0; second < 25; second += 1) {
      await world.clock.advance(1_000);
      for (const line of (await world.operation(id)).waitingFor) shown.add(line);
      versions.add((await world.cells.read(key)).version);
    }
    expect(await told(world, id, 'operation.waiting')).toHaveLength(1);
    expect([...shown][0]).toMatch(/^the inventory of a is .* old and no worker serves it/);
    // It is not a stale line for ever, nor another one each second.
    expect(shown.size).toBeGreaterThan(1);
    expect(versions.size).toBeLessThan(16);
  });

  it('says so while all its moves wait for their notice', async () => {
    const world = new World(fleet([owners]));
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.clock.runUntil(async () => (await world.moves(id)).length === 1, 60_000);
    await world.clock.advance(5_000);
    const line = 'the notice of its moves to those whom they concern has not run out';
    expect((await world.operation(id)).waitingFor).toEqual([line]);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect((await told(world, id, 'operation.waiting')).map(({ message }) => message)).toEqual([line]);
  });
});

describe('a notice is called off', () => {
  it.each(['cancel', 'deadline'] as const)('when its operation is stopped: %s', async (by) => {
    const world = new World(fleet([owners]));
    await world.crew();
    const id = await world.request(evacuate('a', {}, by === 'deadline' ? 20_000 : null));
    await world.clock.runUntil(async () => (await world.moves(id)).length === 1, 60_000);
    if (by === 'cancel') await world.records.setControl(id, { cancel: true });
    await world.ended(id);
    const [notice] = await told(world, id, 'move.notice');
    const kind = by === 'cancel' ? 'move.cancelled' : 'move.failed';
    expect(await told(world, id, kind)).toMatchObject([{ vm: 'x', moveId: notice?.moveId }]);
    expect((await world.moves(id)).map(({ state }) => state)).toEqual([by === 'cancel' ? 'cancelled' : 'failed']);
  });

  it('and none is given after the operation was cancelled', async () => {
    const world = new World(fleet([owners]));
    let [id, dead] = ['', false];
    // It dies when it has planned, before the move is recorded.
    const first = await world.crew({
      locks: true,
      store: async (call) => {
        if (id !== '' && !dead && (await world.operation(id)).tasks.some(({ moveIds }) => moveIds.length > 0)) {
          dead = true;
          first.kill();
        }
        const answer = await call();
        await world.clock.sleep(5);
        return answer;
      },
    });
    id = await world.request(evacuate('a'));
    void world.clock.sleep(60_000);
    await world.clock.runUntil(async () => dead, 60_000);
    expect(await world.moves(id)).toEqual([]);
    await world.records.setControl(id, { cancel: true });
    await world.crew();
    expect(await world.ended(id)).toMatchObject({ state: 'cancelled' });
    expect(await told(world, id, 'move.notice')).toEqual([]);
    expect(await world.copies('x')).toEqual(['a:running']);
    expect((await world.claims.read()).reservations).toEqual({});
  });
});

/** Of one process that dies at the write after it has told, and of its successor. */
describe('what a process that dies has told is told again, never left out', () => {
  it.each(['move.planned', 'move.done', 'operation.awaitingApproval', 'operation.approved', 'operation.done'])(
    '%s',
    async (kind) => {
      const world = new World(fleet());
      let id = '';
      let dead = false;
      const first = await world.crew({
        locks: true,
        store: async (call) => {
          const before = id === '' ? 0 : (await told(world, id, kind)).length;
          const answer = await call();
          if (id !== '' && !dead && (await told(world, id, kind)).length > before) {
            dead = true;
            first.kill();
          }
          await world.clock.sleep(5);
          return answer;
        },
      });
      const isApproved = kind.startsWith('operation.a');
      id = await world.request(evacuate('a', {}, null, { approveFirst: isApproved }));
      const approving = async (): Promise<boolean> => {
        const { proposal } = await world.operation(id);
        if (proposal !== null && kind === 'operation.approved')
          await world.records.setControl(id, { approved: proposal.hash });
        return dead;
      };
      void world.clock.sleep(600_000);
      await world.clock.runUntil(approving, 600_000);
      const record = await world.operation(id);
      // It was told before it was noted.
      if (kind === 'operation.awaitingApproval') expect(record.state).not.toBe('awaitingApproval');
      if (kind === 'operation.approved') expect(record.approvedAtMs).toBeNull();
      if (kind === 'move.planned') expect(record.tasks.flatMap(({ moveIds }) => moveIds)).toEqual([]);
      if (kind === 'move.done') expect((await world.moves(id))[0]?.state).not.toBe('done');
      await world.crew();
      await world.clock.runUntil(async () => (await told(world, id, kind)).length > 1, 600_000);
      const all = await told(world, id, kind);
      if (kind.endsWith('.done')) expect(new Set(all.map(eventId)).size).toBe(1);
    },
  );
});
