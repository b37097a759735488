/** The next in turn connects while the one before it ends, and what becomes of it when that does not end after all. */
import { describe, expect, it } from 'vitest';
import { type Crew, evacuate, host, vm, World } from '../support/world.ts';

/** v2 has a head start, v1 is about to end. */
async function handedOver(guest: Parameters<typeof vm>[1]): Promise<{ world: World; id: string; crew: Crew }> {
  const world = new World({ hosts: [host('a', [vm('v1', guest), vm('v2', guest)]), host('b')] });
  const crew = await world.crew();
  const id = await world.request(evacuate('a'));
  await world.clock.runUntil(async () => {
    const moves = await world.moves(id);
    return moves.filter(({ step }) => step === 'precopy').length === 2;
  }, 60_000);
  return { world, id, crew };
}

const QUIET = { dirtyRate: '1MiB/s' };

describe('the next in turn', () => {
  it('has begun with next to nothing, and nothing is decided about its guest', async () => {
    const { world, id } = await handedOver(QUIET);
    const [, second] = (await world.moves(id)).sort((a, b) => (a.startedAtMs ?? 0) - (b.startedAtMs ?? 0));
    expect(second).toMatchObject({ progress: null, figures: { minShare: 1 } });
    const [egress] = (await world.budget.use()).map(({ egress: lane }) => lane);
    expect(egress?.counted).toBeLessThanOrEqual(2 ** 30);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    const moves = await world.moves(id);
    const latest = Math.max(...moves.map(({ headStartMs }) => headStartMs));
    expect(latest).toBeGreaterThan(0);
    expect(latest).toBeLessThan(1_500);
    // What is told of it is what was predicted, and what was learned from it.
    for (const { figures, predicted } of moves) {
      expect(figures.totalMs).toBeLessThan((predicted?.totalMs.high ?? 0) + 100);
    }
  });

  it('waits for its turn again when what it was to follow does not end', async () => {
    const { world, id } = await handedOver(QUIET);
    const [first, second] = (await world.moves(id)).sort((a, b) => (a.startedAtMs ?? 0) - (b.startedAtMs ?? 0));
    await world.simulated.inject({ kind: 'stuckProgress', vm: first?.vm ?? '', durationMs: 8_000 });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    const back = world.transitions.filter(({ vm: name }) => name === second?.vm).map(({ from, to }) => `${from} ${to}`);
    expect(back).toContain('precopy cleaning');
    expect(back.filter((step) => step === 'preparing precopy')).toHaveLength(2);
    // One move, and no other head start after that.
    const moves = await world.moves(id);
    expect(moves.map(({ attempt }) => attempt)).toEqual([1, 1]);
    expect(moves.find(({ vm: name }) => name === second?.vm)?.headStartMs).toBe(0);
  });

  it('is adopted, and what was sent so far is not taken for what its path carries', async () => {
    const { world, id, crew } = await handedOver(QUIET);
    crew.kill();
    // The first one ends by itself meanwhile.
    await world.clock.advance(3_000);
    await world.crew();
    world.delivery.deliverAgain('operations', id);
    for (const { id: moveId } of await world.moves(id)) world.delivery.deliverAgain('moves a', moveId);
    let latestMs = 0;
    await world.clock.runUntil(async () => {
      const moves = await world.moves(id);
      latestMs = Math.max(latestMs, ...moves.map(({ progress }) => progress?.etaMs ?? 0));
      return moves.every(({ state }) => state === 'done');
    }, 60_000);
    // 4 GiB at 1 GiB/s; with what it has begun with it would take more than two hours.
    expect(latestMs).toBeLessThan(10_000);
  });

  it('is cancelled like any other', async () => {
    const { world, id } = await handedOver(QUIET);
    const early = (await world.moves(id)).find(({ progress }) => progress === null)?.vm ?? '';
    await world.records.setControl(id, { cancel: true });
    expect(await world.ended(id, 10_000)).toMatchObject({ state: 'cancelled' });
    expect(await world.budget.entries()).toEqual([]);
    expect(await world.copies(early)).toEqual(['a:running']);
  });

  it('has none where its guest is to be slowed from the start', async () => {
    const hot = { dirtyRate: '4GiB/s', workingSet: '2GiB', cpuUse: 1 };
    const world = new World({ hosts: [host('a', [vm('v1', hot), vm('v2', hot)]), host('b')] });
    await world.crew();
    const id = await world.request({ ...evacuate('a'), policy: { ...evacuate('a').policy, name: 'emergency' } });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect((await world.moves(id)).map(({ headStartMs }) => headStartMs)).toEqual([0, 0]);
  });
});
