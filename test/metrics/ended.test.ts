/** What counts as ended since a process began to look: each once, whatever the order in which it is seen. */
import { describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { Ended, type Look } from '../../src/metrics/ended.ts';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

function world(): World {
  return new World({ hosts: [host('a', [vm('x'), vm('y')]), host('b'), host('c')] });
}

const ids = ({ endedOperations, endedMoves }: Look) => ({
  operations: endedOperations.map(({ id }) => id).sort(),
  moves: endedMoves.map(({ move }) => move.id).sort(),
});

describe('ended since the first look', () => {
  it('what ended before counts for nothing, what ends later counts once', async () => {
    const fleet = world();
    await fleet.crew();
    await fleet.ended(await fleet.request(balance([{ vm: 'x', to: 'b' }])));
    const ended = new Ended(fleet.records);
    expect(ids(await ended.look())).toEqual({ operations: [], moves: [] });
    const second = await fleet.request(evacuate('a'));
    await fleet.ended(second);
    const look = await ended.look();
    expect(ids(look)).toEqual({ operations: [second], moves: [`${second}-1-1`] });
    expect(look.endedMoves[0]?.move).toMatchObject({ vm: 'y', state: 'done' });
    expect(ids(await ended.look())).toEqual({ operations: [], moves: [] });
  });

  it('a move counts when it has ended, before its operation has, and not again with it', async () => {
    const fleet = world();
    await fleet.crew();
    const ended = new Ended(fleet.records);
    await ended.look();
    const id = await fleet.request(evacuate('a'));
    const seen: string[] = [];
    let early = 0;
    await fleet.clock.runUntil(async () => {
      const look = await ended.look();
      seen.push(...ids(look).moves);
      if (look.endedOperations.length === 0) early += look.endedMoves.length;
      return look.endedOperations.length > 0;
    }, 600_000);
    expect(seen.sort()).toEqual([`${id}-1-1`, `${id}-1-2`]);
    expect(early).toBeGreaterThan(0);
  });

  it('a look that fails half way loses nothing', async () => {
    const fleet = world();
    await fleet.crew();
    let away = false;
    const { records } = fleet;
    const ended = new Ended({
      operationIds: () => records.operationIds(),
      operation: (id) => records.operation(id),
      moves: async (wanted) => {
        if (away) throw new HostevacError('redisAway', 'gone');
        return records.moves(wanted);
      },
    });
    await ended.look();
    const id = await fleet.request(evacuate('a'));
    await fleet.ended(id);
    away = true;
    await expect(ended.look()).rejects.toThrow('gone');
    away = false;
    expect(ids(await ended.look())).toEqual({ operations: [id], moves: [`${id}-1-1`, `${id}-1-2`] });
  });
});
