/** The RFC's controller: the formula to the letter, its checks, its limits, and what it does with nonsense. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Briefing, ConvergenceSample, Decision } from '../../src/convergence/controller.ts';
import { controllerFor } from '../../src/convergence/controllers.ts';
import { type Rfc2011State, rfc2011, WINDOW_MS } from '../../src/convergence/rfc2011.ts';
import { controllerNames, POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';

const MiB = 2 ** 20;
const policyOf = (overrides: Partial<Policy> = {}): Policy => ({
  ...POLICY_PRESETS.maintenance,
  aggression: 0,
  minCpuShare: 0,
  ...overrides,
});

/** A second after the start, in the second pass, sending 40 MiB/s and dirtying 100 MiB/s unthrottled. */
const base: ConvergenceSample = {
  atMs: 1_000,
  startedAtMs: 0,
  pass: 2,
  remainingBytes: 64 * MiB,
  transferredBytes: 40 * MiB,
  totalBytes: 256 * MiB,
  rateBytesPerSec: 40 * MiB,
  dirtyRateBytesPerSec: 100 * MiB,
  grantBytesPerSec: 40 * MiB,
  share: 1,
  gotShare: 1,
  demandCores: 1,
  harmCpuMs: 0,
  windows: [],
};

const BRIEFING: Briefing = {
  guest: { memoryBytes: 256 * MiB, touchedBytes: 256 * MiB, demandCores: 1 },
  evidence: [],
  nowMs: 0,
};

/** Feeds samples one after another, a tick apart unless they say when. */
function run(policy: Policy, samples: readonly Partial<ConvergenceSample>[], tickMs = 500): Decision<Rfc2011State>[] {
  const decisions: Decision<Rfc2011State>[] = [];
  let state = rfc2011.start(policy, BRIEFING);
  for (const [index, sample] of samples.entries()) {
    const decision = rfc2011.decide(state, { ...base, atMs: (index + 1) * tickMs, ...sample }, policy);
    decisions.push(decision);
    state = decision.next;
  }
  return decisions;
}

function shareOf(decision: Decision<Rfc2011State> | undefined): number {
  if (decision?.action.kind !== 'run') throw new Error(`expected it to run: ${decision?.reason}`);
  return decision.action.share;
}

const lastShare = (policy: Policy, samples: readonly Partial<ConvergenceSample>[], tickMs = 500) =>
  shareOf(run(policy, samples, tickMs).at(-1));
const repeat = (count: number, sample: Partial<ConvergenceSample>) => Array.from({ length: count }, () => sample);

describe('the formula', () => {
  test('at aggression 0 the guest gets the share at which the transfer keeps up', () => {
    expect(lastShare(policyOf(), [{ pass: 1, dirtyRateBytesPerSec: 0 }, {}])).toBeCloseTo(0.4);
  });

  test('aggression takes its part of that', () => {
    expect(lastShare(policyOf({ aggression: 0.5 }), [{ pass: 1 }, {}])).toBeCloseTo(0.2);
    expect(lastShare(policyOf({ aggression: 1, minCpuShare: 0.05 }), [{ pass: 1 }, {}])).toBe(0.05);
  });

  test('the floor holds', () => {
    expect(lastShare(policyOf({ minCpuShare: 0.6 }), [{ pass: 1 }, {}])).toBe(0.6);
  });

  test('a guest that dirties less than is sent is left alone, also at some aggression', () => {
    expect(lastShare(policyOf({ aggression: 0.5 }), repeat(4, { dirtyRateBytesPerSec: 10 * MiB }))).toBe(1);
  });

  test('a throttled guest whose dirty rate fell with its CPU keeps its share: the target is the same again', () => {
    const throttled = { pass: 3, gotShare: 0.4, share: 0.4, dirtyRateBytesPerSec: 40 * MiB };
    const samples = [
      { pass: 1 },
      {},
      ...repeat(20, { ...throttled, pass: 3 }),
      ...repeat(20, { ...throttled, pass: 4 }),
    ];
    for (const decision of run(policyOf(), samples).slice(1)) expect(shareOf(decision)).toBeCloseTo(0.4);
  });

  test('a dirty rate of the last pass goes with the CPU of the last pass: throttling is no reason for more of it', () => {
    // Throttled to 0.2 in pass 2, which takes a while; the reported rate is still that of pass 1, unthrottled.
    const decisions = run(policyOf({ aggression: 0.5 }), [
      { pass: 1 },
      {},
      ...repeat(20, { gotShare: 0.2, share: 0.2 }),
    ]);
    for (const decision of decisions.slice(1)) expect(shareOf(decision)).toBeCloseTo(0.2);
  });

  test('the throttle eases when the guest calms down, once the window has forgotten', () => {
    const calm = { pass: 3, dirtyRateBytesPerSec: 10 * MiB, gotShare: 0.4 };
    const ticks = Math.ceil(WINDOW_MS / 500);
    const decisions = run(policyOf(), [{ pass: 1 }, ...repeat(4, {}), ...repeat(ticks, calm)]);
    expect(shareOf(decisions[4])).toBeCloseTo(0.4);
    expect(shareOf(decisions.at(-1))).toBe(1);
    // A running average, not the last value: one tick later it has moved, but not all the way.
    expect(shareOf(decisions[5])).toBeGreaterThan(0.4);
    expect(shareOf(decisions[5])).toBeLessThan(1);
  });

  test('one that takes over in the middle of a migration uses the CPU of now until a pass has ended', () => {
    expect(lastShare(policyOf(), [{ pass: 7, gotShare: 0.5, dirtyRateBytesPerSec: 50 * MiB }])).toBeCloseTo(0.4);
  });

  test('the downtime limit is the longest stall', () => {
    expect(run(policyOf({ maxStallMs: 120 }), [{}])[0]?.action).toMatchObject({
      maxStallMs: 120,
      lookAgainMs: null,
      maxBandwidthBytesPerSec: null,
    });
  });
});

