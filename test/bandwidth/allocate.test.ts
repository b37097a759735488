import { describe, expect, test } from 'vitest';
import { allocate, type Entry, FLOOR_BYTES_PER_SEC, isNextInTurn, PATIENCE } from '../../src/bandwidth/allocate.ts';
import { MIB, network, running, settle, targets, waiting } from './entries.ts';

describe('starting', () => {
  test('the first gets the full rate, the others wait: few at full rate, not many at a share', () => {
    const entries = [waiting('1', { order: 1 }), waiting('2', { order: 2 }), waiting('3', { order: 3 })];
    expect(targets(network(100), ...entries)).toEqual({ 1: 100, 2: 0, 3: 0 });
  });

  test('what one cannot use, the next one gets', () => {
    const entries = [waiting('1', { order: 1, max: 55 }), waiting('2', { order: 2 }), waiting('3', { order: 3 })];
    expect(targets(network(100), ...entries)).toEqual({ 1: 55, 2: 45, 3: 0 });
  });

  test('nobody starts below its useful rate, at either end', () => {
    expect(targets(network(100, { b: { ingress: 39 } }), waiting('1'))).toEqual({ 1: 0 });
    expect(targets(network(100, { a: { egress: 39 } }), waiting('1'))).toEqual({ 1: 0 });
    expect(targets(network(100, { b: { ingress: 40 } }), waiting('1'))).toEqual({ 1: 40 });
  });

  test('a migration counts at both ends, and its host may still receive', () => {
    const entries = [
      waiting('out', { order: 1 }),
      waiting('also-out', { order: 2, destination: 'c' }),
      waiting('also-in', { order: 3, source: 'c' }),
      waiting('back', { order: 4, source: 'b', destination: 'a' }),
    ];
    expect(targets(network(100), ...entries)).toEqual({ out: 100, 'also-out': 0, 'also-in': 0, back: 100 });
  });

  test('a shared link counts once for a migration between two of its hosts', () => {
    const links = { capacities: { rack: 100 * MIB }, ofHost: { a: ['rack'], b: ['rack'], c: ['rack'] } };
    const entries = [waiting('1', { order: 1, max: 60 }), waiting('2', { order: 2, source: 'c', destination: 'd' })];
    expect(targets({ ...network(100), links }, ...entries)).toEqual({ 1: 60, 2: 40 });
  });

  test('evacuations start before rebalances, and wait for those that run', () => {
    const rebalance = waiting('r', { tier: 'rebalance', order: 1 });
    const evacuation = waiting('e', { tier: 'evacuation', order: 2 });
    expect(targets(network(100), rebalance, evacuation)).toEqual({ r: 0, e: 100 });
    expect(targets(network(100), running('r', 100, { tier: 'rebalance' }), evacuation)).toEqual({ r: 100, e: 0 });
  });

  test('a host that the fleet does not have carries nothing', () => {
    expect(targets(network(100), waiting('1', { destination: 'constructor' }))).toEqual({ 1: 0 });
  });

  test('one whose need no capacity meets waits without keeping anything from others', () => {
    const entries = [waiting('never', { order: 1, useful: 101, max: 200 }), waiting('2', { order: 2 })];
    expect(targets(network(100), ...entries)).toEqual({ never: 0, 2: 100 });
  });

  test('one that cannot use its useful rate needs no more than it can use', () => {
    expect(targets(network(30), waiting('1', { useful: 40, max: 20 }))).toEqual({ 1: 20 });
  });
});

describe('the next in turn', () => {
  const nextOf = (of: Parameters<typeof targets>[0], ...entries: Entry[]): string[] =>
    entries.filter((entry) => isNextInTurn({ ...of, entries }, entry)).map(({ migrationId }) => migrationId);

  test('is the first in rank of those that wait for something on its path', () => {
    const rebalance = waiting('r', { tier: 'rebalance', order: 1 });
    const entries = [running('1', 100), waiting('2', { order: 2 }), waiting('3', { order: 3 })];
    expect(nextOf(network(100), rebalance, ...entries)).toEqual(['2']);
    expect(nextOf(network(100), ...entries.slice(0, 1))).toEqual([]);
  });

  test('there is one for each path that has nothing in common with those before', () => {
    const elsewhere = waiting('4', { order: 4, source: 'c', destination: 'd' });
    const sameEnd = waiting('5', { order: 5, source: 'e' });
    expect(nextOf(network(100), running('1', 100), waiting('2', { order: 2 }), elsewhere, sameEnd)).toEqual(['2', '4']);
  });

  test('is not one that its path can never carry', () => {
    expect(nextOf(network(39), waiting('1'))).toEqual([]);
  });
});

