/**
 * Around the choice of the controller of least harm, in virtual time: how often it looks and fits, what it makes of a guest
 * that a predecessor has slowed, and whether what it says would help does help.
 */
import { describe, expect, test } from 'vitest';
import type { ConvergenceSample } from '../../src/convergence/controller.ts';
import { type LeastHarmState, leastHarm } from '../../src/convergence/least-harm.ts';
import { chooseLeastHarm } from '../../src/convergence/policies/least-harm-choice.ts';
import type { PolicyView } from '../../src/convergence/policy-behaviour.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { type VirtualGuest, virtualRun } from './virtual-run.ts';

const MIB = 2 ** 20;
const GRANT = 40 * MIB;
const controller = leastHarm(new Map());
const REFERENCE: VirtualGuest = {
  pattern: 'sweep',
  rateBytesPerSec: 164 * MIB,
  workingSetBytes: 64 * MIB,
  touchedBytes: 80 * MIB,
  memoryBytes: 256 * MIB,
  cpus: 1,
  cpuUse: 1,
};
const policyOf = (more: Partial<Policy> = {}): Policy => ({
  ...POLICY_PRESETS.maintenance,
  minCpuShare: 0.05,
  ...more,
});

interface Look {
  readonly before: LeastHarmState;
  readonly after: LeastHarmState;
  readonly sample: ConvergenceSample;
}

function looksOf(guest: VirtualGuest, policy: Policy, grant = GRANT): Look[] {
  const looks: Look[] = [];
  virtualRun({
    guest,
    policy,
    grant,
    controller: {
      name: 'spied',
      start: controller.start,
      decide: (before: LeastHarmState, sample, asked) => {
        const decision = controller.decide(before, sample, asked);
        looks.push({ before, after: decision.next, sample });
        return decision;
      },
    },
  });
  return looks;
}

test('the guest is fitted anew with each pass, and else no more often than every half second', () => {
  const looks = looksOf(REFERENCE, policyOf({ aggression: 0 }));
  const waited = looks.filter(({ before, after, sample }) => {
    const { fitted, conflict } = before;
    if (fitted === null || conflict.looks > 0 || before.tracked.last?.pass !== sample.pass) {
      expect(fitted !== null && before.tracked.last?.pass === sample.pass ? fitted : null).not.toBe(after.fitted);
      return false;
    }
    const fits = after.fitted !== fitted;
    if (fits) expect(sample.atMs - fitted.atMs).toBeGreaterThanOrEqual(500);
    return !fits;
  });
  expect(waited.length).toBeGreaterThan(5);
  const [first, last] = [looks[0]?.sample, looks.at(-1)?.sample];
  expect(last?.pass).toBeGreaterThan(first?.pass ?? 0);
});

test('a conflict that only waits is not looked at ten times a second for ever', () => {
  const changing: VirtualGuest = {
    ...REFERENCE,
    rateBytesPerSec: 20 * MIB,
    workingSetBytes: 100 * MIB,
    touchedBytes: 300 * MIB,
    memoryBytes: 600 * MIB,
    phases: [
      { durationMs: 6_000, rateBytesPerSec: 20 * MIB },
      { durationMs: 600_000, rateBytesPerSec: 400 * MIB },
    ],
  };
  const policy = policyOf({
    minCpuShare: 0.2,
    maxTimeMs: 30_000,
    precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
  });
  const waiting = looksOf(changing, policy).filter(
    ({ after, sample }) =>
      after.conflict.looks > 20 &&
      after.action?.share === 1 &&
      sample.startedAtMs + policy.maxTimeMs - sample.atMs > 1_000,
  );
  expect(waiting.length).toBeGreaterThan(3);
  for (const { after } of waiting) expect(after.action?.lookAgainMs).toBe(1_000);
});

test.each([0, 0.5, 1])(
  'a guest that a predecessor has slowed is not let go and slowed again (aggression %f)',
  (aggression) => {
    const policy = policyOf({ aggression });
    const slowed = looksOf(REFERENCE, policy).filter(
      ({ sample, after }) => sample.share < 1 && (after.action?.share ?? 1) < 1,
    );
    expect(slowed.length).toBeGreaterThan(1);
    for (const { before, after, sample } of slowed) {
      const briefing = { guest: before.tracked.guest, evidence: before.evidence, nowMs: sample.atMs };
      const { action } = controller.decide(controller.start(policy, briefing), sample, policy);
      if (action.kind !== 'run') throw new Error('expected it to run');
      expect(action.share).toBeLessThan(1);
      // What it was held to is among what can be chosen, and kept unless another share is worth it.
      expect(Math.abs(Math.log(action.share / (after.action?.share ?? 1)))).toBeLessThan(Math.log(2.5));
    }
  },
);