describe('before there is a dirty rate', () => {
  const firstPass = repeat(10, { pass: 1, dirtyRateBytesPerSec: 0 });

  test('nothing says that the guest must be slowed, so it is not', () => {
    for (const aggression of [0, 0.5, 0.9]) {
      for (const decision of run(policyOf({ aggression }), firstPass)) expect(shareOf(decision)).toBe(1);
    }
    expect(run(policyOf(), firstPass).at(-1)?.reason).toMatch(/^share 100%: no dirty rate yet; /);
  });

  test('aggression 1 stalls it to the floor from the first byte on', () => {
    expect(lastShare(policyOf({ aggression: 1, minCpuShare: 0.1 }), firstPass)).toBe(0.1);
  });
});

describe('the trap it is kept for', () => {
  test('a saturated dirty rate reads like the transfer rate: at aggression 0 it never throttles and never converges', () => {
    // Facts: W = 64 MiB, r = 164 MiB/s, 40 MiB/s: 38..40 MiB/s are reported from the second pass on, at any share.
    const samples = Array.from({ length: 240 }, (_, index) => ({
      pass: 1 + Math.floor(index / 3),
      dirtyRateBytesPerSec: (index < 3 ? 0 : 38 + (index % 3)) * MiB,
      rateBytesPerSec: 40 * MiB,
      transferredBytes: index * 20 * MiB,
    }));
    const decisions = run(policyOf({ maxTimeMs: 120_000 }), samples);
    for (const decision of decisions) expect(shareOf(decision)).toBe(1);
    const [late] = run(policyOf({ maxTimeMs: 120_000 }), [{ atMs: 120_001 }]);
    expect(late?.action).toMatchObject({ kind: 'abort', reason: { code: 'maxTimeExceeded' } });
  });

  test('and at some aggression it goes down to the floor, pass by pass, whatever would have been enough', () => {
    let got = 1;
    let state = rfc2011.start(policyOf(), BRIEFING);
    const policy = policyOf({ aggression: 0.5, minCpuShare: 0.05 });
    const shares: number[] = [];
    for (let tick = 1; tick <= 120; tick += 1) {
      const sample = {
        ...base,
        atMs: tick * 500,
        pass: 1 + Math.floor(tick / 4),
        dirtyRateBytesPerSec: 40 * MiB,
        gotShare: got,
        share: got,
      };
      const decision = rfc2011.decide(state, sample, policy);
      state = decision.next;
      got = shareOf(decision);
      shares.push(got);
    }
    expect(Math.min(...shares.slice(0, 20))).toBeGreaterThan(0.05);
    expect(shares.at(-1)).toBe(0.05);
  });
});