describe('running ones', () => {
  test('grow into what is free, in order', () => {
    const entries = [running('1', 30, { order: 1, max: 60 }), running('2', 20, { order: 2 })];
    expect(targets(network(100), ...entries)).toEqual({ 1: 60, 2: 40 });
  });

  test('do not take from an earlier one that waits and could start', () => {
    const entries = [running('late', 30, { order: 9 }), waiting('early', { order: 1 })];
    expect(targets(network(100), ...entries)).toEqual({ late: 30, early: 70 });
  });

  test('do not take what an earlier one is saving up for', () => {
    const entries = [running('late', 70, { order: 9 }), waiting('early', { order: 1 })];
    expect(targets(network(100), ...entries)).toEqual({ late: 70, early: 0 });
  });

  test('keep their rate whoever comes', () => {
    const entries = [running('late', 100, { order: 9 }), waiting('early', { order: 1 })];
    expect(targets(network(100), ...entries)).toEqual({ late: 100, early: 0 });
  });

  test('what is given up stays counted until the hypervisor is known to use less', () => {
    const shrinking = running('1', 30, { max: 30 }, 100);
    expect(targets(network(100), shrinking, waiting('2', { order: 2 }))).toEqual({ 1: 30, 2: 0 });
    expect(targets(network(100), { ...shrinking, inForce: 30 * MIB }, waiting('2', { order: 2 }))).toEqual({
      1: 30,
      2: 70,
    });
  });

  test('one whose target fell may have it back while it is still its own', () => {
    expect(targets(network(100), running('1', 30, {}, 100))).toEqual({ 1: 100 });
  });

  test('one that sends without a grant (it was adopted) counts and keeps what it uses', () => {
    const adopted: Entry = { ...waiting('1', { order: 2, max: 60 }), inForce: 60 * MIB };
    expect(targets(network(100), adopted, waiting('2', { order: 1, useful: 50 }))).toEqual({ 1: 60, 2: 0 });
  });

  test('where an adopted one does not fit beside what runs, it is one of them: the last in order gives', () => {
    const adopted: Entry = { ...waiting('1', { order: 1, max: 60 }), inForce: 60 * MIB };
    expect(targets(network(100), adopted, running('2', 100, { order: 2 }))).toEqual({ 1: 60, 2: 40 });
  });

  test('a lower maximum lowers the target at once', () => {
    expect(targets(network(100), running('1', 80, { max: 50 }))).toEqual({ 1: 50 });
  });
});

describe('when a capacity falls', () => {
  test('the last in order give first', () => {
    const entries = [running('1', 50, { order: 1 }), running('2', 30, { order: 2 }), running('3', 20, { order: 3 })];
    expect(targets(network(60), ...entries)).toEqual({ 1: 50, 2: 9, 3: 1 });
  });

  test('nobody who runs gets 0, which QEMU reads as unlimited', () => {
    const entries = Array.from({ length: 5 }, (_, n) => running(`${n}`, 20, { order: n }));
    const after = [...allocate({ ...network(2), entries }).targets.values()];
    expect(after.every((target) => target >= 1)).toBe(true);
    expect(after.reduce((sum, target) => sum + target, 0)).toBeLessThanOrEqual(2 * MIB);
    expect([...allocate({ ...network(0), entries }).targets.values()]).toEqual([1, 1, 1, 1, 1]);
  });

  test('where there is room for it, the floor is one that still moves a guest', () => {
    const entries = [running('1', 50, { order: 1 }), running('2', 50, { order: 2 })];
    const after = allocate({ ...network(40), entries }).targets;
    expect(after.get('2')).toBe(FLOOR_BYTES_PER_SEC);
    expect(after.get('1')).toBe(40 * MIB - FLOOR_BYTES_PER_SEC);
  });

  test('nothing starts or grows before what is in force fits', () => {
    const shrunk = running('1', 40, { order: 1, max: 40 }, 100);
    const small = running('2', 5, { order: 2 });
    expect(targets(network(60), shrunk, small, waiting('3', { order: 0, useful: 1 }))).toEqual({ 1: 40, 2: 5, 3: 0 });
  });

  test('an override stands in for the fleet file', () => {
    const overrides = { 'egress a': 50 * MIB };
    expect(targets({ ...network(100), overrides }, waiting('1'))).toEqual({ 1: 50 });
  });
});