test('at its first look a policy is told the share that is in force, and may keep it', () => {
  const policy = policyOf({ aggression: 0 });
  const slowed = looksOf(REFERENCE, policy).find(({ sample }) => sample.share < 1);
  if (slowed === undefined) throw new Error('never slowed');
  const { before, sample } = slowed;
  const told: PolicyView[] = [];
  const choose = (view: PolicyView) => {
    told.push(view);
    return chooseLeastHarm(view);
  };
  const spying = leastHarm(new Map([['mine', { name: 'mine', what: 'for a test', choose }]]));
  const mine = { ...policy, name: 'mine' };
  const briefing = { guest: before.tracked.guest, evidence: before.evidence, nowMs: sample.atMs };
  spying.decide(spying.start(mine, briefing), { ...sample, share: 0.137 }, mine);
  expect(told.map(({ share }) => share)).toEqual([0.137]);
  expect(told[0]?.candidates.map(({ share }) => share)).toContain(0.137);
});

test('a first sample that cannot be leaves what is in force, not below the floor', () => {
  const policy = policyOf({ minCpuShare: 0.2 });
  const sample = looksOf(REFERENCE, policyOf())[0]?.sample;
  if (sample === undefined) throw new Error('no look');
  const heldAt = (share: number) => {
    const state = controller.start(policy, { guest: REFERENCE_FACTS, evidence: [], nowMs: sample.atMs });
    const { action } = controller.decide(state, { ...sample, share, remainingBytes: Number.NaN }, policy);
    return action.kind === 'run' ? action.share : null;
  };
  expect([0.4, 0.1, 1, 0, Number.NaN, -1, 7].map(heldAt)).toEqual([0.4, 0.2, 1, 1, 1, 1, 1]);
});

const REFERENCE_FACTS = { memoryBytes: 256 * MIB, touchedBytes: 80 * MIB, demandCores: 1 };

describe('what would help', () => {
  const MS = new Map([
    ['ms', 1],
    ['s', 1_000],
    ['m', 60_000],
  ]);
  const durationOf = (text: string): number =>
    [...text.matchAll(/([\d.]+)(ms|s|m)/g)].reduce(
      (sum, [, figure, unit]) => sum + Number(figure) * (MS.get(unit ?? '') ?? 0),
      0,
    );
  const said = (why: string, what: RegExp): string | undefined => what.exec(why)?.[1];
  const CPU = /min CPU below \d+% \((\d+)% would do\)/;
  const TIME = /max time above \S+ \((\S+) would do\)/;
  const STALL = /max stall above \S+ \((\S+) would do\)/;
  const RATE = /more than \S+ \((\d+)MiB\/s would do\)/;

  test('of a guest that writes twice what is sent at half its CPU: not time, and whatever is named does', () => {
    const policy: Policy = { ...POLICY_PRESETS.rebalance };
    const run = (more: Partial<Policy>, grant = GRANT) =>
      virtualRun({ guest: REFERENCE, controller, policy: { ...policy, ...more }, grant });
    const why = run({}).why ?? '';
    expect(why).toContain('what would help');
    expect(said(why, TIME)).toBeUndefined();
    const [cpu, stall, rate] = [said(why, CPU), said(why, STALL), said(why, RATE)];
    expect(Number(rate)).toBeLessThan(100);
    expect(run({ minCpuShare: Number(cpu) / 100 }).ended).toBe('completed');
    expect(run({}, Number(rate) * MIB).ended).toBe('completed');
    if (stall !== undefined) expect(run({ maxStallMs: durationOf(stall) }).ended).toBe('completed');
  });

  test('of what no guest could do in the time: time, and bandwidth, and no other', () => {
    const quiet: VirtualGuest = { ...REFERENCE, rateBytesPerSec: MIB, workingSetBytes: 8 * MIB };
    const policy = policyOf({ maxTimeMs: 1_000 });
    const run = (more: Partial<Policy>, grant = GRANT) =>
      virtualRun({ guest: quiet, controller, policy: { ...policy, ...more }, grant });
    const why = run({}).why ?? '';
    expect(said(why, CPU)).toBeUndefined();
    const maxTimeMs = durationOf(said(why, TIME) ?? '');
    expect(run({ maxTimeMs }).ended).toBe('completed');
    expect(maxTimeMs).toBeLessThan(4_000);
    expect(run({}, Number(said(why, RATE)) * MIB).ended).toBe('completed');
  });
});
