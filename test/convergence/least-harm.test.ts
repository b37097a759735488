/**
 * The controller of least harm in virtual time: what it costs, what it never does, and what it makes of nonsense. Held
 * against the oracle in deadlines.test.ts; what gives way is in least-harm-conflicts.test.ts.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Controller, ConvergenceSample, Decision } from '../../src/convergence/controller.ts';
import { type LeastHarmState, leastHarm } from '../../src/convergence/least-harm.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { type VirtualGuest, type VirtualRun, type VirtualSetting, virtualRun } from './virtual-run.ts';

const MIB = 2 ** 20;
const GRANT = 40 * MIB;
const controller = leastHarm(new Map());
const policyOf = (overrides: Partial<Policy> = {}): Policy => ({
  ...POLICY_PRESETS.maintenance,
  minCpuShare: 0.05,
  ...overrides,
});

function guest(rateMib: number, setMib: number, more: Partial<VirtualGuest> = {}): VirtualGuest {
  const touchedBytes = more.touchedBytes ?? (setMib + 16) * MIB;
  return {
    pattern: 'sweep',
    rateBytesPerSec: rateMib * MIB,
    workingSetBytes: setMib * MIB,
    touchedBytes,
    memoryBytes: 2 * touchedBytes,
    cpus: 1,
    cpuUse: 1,
    ...more,
  };
}

const REFERENCE = guest(164, 64, { touchedBytes: 80 * MIB, memoryBytes: 256 * MIB });
const run = (of: VirtualGuest, policy: Policy, more: Partial<VirtualSetting> = {}): VirtualRun =>
  virtualRun({ guest: of, controller, policy, grant: GRANT, ...more });
const AGGRESSIONS = [0, 0.25, 0.5, 0.75, 1];

/** The share that a guest was held to in most of the looks that held it back: the last ones may make up for bad luck. */
function heldTo(ran: VirtualRun | undefined): number {
  const shares = (ran?.decisions ?? []).flatMap(({ share }) => (share !== null && share < 1 ? [share] : []));
  return shares.sort((one, other) => one - other)[Math.floor(shares.length / 2)] ?? Number.NaN;
}

describe('what it costs', () => {
  test('the reference guest at aggression 1: throttled late and hard', () => {
    const { ended, totalMs, harmCpuMs, decisions } = run(REFERENCE, policyOf({ aggression: 1 }));
    expect(ended).toBe('completed');
    expect(totalMs).toBeLessThanOrEqual(4_600);
    expect(harmCpuMs).toBeLessThanOrEqual(2_500);
    for (const { pass, remainingBytes, share } of decisions) {
      if (pass === 1 && remainingBytes > 16 * MIB) expect(share).toBe(1);
    }
  });

  test('one that writes fifteen times what is sent is slowed just before the pass that it is to be slowed in', () => {
    const { ended, decisions } = run(guest(600, 64, { touchedBytes: 96 * MIB }), policyOf({ aggression: 1 }));
    expect(ended).toBe('completed');
    const slowed = decisions.findIndex(({ share }) => share !== null && share < 1);
    const next = decisions[slowed + 1];
    expect([decisions[slowed]?.pass, next?.pass]).toEqual([1, 2]);
    // One burst, and what passes until the pass's end is noticed.
    expect((next?.atMs ?? Number.NaN) - (decisions[slowed]?.atMs ?? Number.NaN)).toBeLessThanOrEqual(150);
  });

  const HOT: readonly (readonly [string, VirtualGuest])[] = [
    ['reference', REFERENCE],
    ['twice the bandwidth', guest(85, 64)],
    ['very hot, small', guest(400, 32, { touchedBytes: 128 * MIB })],
    ['at random', guest(164, 64, { pattern: 'random' })],
  ];
  test.each(HOT)(
    'hot (%s), at every aggression: bounded harm in bounded time, deeper for more aggression',
    (_, hot) => {
      const runs = AGGRESSIONS.map((aggression) => run(hot, policyOf({ aggression })));
      for (const { ended, totalMs, harmCpuMs } of runs) {
        expect(ended).toBe('completed');
        expect(harmCpuMs).toBeLessThanOrEqual(5_000);
        expect(totalMs).toBeLessThanOrEqual(23_000);
      }
      const [gentle, hard] = [runs[0], runs.at(-1)];
      expect(heldTo(gentle)).toBeGreaterThan(heldTo(hard));
      expect(gentle?.totalMs).toBeGreaterThan(hard?.totalMs ?? 0);
    },
  );

  test.each(AGGRESSIONS)('a mild guest without a deadline in sight is never slowed at aggression %f', (aggression) => {
    const { ended, harmCpuMs, downtimeMs, minShare } = run(guest(16, 64), policyOf({ aggression }));
    expect({ ended, minShare }).toEqual({ ended: 'completed', minShare: 1 });
    expect(harmCpuMs).toBeCloseTo(downtimeMs, 0);
  });

  test('a mild guest is slowed where only that meets its deadline, and no more than needed', () => {
    const free = run(guest(24, 64), policyOf());
    const maxTimeMs = Math.round(free.totalMs * 0.75);
    const hurried = run(guest(24, 64), policyOf({ maxTimeMs }));
    expect(hurried.ended).toBe('completed');
    expect(hurried.totalMs).toBeLessThanOrEqual(maxTimeMs);
    expect(hurried.minShare).toBeGreaterThan(0.25);
  });

  test('two vCPUs cost twice as much: shares are of what they demand', () => {
    const one = run(REFERENCE, policyOf({ aggression: 1 }));
    const two = run({ ...REFERENCE, cpus: 2 }, policyOf({ aggression: 1 }));
    expect(two.ended).toBe('completed');
    expect(two.harmCpuMs / one.harmCpuMs).toBeCloseTo(2, 0);
  });

  test('a guest nobody could look at before is learned from its passes', () => {
    const { ended, totalMs, harmCpuMs } = run(REFERENCE, policyOf({ aggression: 1 }), { looksBefore: false });
    expect(ended).toBe('completed');
    expect(totalMs).toBeLessThan(8_000);
    expect(harmCpuMs).toBeLessThan(3_000);
  });
});