describe('behind one that waits', () => {
  const busy = running('holds-b', 100, { source: 'e', destination: 'b', order: 0 });
  const stuck = waiting('stuck', { order: 1 });

  test('nobody idles behind a busy destination: a later one goes elsewhere at full rate', () => {
    const later = waiting('later', { order: 2, destination: 'c' });
    expect(targets(network(100), busy, stuck, later)).toMatchObject({ stuck: 0, later: 100 });
  });

  test('on the resource that is too short for it, what is free adds up for it', () => {
    const half = running('half-of-b', 70, { source: 'e', destination: 'b', max: 70 });
    const small = waiting('small', { order: 2, source: 'd', useful: 10 });
    expect(targets(network(100), half, stuck, small)).toMatchObject({ stuck: 0, small: 0 });
  });

  test('one that leaves enough for it is no matter how many to pass', () => {
    const rest = waiting('rest', { order: 2, destination: 'c', useful: 10, max: 60 });
    const entries = [busy, stuck, rest];
    expect(targets(network(100), ...entries)).toMatchObject({ rest: 60 });
    expect(allocate({ ...network(100), entries }).overtaken.get('stuck')).toBe(0);
  });

  test('only so many start at its cost; then its whole path is kept for it', () => {
    const later = waiting('later', { order: 2, destination: 'c' });
    const overtaken = (before: number) =>
      allocate({ ...network(100), entries: [busy, { ...stuck, overtaken: before }, later] });
    expect(overtaken(PATIENCE - 1).targets.get('later')).toBe(100 * MIB);
    expect(overtaken(PATIENCE - 1).overtaken.get('stuck')).toBe(PATIENCE);
    // 40 of a's egress are kept, 60 are not.
    expect(overtaken(PATIENCE).targets.get('later')).toBe(60 * MIB);
    expect(overtaken(PATIENCE).overtaken.get('stuck')).toBe(PATIENCE);
  });

  test('patience that ends within one allocation is respected in it', () => {
    const path = { egress: 400, ingress: 400 };
    const needy = waiting('needy', { order: 1, useful: 390, max: 400 }, PATIENCE - 1);
    const others = [2, 3, 4].map((order) => waiting(`${order}`, { order, destination: 'c', useful: 50 }));
    const blocker = running('blocker', 400, { source: 'e', max: 400 });
    const after = targets(network(100, { a: path, b: path, c: path, e: path }), blocker, needy, ...others);
    expect(after).toMatchObject({ needy: 0, 2: 100, 3: 0, 4: 0 });
  });

  test('an endless stream of later ones on both its ends does not starve it', () => {
    let entries: Entry[] = [waiting('both-ends', { order: 0, useful: 90 })];
    let started = -1;
    for (let round = 0; round < 60 && started < 0; round += 1) {
      // Two new ones each round, one at each end, and the oldest that runs ends.
      entries.push(waiting(`out-${round}`, { order: 1 + 2 * round, destination: 'c', useful: 90 }));
      entries.push(waiting(`in-${round}`, { order: 2 + 2 * round, source: 'd', useful: 90 }));
      // The stream is there first: the two ends are busy in turn.
      if (round === 0)
        entries = [running('r1', 100, { destination: 'c' }), running('r2', 100, { source: 'd' }), ...entries];
      const oldest = entries.filter((entry) => entry.started)[round % 2];
      entries = entries.filter((entry) => entry !== oldest);
      entries = settle(entries, allocate({ ...network(100), entries })).map((entry) => ({
        ...entry,
        inForce: entry.target,
      }));
      if (entries.find((entry) => entry.migrationId === 'both-ends')?.started) started = round;
    }
    expect(started).toBeGreaterThan(0);
    expect(started).toBeLessThanOrEqual(2 * PATIENCE);
  });
});