describe('the two checks', () => {
  const sending = (dirtyRate: number) => (_: unknown, index: number) => ({
    transferredBytes: index * 20 * MiB,
    dirtyRateBytesPerSec: dirtyRate * MiB,
  });
  const reasonAfter = (samples: readonly Partial<ConvergenceSample>[]) =>
    run(policyOf({ minCpuShare: 1 }), samples).at(-1)?.reason;

  test('say that more is migrated than dirtied, or that it is not', () => {
    expect(reasonAfter(Array.from({ length: 9 }, sending(20)))).toMatch(
      /recently yes \(160MiB against 80MiB\), in total yes \(160MiB against 80MiB\)/,
    );
    expect(reasonAfter(Array.from({ length: 9 }, sending(80)))).toMatch(/recently no .*in total no/);
  });

  test('differ when a guest that was calm gets busy', () => {
    const samples = Array.from({ length: 60 }, (_, index) => sending(index < 40 ? 1 : 80)(_, index));
    expect(reasonAfter(samples)).toMatch(/recently no .*in total yes/);
  });

  test('are not known at the first look, and count from there on', () => {
    expect(reasonAfter([{}])).toMatch(/recently not known yet, in total not known yet/);
    expect(reasonAfter([{ transferredBytes: 5_000 * MiB }, { transferredBytes: 5_010 * MiB }])).toMatch(
      /in total no \(10MiB against 50MiB\)/,
    );
  });

  test('ticks longer than the window still have a recent past', () => {
    const decisions = run(policyOf({ minCpuShare: 1 }), Array.from({ length: 4 }, sending(1)), WINDOW_MS * 2);
    expect(decisions.at(-1)?.reason).toMatch(/recently yes/);
  });
});

describe('the max time', () => {
  const late = (policy: Policy) => run(policy, [{ pass: 1 }, {}, { atMs: 700_000 }]).at(-1);

  test('aborts behind it, not at it', () => {
    expect(run(policyOf(), [{ atMs: 600_000 }])[0]?.action.kind).toBe('run');
    expect(run(policyOf(), [{ atMs: 600_001 }])[0]?.action.kind).toBe('abort');
  });

  test('does what the policy says for it', () => {
    const late = { atMs: policyOf().maxTimeMs + 1_000 };
    const [there] = run(policyOf({ atDeadline: 'postCopy' }), [late]);
    expect(there?.action).toMatchObject({ kind: 'postCopy', reason: { code: 'maxTimeExceeded' } });
    const [forced] = run(policyOf({ atDeadline: 'forceComplete', minCpuShare: 0.2 }), [late]);
    expect(forced?.action).toMatchObject({ kind: 'run', share: 0 });
    expect(forced?.relaxed.map(({ requirement }) => requirement)).toEqual(['maxTime', 'minCpu']);
  });

  test('counts from the start of the migration, not from the first look', () => {
    expect(run(policyOf(), [{ atMs: 650_000, startedAtMs: 600_000 }])[0]?.action.kind).toBe('run');
  });

  test('says how much remained, what was tried and what to change', () => {
    const decision = late(policyOf({ aggression: 0.25, minCpuShare: 0.1 }));
    expect(decision?.action).toEqual({ kind: 'abort', reason: { code: 'maxTimeExceeded', message: decision?.reason } });
    expect(decision?.reason).toBe(
      'not converged after 11m40s (max time 10m): 64MiB remained in pass 2 after 40MiB were sent; ' +
        'it dirties 100MiB/s at share 100% and 40MiB/s are sent; ' +
        'tried: aggression 0.25, share down to 30%, stall limit 300ms. ' +
        'To change that: raise the aggression, or allow more than 10m (max time), or allow a longer stall, or give it more than 40MiB/s',
    );
  });

  test('does not advise more aggression where the floor was what held', () => {
    const reason = late(policyOf({ aggression: 0.9, minCpuShare: 0.5 }))?.reason;
    expect(reason).toMatch(/share down to 50% \(the floor\)/);
    expect(reason).toMatch(/To change that: lower the min CPU, or/);
  });
});

