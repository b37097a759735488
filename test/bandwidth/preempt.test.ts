import { describe, expect, test } from 'vitest';
import { preempted } from '../../src/bandwidth/preempt.ts';
import { MIB, network, running, waiting } from './entries.ts';

const rebalance = (id: string, rate: number, more: Parameters<typeof running>[2] = {}) =>
  running(id, rate, { tier: 'rebalance', ...more });

function gives(
  of: ReturnType<typeof network>,
  ...entries: Parameters<typeof preempted>[0]['entries']
): Record<string, string> {
  return Object.fromEntries([...preempted({ ...of, entries })].map(([id, { migrationId }]) => [id, migrationId]));
}

describe('a waiting evacuation', () => {
  test('takes the place of a rebalance on its path', () => {
    expect(gives(network(100), rebalance('r', 100), waiting('e'))).toEqual({ r: 'e' });
  });

  test('of none that is elsewhere, and of no other evacuation', () => {
    expect(
      gives(network(100), rebalance('r', 100, { source: 'c', destination: 'd' }), running('f', 100), waiting('e')),
    ).toEqual({});
  });

  test('of none where what is free will do', () => {
    expect(gives(network(100), rebalance('r', 60), waiting('e'))).toEqual({});
  });

  test('of as few as will do, the last of rank first', () => {
    const entries = [rebalance('1', 50, { order: 1 }), rebalance('2', 50, { order: 2 }), waiting('e')];
    expect(gives(network(100), ...entries)).toEqual({ 2: 'e' });
    expect(gives(network(100), ...entries.slice(0, 2), waiting('e', { useful: 80 }))).toEqual({ 1: 'e', 2: 'e' });
  });

  test('of one more where what it began ahead of does not end', () => {
    const early = { ...running('e', 1, { order: 1 }), headStart: true };
    const entries = [rebalance('1', 49, { order: 1 }), rebalance('2', 50, { order: 2 }), early];
    expect(gives(network(100), ...entries)).toEqual({ 2: 'e' });
    expect(gives(network(100), ...entries.slice(0, 2), { ...early, headStart: false })).toEqual({});
  });

  test('of none where all of them would not be enough', () => {
    const other = running('f', 70);
    expect(gives(network(100), other, rebalance('r', 30), waiting('e'))).toEqual({});
    expect(gives(network(100, { b: { ingress: 30 } }), rebalance('r', 30), waiting('e'))).toEqual({});
  });

  test('both ends count', () => {
    const out = rebalance('out', 100, { destination: 'c' });
    const into = rebalance('in', 100, { source: 'd' });
    expect(gives(network(100), out, into, waiting('e'))).toEqual({ out: 'e', in: 'e' });
  });

  test('what gives way for the first is not promised to the second', () => {
    const entries = [
      rebalance('r', 100),
      waiting('e', { order: 1, useful: 60 }),
      waiting('f', { order: 2, useful: 60 }),
    ];
    expect(gives(network(100), ...entries)).toEqual({ r: 'e' });
  });

  test('what a rebalance may still use counts, also where its target has fallen', () => {
    expect(gives(network(100), rebalance('r', 10, {}), waiting('e', { useful: 90 }))).toEqual({});
    expect(gives(network(100), running('r', 10, { tier: 'rebalance' }, 50), waiting('e', { useful: 90 }))).toEqual({
      r: 'e',
    });
  });

  test('nothing gives way while there may be more than is entered', () => {
    const entries = [rebalance('r', 100), waiting('e')];
    expect(preempted({ ...network(100), entries, frozen: true }).size).toBe(0);
  });

  test('rebalances that wait give way to nobody', () => {
    expect(gives(network(100), waiting('r', { tier: 'rebalance' }), running('f', 100), waiting('e'))).toEqual({});
  });
});

test('a shared link counts once', () => {
  const links = { capacities: { rack: 100 * MIB }, ofHost: { a: ['rack'], b: ['rack'], c: ['rack'], d: ['rack'] } };
  const entries = [rebalance('r', 80, { source: 'c', destination: 'd' }), waiting('e')];
  expect(gives({ ...network(100), links }, ...entries)).toEqual({ r: 'e' });
});
