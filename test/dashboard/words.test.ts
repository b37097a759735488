import { describe, expect, it } from 'vitest';
import { freshKey, NO_DRAFT, policyFields } from '../../src/dashboard/lib/draft.ts';
import { POLICY_NAMES, policyChoices } from '../../src/dashboard/lib/policies.ts';
import { vmRows } from '../../src/dashboard/lib/vm-rows.ts';
import { MOVE_WORDS, momentText, OPERATION_WORDS, printable, sinceText } from '../../src/dashboard/lib/words.ts';
import { problemOf } from '../../src/dashboard/net/problem.ts';
import { newTask } from '../../src/domain/operation.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';
import { moveStates, operationStates } from '../../src/domain/states.ts';

describe('what the pages say', () => {
  it('policies are those of the server, in a few words; until it answers, the presets', () => {
    expect(policyChoices(null).map(({ name }) => name)).toEqual(['maintenance', 'rebalance', 'emergency']);
    const requirements = POLICY_PRESETS.maintenance;
    const mine = {
      name: 'mine',
      what: `Sends by night\u202e ${'and waits '.repeat(20)}`,
      requirements: { ...requirements, aggression: 0.7 },
    };
    const items = [{ name: 'maintenance', what: 'A paragraph.', requirements }, mine];
    expect(policyChoices({ items })).toEqual([
      { name: 'maintenance', what: 'the host must be emptied', aggression: 0.5 },
      { name: 'mine', what: expect.stringMatching(/^Sends by night[^\u202e]*…$/), aggression: 0.7 },
    ]);
  });

  it('every state has a word, and the policies are those that there are', () => {
    expect(Object.keys(OPERATION_WORDS).toSorted()).toEqual([...operationStates].toSorted());
    expect(Object.keys(MOVE_WORDS).toSorted()).toEqual([...moveStates].toSorted());
    const known = Object.fromEntries(Object.values(POLICY_PRESETS).map(({ name, aggression }) => [name, aggression]));
    expect(
      Object.fromEntries(Object.entries(POLICY_NAMES).map(([name, { aggression }]) => [name, aggression])),
    ).toEqual(known);
  });

  it('moments: of a clock, of a simulation, since a beginning; names that would hide something', () => {
    expect(momentText(1_790_000_000_000)).toMatch(/^2026-09-\d\d \d\d:\d\d:20$/);
    expect(momentText(498_000)).toBe('8m18s into the simulation');
    expect([sinceText(72_000), sinceText(-500)]).toEqual(['+1m12s', '-500ms']);
    expect(printable('a\u202eb\n')).toBe('a\\u202eb\\x0a');
  });

  it('a form says only what somebody said; what cannot be read goes to the server as it is', () => {
    expect(policyFields(NO_DRAFT)).toEqual({});
    expect(policyFields({ ...NO_DRAFT, aggression: 0, minCpu: '30%', maxStall: ' 100ms ' })).toEqual({
      aggression: 0,
      minCpu: 0.3,
      maxStall: '100ms',
    });
    expect(policyFields({ ...NO_DRAFT, minCpu: 'much' })).toEqual({ minCpu: 'much' });
    expect(freshKey((bytes) => bytes.fill(10))).toBe(`dashboard-${'0a'.repeat(16)}`);
  });

  it('problems: the document with its faults, and what is no document', () => {
    const body = {
      detail: 'the request has 1 problem',
      code: 'badInput',
      problems: [{ path: 'egress', value: '"fast"', message: 'expected a rate', remedy: '' }],
    };
    expect(problemOf(400, JSON.stringify(body))).toMatchObject({
      status: 400,
      code: 'badInput',
      message: 'the request has 1 problem',
      faults: [{ path: 'egress' }],
    });
    expect(problemOf(418, '<html>').message).toBe('the server answered 418');
    expect(problemOf(500, 'null').message).toBe('the server answered 500');
  });
});

describe('the VMs of an operation', () => {
  const failure = {
    id: 'a-1',
    kind: 'migration',
    vm: 'web-1',
    destination: 'b',
    attempt: 1,
    state: 'failed',
    reason: { message: 'link broke' },
    progress: null,
    endedAtMs: 5,
  } as const;

  it('one that failed and waits: what failed, and when it is tried again', () => {
    const task = { ...newTask('web-1', 'a'), moveIds: ['a-1'], retryAtMs: 30_000 };
    expect(vmRows([task], [failure], 10_000)).toMatchObject([
      { state: 'queued', destination: null, lastFailure: 'link broke', retryInMs: 20_000 },
    ]);
    expect(vmRows([task], [failure], 30_000)[0]?.retryInMs).toBeNull();
  });

  it('its next attempt is what it is; the failure before it stays in sight', () => {
    const task = { ...newTask('web-1', 'a'), needsMove: false, moveIds: ['a-1', 'a-2'] };
    const next = {
      ...failure,
      id: 'a-2',
      attempt: 2,
      destination: 'c',
      state: 'precopy',
      reason: null,
      endedAtMs: null,
    } as const;
    expect(vmRows([task], [next, failure], 0)).toMatchObject([
      { state: 'precopy', destination: 'c', attempts: 2, lastFailure: 'link broke', retryInMs: null },
    ]);
  });

  it('one that has ended as failed has its failure as its reason, not twice', () => {
    const task = { ...newTask('web-1', 'a'), state: 'failed' as const, needsMove: false, moveIds: ['a-1'] };
    expect(vmRows([task], [failure], 0)).toMatchObject([
      { state: 'failed', why: 'link broke', lastFailure: null, fraction: 0 },
    ]);
  });
});