describe('whatever comes in', () => {
  const garbage = fc.constantFrom(Number.NaN, 0, -1, Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY, 1e300);
  const amount = fc.oneof(
    { weight: 4, arbitrary: fc.double({ min: 1, max: 1e12, noNaN: true }) },
    { weight: 1, arbitrary: garbage },
  );
  const part = fc.oneof(
    { weight: 4, arbitrary: fc.double({ min: 0, max: 1, noNaN: true }) },
    { weight: 1, arbitrary: garbage },
  );
  const samples = fc.array(
    fc.record({
      atMs: fc.oneof(
        { weight: 4, arbitrary: fc.double({ min: 0, max: 599_999, noNaN: true }) },
        { weight: 1, arbitrary: fc.constantFrom(Number.NaN, -1) },
      ),
      pass: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(Number.NaN, -1, 0)),
      remainingBytes: amount,
      transferredBytes: amount,
      rateBytesPerSec: amount,
      dirtyRateBytesPerSec: amount,
      grantBytesPerSec: amount,
      share: part,
      gotShare: part,
    }),
    { maxLength: 40 },
  );
  const policies = fc
    .record({
      aggression: fc.double({ min: 0, max: 1, noNaN: true }),
      minCpuShare: fc.double({ min: 0, max: 1, noNaN: true }),
    })
    .map(policyOf);

  test('the share is within the floor and one', () => {
    fc.assert(
      fc.property(policies, samples, (policy, inputs) => {
        for (const decision of run(policy, inputs)) {
          expect(shareOf(decision)).toBeGreaterThanOrEqual(policy.minCpuShare);
          expect(shareOf(decision)).toBeLessThanOrEqual(1);
          expect(decision.reason).not.toMatch(/NaN|undefined|Infinity/);
        }
      }),
    );
  });

  test('a sample that says nothing never throttles harder', () => {
    const nonsense = fc
      .record({
        rateBytesPerSec: garbage,
        dirtyRateBytesPerSec: garbage,
        gotShare: garbage,
        transferredBytes: garbage,
        remainingBytes: garbage,
      })
      .chain((all) =>
        fc.subarray(['rateBytesPerSec', 'dirtyRateBytesPerSec'] as const, { minLength: 1 }).map((bad) => {
          const good = { rateBytesPerSec: 40 * MiB, dirtyRateBytesPerSec: 400 * MiB };
          return { ...all, ...good, ...Object.fromEntries(bad.map((key) => [key, all[key]])) };
        }),
      );
    fc.assert(
      fc.property(policies, samples, nonsense, (policy, inputs, bad) => {
        const before = run(policy, inputs).at(-1);
        if (before === undefined) return;
        const after = rfc2011.decide(before.next, { ...base, ...bad, atMs: 599_999.5 }, policy);
        expect(shareOf(after)).toBeGreaterThanOrEqual(shareOf(before));
      }),
    );
  });

  test('nor does forgetting: what the window drops while samples say nothing is no news', () => {
    const calm = { pass: 1, dirtyRateBytesPerSec: 20 * MiB };
    const decisions = run(policyOf(), [
      { ...calm, atMs: 100 },
      { ...calm, pass: 2, atMs: 200 },
      { atMs: WINDOW_MS },
      { atMs: WINDOW_MS + 300, rateBytesPerSec: Number.NaN },
      { atMs: WINDOW_MS + 400 },
    ]);
    const [, , mixed, kept, fresh] = decisions.map(shareOf);
    expect(kept).toBe(mixed);
    expect(fresh).toBeLessThan(mixed ?? 0);
    expect(decisions[3]?.reason).toMatch(/kept, the last sample says nothing/);
  });

  test('a tick told twice, or one from before, counts once', () => {
    const once = [{ pass: 1, atMs: 500 }, { atMs: 1_000 }];
    const again = [
      ...once,
      { atMs: 1_000, dirtyRateBytesPerSec: 900 * MiB },
      { atMs: 700, dirtyRateBytesPerSec: 900 * MiB },
    ];
    expect(run(policyOf(), again).at(-1)?.next).toEqual(run(policyOf(), once).at(-1)?.next);
  });

  test('the same inputs give the same decision, and nothing that was handed in is changed', () => {
    fc.assert(
      fc.property(policies, samples, (policy, inputs) => {
        const state = Object.freeze(run(policy, inputs).at(-1)?.next ?? rfc2011.start(policy, BRIEFING));
        Object.freeze(state.recent);
        Object.freeze(state.totals);
        const sample = Object.freeze({ ...base, atMs: 599_999.5 });
        expect(rfc2011.decide(state, sample, Object.freeze(policy))).toEqual(rfc2011.decide(state, sample, policy));
      }),
    );
  });

  test('its state stays small however fast the ticks', () => {
    const decisions = run(policyOf(), repeat(2_000, {}), 1);
    expect(decisions.at(-1)?.next.recent.length).toBeLessThanOrEqual(64);
    expect(decisions.at(-1)?.next.totals.length).toBeLessThanOrEqual(64);
  });
});

describe('the registry', () => {
  test('has a controller for every name that a policy may give', () => {
    for (const name of controllerNames) expect(controllerFor(name).name).toBe(name);
  });

  test('refuses a name from a newer record, saying which there are', () => {
    const newer: unknown = JSON.parse('"predictive"');
    // A record is parsed before it comes here; this is the net below that.
    expect(() => Reflect.apply(controllerFor, undefined, [newer])).toThrow(
      /no controller is named "predictive"; use one of leastHarm, rfc2011/,
    );
  });
});