describe('a guest that changes', () => {
  test('turns hot late: still makes its deadline', () => {
    const hotLate = guest(5, 64, {
      touchedBytes: 400 * MIB,
      phases: [
        { durationMs: 12_000, rateBytesPerSec: 5 * MIB },
        { durationMs: 600_000, rateBytesPerSec: 300 * MIB },
      ],
    });
    const { ended, totalMs, notes } = run(hotLate, policyOf({ maxTimeMs: 20_000 }));
    expect(ended).toBe('completed');
    expect(totalMs).toBeLessThanOrEqual(20_000);
    expect(notes.join()).toMatch(/dirties/);
  });

  test('goes quiet while it is slowed: it has its CPU back within two ticks', () => {
    const large = guest(150, 600, { memoryBytes: 1_024 * MIB, touchedBytes: 800 * MIB });
    const policy = policyOf({ aggression: 1, minCpuShare: 0.3 });
    const grant = 80 * MIB;
    // Some seconds after it was slowed, in the midst of a pass.
    // Without looks before it a run begins at fleet time 0, as phases do.
    const more = { grant, looksBefore: false };
    const slowedAtMs = (seed: number): number =>
      run(large, policy, { seed, ...more }).decisions.find(({ share }) => share !== null && share < 1)?.atMs ??
      Number.NaN;
    const waits = [1, 2, 3, 4, 5].map((seed) => {
      const quietAtMs = Math.round(slowedAtMs(seed) + 2_500);
      const phases = [
        { durationMs: quietAtMs, rateBytesPerSec: 150 * MIB },
        { durationMs: 3_600_000, rateBytesPerSec: MIB / 4 },
      ];
      const { decisions } = run({ ...large, phases }, policy, { seed, ...more });
      const after = decisions.filter(({ atMs }) => atMs >= quietAtMs);
      expect(after[0]?.share).toBeLessThan(1);
      return (after.find(({ share }) => share === 1)?.atMs ?? Number.POSITIVE_INFINITY) - quietAtMs;
    });
    expect(
      waits.filter((ms) => ms <= 2_000),
      `waited ${waits.join(', ')} ms`,
    ).toHaveLength(waits.length);
  });
});

/** Records what it was asked, and what it answered. */
function spied(): { controller: Controller<unknown>; asked: Asked[] } {
  const asked: Asked[] = [];
  const decide = (before: unknown, sample: ConvergenceSample, policy: Policy): Decision<unknown> => {
    const state = before as LeastHarmState;
    asked.push({ state, sample, policy });
    return controller.decide(state, sample, policy);
  };
  return { asked, controller: { name: 'spied', start: controller.start, decide } };
}

interface Asked {
  readonly state: LeastHarmState;
  readonly sample: ConvergenceSample;
  readonly policy: Policy;
}

/** All that it was asked in one run; some of it, from its start to its end, where that is a lot. */
function askedIn(of: VirtualGuest, policy: Policy, most = 12): Asked[] {
  const spy = spied();
  virtualRun({ guest: of, controller: spy.controller, policy, grant: GRANT });
  const stride = Math.ceil(spy.asked.length / most);
  return spy.asked.filter((_, index) => index % stride === 0);
}

function shareOf({ action }: Decision<unknown>): number {
  return action.kind === 'run' ? action.share : 0;
}

const SETTINGS: readonly (readonly [string, VirtualGuest, Policy])[] = [
  ['hot, gentle', REFERENCE, policyOf({ aggression: 0 })],
  ['hot, hard', REFERENCE, policyOf({ aggression: 1 })],
  ['hot, in a hurry', REFERENCE, policyOf({ aggression: 0.5, maxTimeMs: 5_500 })],
  ['mild, in a hurry', guest(24, 64), policyOf({ maxTimeMs: 6_000 })],
  ['near equilibrium', guest(41, 64), policyOf({ aggression: 0.5 })],
  ['at random', guest(120, 96, { pattern: 'random' }), policyOf({ aggression: 0.3 })],
];