describe('the next in turn begins while those before it end', () => {
  const ends = running('ends', 99, { destination: 'c', max: 99, endsSoon: true });
  const ready = waiting('ready', { order: 1, headStart: true });
  const free = network(100);

  test('with what they have stepped back from, and nothing else changes', () => {
    expect(targets(free, ends, ready)).toEqual({ ends: 99, ready: 1 });
  });

  test('not before they are about to end, not before it is ready, and not with less than it takes to connect', () => {
    expect(targets(free, { ...ends, endsSoon: false }, ready)).toEqual({ ends: 99, ready: 0 });
    expect(targets(free, ends, { ...ready, headStart: false })).toMatchObject({ ready: 0 });
    expect(targets(free, running('ends', 99.75, { max: 99.75, endsSoon: true }), ready)).toMatchObject({ ready: 0 });
  });

  test("not where what they give up is not enough, or is another one's that began like that", () => {
    const goesOn = running('goes-on', 69, { order: -1, max: 69 });
    expect(targets(free, goesOn, running('ends', 30, { max: 30, endsSoon: true }), ready)).toMatchObject({ ready: 0 });
    const first = { ...running('first', 1, { order: 1, useful: 80 }), headStart: true };
    const second = waiting('second', { order: 2, headStart: true });
    const before = running('ends', 97, { max: 97, endsSoon: true });
    expect(targets(free, before, first, second)).toEqual({ ends: 97, first: 3, second: 0 });
  });

  test('not past one of higher rank that waits for the same', () => {
    const before = waiting('before', { order: 0, source: 'd', useful: 60 });
    const into = running('ends', 99, { source: 'e', max: 99, endsSoon: true });
    expect(targets(free, into, before, ready)).toEqual({ ends: 99, before: 0, ready: 0 });
  });

  test('what the first of two gives up is kept for it until the other has ended as well', () => {
    const into = running('into', 99, { source: 'e', destination: 'c', max: 99, endsSoon: true });
    const leading = { ...running('leading', 1, { order: 2, destination: 'c' }), headStart: true };
    const later = waiting('later', { order: 3, destination: 'd' });
    // Without the one that leaves a: 40 of it are kept, and one that needs more waits.
    expect(targets(free, into, leading, later)).toEqual({ into: 99, leading: 1, later: 60 });
    expect(targets(free, into, leading, { ...later, usefulBytesPerSec: 80 * MIB })).toMatchObject({ later: 0 });
    expect(targets(free, leading, later)).toMatchObject({ leading: 100, later: 0 });
  });

  test('of two, each has what it needs before either has more', () => {
    const one = { ...running('one', 1, { order: 1, source: 'd', destination: 'c' }), headStart: true };
    const two = { ...running('two', 1, { order: 2, source: 'e', destination: 'c' }), headStart: true };
    const after = running('after', 20, { order: 0, source: 'e', max: 20 });
    expect(targets(free, one, two)).toEqual({ one: 60, two: 40 });
    // Of its own source not enough is free yet.
    const busy = running('busy', 90, { order: 0, source: 'e', max: 90, endsSoon: true });
    expect(targets(free, busy, one, two)).toEqual({ busy: 90, one: 60, two: 10 });
    expect(targets(free, after, one, two)).toEqual({ after: 20, one: 60, two: 40 });
  });

  test('nothing is kept for it that its path cannot carry any more', () => {
    const leading = { ...running('leading', 1, { order: 2, destination: 'c' }), headStart: true };
    const later = waiting('later', { order: 3, destination: 'd', useful: 80 });
    expect(targets(network(100, { c: { ingress: 20 } }), leading, later)).toEqual({ leading: 20, later: 80 });
  });

  test('what they give up is its own, also before one of higher rank that has come meanwhile', () => {
    const leading = { ...running('leading', 1, { order: 5 }), headStart: true };
    const late = waiting('late', { order: 0 });
    const other = running('other', 30, { order: 0, source: 'd', max: 100 });
    expect(targets(free, leading, late, other)).toEqual({ leading: 40, late: 0, other: 30 });
  });
});