describe.each(SETTINGS)('at every look (%s)', (_, of, policy) => {
  const asked = askedIn(of, policy);

  test('a larger aggression never gives a larger share', () => {
    for (const { state, sample } of asked) {
      const shares = [0, 0.3, 0.7, 1].map((aggression) =>
        shareOf(controller.decide(state, sample, { ...policy, aggression })),
      );
      expect(shares).toEqual([...shares].sort((one, other) => other - one));
    }
  });

  test('the same is decided again, and nothing that was handed in is changed', () => {
    for (const { state, sample } of asked) {
      const before = structuredClone({ state, sample });
      expect(controller.decide(state, sample, policy)).toEqual(controller.decide(state, sample, policy));
      expect({ state, sample }).toEqual(before);
    }
  });

  test('the share is never below the floor, and the cap is the policy’s', () => {
    for (const each of asked) {
      const { action, relaxed } = controller.decide(each.state, each.sample, policy);
      expect(relaxed).toEqual([]);
      if (action.kind !== 'run') throw new Error('expected it to run');
      expect(action.share).toBeGreaterThanOrEqual(policy.minCpuShare);
      expect(action.maxBandwidthBytesPerSec).toBe(policy.maxBandwidthBytesPerSec);
      expect(action.maxStallMs).toBe(policy.maxStallMs);
    }
  });
});

describe('nonsense from the hypervisor', () => {
  const asked = askedIn(REFERENCE, policyOf({ aggression: 0.2 }));
  const nonsense = fc.oneof(
    fc.record({ transferredBytes: fc.constantFrom(0, 1, Number.NaN, -5, 1e300) }),
    fc.record({ remainingBytes: fc.constantFrom(Number.NaN, -1, 1e18, Number.POSITIVE_INFINITY) }),
    fc.record({ rateBytesPerSec: fc.constantFrom(Number.NaN, -1, Number.POSITIVE_INFINITY) }),
    fc.record({ totalBytes: fc.constantFrom(0, Number.NaN, 7 * MIB, 1e13) }),
    fc.record({ pass: fc.constantFrom(Number.NaN, -3, 0.2) }),
    fc.record({ atMs: fc.constantFrom(0, Number.NaN, -1) }),
  );

  test('never throttles harder, is told once, and the next sample goes on as if nothing had been', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: asked.length - 1 }),
        fc.array(nonsense, { minLength: 1, maxLength: 4 }),
        (index, junk) => {
          const at = asked[index];
          if (at === undefined) throw new Error('no such look');
          let { state } = at;
          const held = state.action?.share ?? 1;
          const notes: string[] = [];
          for (const wrong of [...junk, ...junk]) {
            const decision = controller.decide(state, { ...at.sample, ...wrong }, at.policy);
            expect(shareOf(decision)).toBe(held);
            notes.push(...decision.notes);
            state = decision.next;
          }
          expect(notes.length).toBeGreaterThan(0);
          expect(new Set(notes).size).toBe(notes.length);
          const sane = controller.decide(state, at.sample, at.policy);
          expect(sane.action).toEqual(controller.decide(at.state, at.sample, at.policy).action);
        },
      ),
      { numRuns: 40 },
    );
  });

  test('while it lasts the clock goes on: nothing is decided from old figures, but the max time is kept', () => {
    const policy = policyOf({ maxTimeMs: 6_000 });
    const at = askedIn(guest(24, 64), policy)[1];
    if (at === undefined) throw new Error('no such look');
    let { state } = at;
    const held = state.action?.share;
    expect(held).toBe(1);
    for (let look = 1; look <= 8; look += 1) {
      const decision = controller.decide(
        state,
        { ...at.sample, atMs: at.sample.startedAtMs + 2_500 + 100 * look, remainingBytes: Number.NaN },
        policy,
      );
      expect(shareOf(decision)).toBe(held);
      state = decision.next;
    }
    const over = { ...at.sample, atMs: at.sample.startedAtMs + policy.maxTimeMs + 60_000, remainingBytes: Number.NaN };
    expect(controller.decide(state, over, policy).action.kind).toBe('abort');
    // A single one may lie about the time as well.
    expect(controller.decide(at.state, over, policy).action.kind).toBe('run');
  });

  test('another migration’s counters are not believed', () => {
    const at = asked[4];
    if (at === undefined) throw new Error('no such look');
    const foreign = {
      ...at.sample,
      transferredBytes: at.sample.transferredBytes + 64 * 2 ** 30,
      pass: at.sample.pass + 7,
    };
    const { notes, action } = controller.decide(at.state, foreign, at.policy);
    expect(notes.join()).toContain('another migration');
    expect(action).toEqual(at.state.action);
  });

  test('without a byte sent it decides with the rate of before, and says so once', () => {
    const at = asked[3];
    if (at === undefined) throw new Error('no such look');
    const silent = { ...at.sample, rateBytesPerSec: 0 };
    const first = controller.decide(at.state, silent, at.policy);
    expect(first.notes.join()).toContain('nothing is being sent');
    expect(shareOf(first)).toBe(shareOf(controller.decide(at.state, at.sample, at.policy)));
    const again = controller.decide(first.next, { ...silent, atMs: silent.atMs + 100 }, at.policy);
    expect(again.notes).toEqual([]);
  });
});
