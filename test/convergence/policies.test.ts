/** The policies' choices among made-up candidates, and the curves that docs/policies.md says they give. */
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chosen as asked } from '../../src/convergence/choosing.ts';
import { leastHarm } from '../../src/convergence/least-harm.ts';
import { behaviourOf, PRESET_BEHAVIOURS } from '../../src/convergence/policies/behaviours.ts';
import type { Candidate, PolicyBehaviour, PolicyView } from '../../src/convergence/policy-behaviour.ts';
import { POLICY_PRESETS, type Policy, type PolicyName, policyNames } from '../../src/domain/policy.ts';
import { candidateOf, PREDICTION, viewOf } from './made-up.ts';
import { type VirtualGuest, type VirtualRun, virtualRun } from './virtual-run.ts';

const MIB = 2 ** 20;

const FREE_ENDLESS = candidateOf(1, 9_000, { endsInTime: 0, expectedTotalMs: 600_000 });

function chosen(name: PolicyName, view: PolicyView, aggression?: number): Candidate {
  const policy: Policy = { ...POLICY_PRESETS[name], aggression: aggression ?? POLICY_PRESETS[name].aggression };
  return behaviourOf(name, new Map()).choose({ ...view, policy }).candidate;
}

describe('least harm within an allowance', () => {
  const hot = [
    FREE_ENDLESS,
    candidateOf(0.4, 6_000),
    candidateOf(0.2, 2_600),
    candidateOf(0.1, 2_200),
    candidateOf(0.05, 2_000),
  ];

  test.each([
    [1, 0.05],
    [0.7, 0.1],
    [0, 0.2],
  ])('at aggression %f the share is %f: gentler would cost more than it allows', (aggression, share) => {
    expect(chosen('maintenance', viewOf(hot), aggression).share).toBe(share);
  });

  test('does not jump over a share that costs too much: what lies behind it is nothing to rely on', () => {
    const odd = [FREE_ENDLESS, candidateOf(0.2, 2_100), candidateOf(0.1, 8_000), candidateOf(0.05, 2_000)];
    expect(chosen('maintenance', viewOf(odd), 0).share).toBe(0.05);
  });

  test('what has been spent counts: bad luck makes the rest harder', () => {
    expect(chosen('maintenance', viewOf(hot, { spentHarmCpuMs: 400 }), 0).share).toBe(0.1);
  });

  test('a guest that ends by itself in time runs free, whatever the aggression', () => {
    const free = candidateOf(1, 300, { expectedTotalMs: 40_000 });
    expect(chosen('maintenance', viewOf([free, candidateOf(0.5, 250)]), 1)).toBe(free);
  });

  test('a share that would miss the deadline is not chosen, however cheap', () => {
    const late = candidateOf(0.8, 100, { endsInTime: 0.6 });
    expect(chosen('maintenance', viewOf([FREE_ENDLESS, late, candidateOf(0.5, 1_000)]), 0).share).toBe(0.5);
  });

  test('waits for the next pass where that saves harm, and not where it only takes longer', () => {
    const now = candidateOf(0.1, 3_000);
    const cheaper = candidateOf(0.1, 2_000, { begins: 'nextPass', expectedTotalMs: 6_000 });
    const slower = candidateOf(0.1, 2_990, { begins: 'nextPass', expectedTotalMs: 6_600 });
    expect(chosen('maintenance', viewOf([FREE_ENDLESS, now, cheaper]))).toBe(cheaper);
    expect(chosen('maintenance', viewOf([FREE_ENDLESS, now, slower]))).toBe(now);
  });

  test('keeps its share while that is within the allowance and little would be won', () => {
    const near = [FREE_ENDLESS, candidateOf(0.22, 2_340), candidateOf(0.2, 2_300), candidateOf(0.1, 2_000)];
    expect(chosen('maintenance', viewOf(near, { share: 0.2 }), 0.5).share).toBe(0.2);
    expect(chosen('maintenance', viewOf(near, { share: 0.1 }), 0.5).share).toBe(0.22);
  });

  test('where nothing ends in time it goes on as it is', () => {
    const hopeless = [1, 0.4, 0.2, 0.1].map((share) => candidateOf(share, 0, { endsInTime: 0 }));
    expect(chosen('maintenance', viewOf(hopeless, { share: 0.2 })).share).toBe(0.2);
    expect(chosen('maintenance', viewOf(hopeless)).share).toBe(1);
  });
});

describe('emergency', () => {
  test('takes the least time, and the gentlest of what makes no difference', () => {
    const candidates = [
      candidateOf(1, 100, { expectedTotalMs: 9_000 }),
      candidateOf(0.3, 2_000, { expectedTotalMs: 4_020 }),
      candidateOf(0.1, 3_000, { expectedTotalMs: 4_000 }),
      candidateOf(0.05, 2_000, { begins: 'nextPass', expectedTotalMs: 5_000 }),
    ];
    expect(chosen('emergency', viewOf(candidates)).share).toBe(0.3);
  });

  test('does not take its time because it has taken long', () => {
    const candidates = [
      candidateOf(1, 100, { expectedTotalMs: 9_000 }),
      candidateOf(0.3, 100, { expectedTotalMs: 350 }),
      candidateOf(0.1, 100, { expectedTotalMs: 300 }),
    ];
    for (const elapsedMs of [0, 2_000, 200_000]) {
      expect(chosen('emergency', viewOf(candidates, { elapsedMs }), 1).share).toBe(0.1);
      expect(chosen('emergency', viewOf(candidates, { elapsedMs }), 0).share).toBe(0.3);
    }
  });
});

const anyCandidates = fc
  .array(
    fc.record({
      share: fc.integer({ min: 5, max: 95 }),
      harm: fc.integer({ min: 100, max: 9_000 }),
      total: fc.integer({ min: 500, max: 90_000 }),
      likely: fc.constantFrom(0, 0.3, 0.88, 0.95, 1),
      begins: fc.constantFrom('now' as const, 'nextPass' as const),
    }),
    { minLength: 1, maxLength: 12 },
  )
  .map((made) => [
    FREE_ENDLESS,
    ...made
      .sort((one, other) => other.share - one.share)
      .map(({ share, harm, total, likely, begins }) =>
        candidateOf(share / 100, harm, { begins, expectedTotalMs: total, endsInTime: likely }),
      ),
  ]);

/** What the guest is held to until the next look. */
const heldTo = ({ share, begins }: Candidate) => (begins === 'now' ? share : 1);

describe.each(policyNames)('%s, among any candidates', (name) => {
  const view = fc.record({ candidates: anyCandidates, last: fc.nat(), spent: fc.integer({ min: 0, max: 3_000 }) });

  test('a larger aggression never gives a larger share, and only what is offered is chosen', () => {
    fc.assert(
      fc.property(
        view,
        fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100),
        fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100),
        (made, a, b) => {
          const share = made.candidates[made.last % made.candidates.length]?.share ?? 1;
          const asked = viewOf(made.candidates, { spentHarmCpuMs: made.spent, share });
          const gentle = chosen(name, asked, Math.min(a, b));
          const hard = chosen(name, asked, Math.max(a, b));
          expect(made.candidates).toContain(gentle);
          expect(heldTo(hard)).toBeLessThanOrEqual(heldTo(gentle));
        },
      ),
      { numRuns: 400 },
    );
  });
});

describe('while others wait', () => {
  /** One that writes about as fast as is sent: each pass is hardly shorter than the one before. */
  const near = [
    candidateOf(1, 0, { expectedTotalMs: 400_000 }),
    candidateOf(0.5, 8_000, { expectedTotalMs: 30_000, begins: 'nextPass' }),
    candidateOf(0.5, 7_000, { expectedTotalMs: 28_000 }),
    candidateOf(0.1, 6_900, { expectedTotalMs: 20_000 }),
  ];

  test('one that would keep them for minutes is slowed, as far as that is worth what it costs', () => {
    expect(chosen('maintenance', viewOf(near)).share).toBe(1);
    expect(chosen('maintenance', viewOf(near, { othersWait: true })).share).toBe(0.1);
    // For nothing: who is asked to be gentle is.
    expect(chosen('maintenance', viewOf(near, { othersWait: true }), 0).share).toBe(1);
    // Half a minute for 7 CPU-s.
    const short = [candidateOf(1, 0, { expectedTotalMs: 50_000 }), ...near.slice(1)];
    expect(chosen('maintenance', viewOf(short, { othersWait: true })).share).toBe(1);
  });

  test('what it would use counts: of a guest with many cores it costs more and is worth more', () => {
    const busy = near.map((each) => ({ ...each, expectedHarmCpuMs: each.expectedHarmCpuMs * 8 }));
    expect(chosen('maintenance', viewOf(busy, { othersWait: true })).share).toBe(1);
    expect(chosen('maintenance', viewOf(busy, { othersWait: true, demandCores: 8 })).share).toBe(0.1);
  });

  test('who is slowed gets its CPU back when it is not worth it any more, and is not slowed for little', () => {
    const free = (ms: number) => [
      candidateOf(1, 0, { expectedTotalMs: ms }),
      candidateOf(0.5, 900, { expectedTotalMs: 2_000 }),
    ];
    // Worth: 0.05 of the time saved. 0.9 and the slack are less than it from 21 s on, and than four fifths of it from 26 s on.
    const waits = { othersWait: true };
    expect(chosen('maintenance', viewOf(free(23_000), { ...waits, share: 1 })).share).toBe(1);
    expect(chosen('maintenance', viewOf(free(23_000), { ...waits, share: 0.5 })).share).toBe(0.5);
    expect(chosen('maintenance', viewOf(free(28_000), { ...waits, share: 1 })).share).toBe(0.5);
    expect(chosen('maintenance', viewOf(free(20_000), { ...waits, share: 0.5 })).share).toBe(1);
    expect(chosen('maintenance', viewOf(free(28_000), { share: 0.5 })).share).toBe(1);
  });

  test('a guest that may never end counts as when that is noticed, not with all the time there is', () => {
    const long = [candidateOf(1, 0, { expectedTotalMs: 400_000, expectedEndMs: 9_000 }), ...near.slice(1)];
    expect(chosen('maintenance', viewOf(long, { othersWait: true })).share).toBe(1);
  });

  test('what was spent is spent: waiting ones make nobody gentler with a guest that is slowed already', () => {
    const hot = [
      FREE_ENDLESS,
      candidateOf(0.5, 2_200, { expectedTotalMs: 6_000 }),
      candidateOf(0.1, 2_000, { expectedTotalMs: 5_000 }),
    ];
    const spent = { spentHarmCpuMs: 3_000, leastHarmCpuMs: 2_000 };
    expect(chosen('maintenance', viewOf(hot, spent)).share).toBe(0.1);
    expect(chosen('maintenance', viewOf(hot, { ...spent, othersWait: true })).share).toBe(0.1);
  });

  test('a floor that gave way did not do so for them', () => {
    const below = [...near, candidateOf(0.05, 6_000, { expectedTotalMs: 15_000 })];
    expect(chosen('maintenance', viewOf(below, { othersWait: true })).share).toBe(1);
  });

  /** Gentler takes longer, and so does what begins later. */
  const consistent = fc
    .record({ candidates: anyCandidates, sure: fc.boolean(), freeMs: fc.integer({ min: 6_000, max: 600_000 }) })
    .map(({ candidates, sure, freeMs }) => {
      const [, ...slowed] = candidates;
      const totals = slowed.map(({ expectedTotalMs }) => expectedTotalMs).sort((one, other) => other - one);
      const free = sure ? candidateOf(1, 0, { expectedTotalMs: freeMs }) : FREE_ENDLESS;
      const timed = slowed.map((each, index) =>
        candidateOf(each.share, each.expectedHarmCpuMs, {
          ...each,
          expectedTotalMs: totals[index] ?? 0,
          expectedEndMs: totals[index] ?? 0,
        }),
      );
      return [free, ...timed.filter(({ begins }) => begins === 'now')];
    });
  const level = fc.integer({ min: 0, max: 100 }).map((percent) => percent / 100);
  const situation = fc.record({
    candidates: consistent,
    last: fc.nat(),
    spent: fc.integer({ min: 0, max: 3_000 }),
    levels: fc.tuple(level, level),
  });

  test('a larger aggression never gives a larger share, nor do those who wait', () => {
    fc.assert(
      fc.property(situation, ({ candidates, last, spent, levels }) => {
        const share = candidates[last % candidates.length]?.share ?? 1;
        const asked = viewOf(candidates, { spentHarmCpuMs: spent, share });
        const [low, high] = [Math.min(...levels), Math.max(...levels)];
        const gentle = chosen('maintenance', { ...asked, othersWait: true }, low);
        const hard = chosen('maintenance', { ...asked, othersWait: true }, high);
        expect(hard.share).toBeLessThanOrEqual(gentle.share);
        expect(gentle.share).toBeLessThanOrEqual(chosen('maintenance', asked, low).share);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("a user's module", () => {
  const offered = [FREE_ENDLESS, candidateOf(0.5, 5_000), candidateOf(0.1, 2_000)];
  const builtIn = (view: PolicyView) => behaviourOf('maintenance', new Map()).choose(view);
  /** As a module that was not checked by a compiler: its choice from its source text. */
  const moduleOf = (text: string): PolicyBehaviour => {
    const made: unknown = new Function('v', `'use strict';${text}`);
    if (typeof made !== 'function') throw new Error('no function');
    return { name: 'mine', what: 'for a test', choose: (view) => made(view) };
  };
  const ask = (text: string) => {
    const view = viewOf([...offered]);
    const before = { policy: structuredClone(view.policy), candidates: [...view.candidates] };
    const { choice, fault } = asked(moduleOf(text), view);
    expect(view.policy).toEqual(before.policy);
    expect(view.candidates).toEqual(before.candidates);
    expect(view.candidates.map((_, index) => view.candidates[index] === before.candidates[index])).not.toContain(false);
    expect(offered).toContain(choice.candidate);
    return { choice, fault, builtIn: builtIn(view) };
  };

  test.each([
    [
      'adds a candidate',
      'const x = { ...v.candidates[0], share: 0 }; v.candidates.push(x); return { candidate: x, why: "x" }',
    ],
    ['chooses one with other figures', 'return { candidate: { ...v.candidates[0], share: 0 }, why: "x" }'],
    ['changes a candidate', 'const x = v.candidates[2]; x.share = 0; return { candidate: x, why: "x" }'],
    ['changes the policy', 'v.policy.maxStallMs = 60000; return { candidate: v.candidates[2], why: "x" }'],
    ['changes the order', 'v.policy.precedence.length = 0; return { candidate: v.candidates[2], why: "x" }'],
    ['empties the list and fails', 'try { v.candidates.length = 0 } catch {} throw new Error("oh dear")'],
    ['replaces the list and fails', 'try { v.candidates = [] } catch {} throw new Error("oh dear")'],
    ['throws what has no words', 'throw Object.create(null)'],
    ['throws a symbol', 'throw Symbol()'],
    ['answers nothing', ''],
    ['answers later', 'return Promise.resolve({ candidate: v.candidates[2], why: "x" })'],
    ['answers with a choice that fails', 'return { get candidate() { throw new Error("oh dear") }, why: "x" }'],
  ])('that %s: the built-in choice, from what was really offered', (_, text) => {
    const { choice, fault, builtIn } = ask(text);
    expect(choice).toEqual(builtIn);
    expect(choice.candidate).toBe(offered[2]);
    expect(fault).toMatch(/^policy mine /);
  });

  test.each([
    ['is a symbol', 'Symbol()'],
    ['is missing', 'undefined'],
    ['is an object', '{ toString() { throw new Error() } }'],
  ])('whose reason %s is asked for none', (_, why) => {
    const { choice, fault } = ask(`return { candidate: v.candidates[1], why: ${why} }`);
    expect(choice).toEqual({ candidate: offered[1], why: 'the policy gives no reason' });
    expect(fault).toBeNull();
  });

  test('may name what it means by share and beginning, and its reason is cut', () => {
    const { choice, fault } = ask('return { candidate: { share: 0.5, begins: "now" }, why: "w".repeat(5000) }');
    expect(choice.candidate).toBe(offered[1]);
    expect(choice.why).toHaveLength(300);
    expect(fault).toBeNull();
  });

  test('may change the prediction that it reads, and nobody else sees it', () => {
    ask('v.candidates[1].prediction.totalMs.value = -1; return { candidate: v.candidates[1], why: "x" }');
    expect(PREDICTION.totalMs.value).toBe(1);
  });
});

test('every preset has a behaviour of its name that says what it is for', () => {
  expect([...PRESET_BEHAVIOURS.keys()].sort()).toEqual([...policyNames].sort());
  for (const [name, { what }] of PRESET_BEHAVIOURS) {
    expect(behaviourOf(name, new Map()).name).toBe(name);
    expect(what.length).toBeGreaterThan(100);
  }
});

describe('docs/policies.md', () => {
  const text = readFileSync(new URL('../../docs/policies.md', import.meta.url), 'utf8');
  const cells = (line: string) =>
    line
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim());
  /** The rows of the table with that head. */
  const rowsUnder = (head: string): string[][] => {
    const lines = text.split('\n');
    const at = lines.indexOf(head);
    const rows = lines.slice(at + 2);
    return rows
      .slice(
        0,
        rows.findIndex((line) => !line.startsWith('|')),
      )
      .map(cells);
  };
  const guest = (rateMib: number): VirtualGuest => ({
    pattern: 'sweep',
    rateBytesPerSec: rateMib * MIB,
    workingSetBytes: 64 * MIB,
    touchedBytes: 80 * MIB,
    memoryBytes: 256 * MIB,
    cpus: 1,
    cpuUse: 1,
  });
  const runOf = (of: VirtualGuest, policy: Policy, grant: number): VirtualRun =>
    virtualRun({ guest: of, controller: leastHarm(new Map()), policy, grant });
  const figureOf = (cell: string | undefined) => Number.parseFloat(cell ?? '');
  /** Within a sixth, or a third of a second: seeds and later refinements may not make the document wrong. */
  const expectNear = (found: number, told: number) =>
    expect(Math.abs(found - told), `${found} against ${told}`).toBeLessThan(Math.max(0.35, told / 6));

  const hot = rowsUnder('| policy | min CPU | aggression | slowed to | total | harm |');
  let last: readonly string[] = [];
  const filled = hot.map((row) => {
    last = row.map((cell, index) => (cell === '' && index < 2 ? (last[index] ?? '') : cell));
    return last;
  });

  test('has the rows that are checked here', () => expect([hot.length, filled[0]?.[1]]).toEqual([7, '0.05']));

  test.each(filled)(
    '%s, min CPU %s, aggression %s: slowed to %s, %s, %s',
    (names, floor, aggression, share, total, harm) => {
      const name = policyNames.find((each) => names?.startsWith(`\`${each}\``));
      if (name === undefined) throw new Error(`no policy in ${names}`);
      const policy: Policy = {
        ...POLICY_PRESETS[name],
        minCpuShare: figureOf(floor),
        aggression: aggression === 'any' ? 0 : figureOf(aggression),
      };
      const run = runOf(guest(164), policy, 40 * MIB);
      expectNear(run.harmCpuMs / 1_000, figureOf(harm));
      const givesUp = 'gives up after ';
      if (total?.startsWith(givesUp)) {
        expect(run.ended).toBe('aborted');
        expectNear(run.totalMs / 1_000, figureOf(total.slice(givesUp.length)));
      } else {
        expect(run.ended).toBe('completed');
        expectNear(run.totalMs / 1_000, figureOf(total));
        expect(run.minShare / (figureOf(share) / 100)).toBeGreaterThan(0.7);
        expect(run.minShare / (figureOf(share) / 100)).toBeLessThan(1.4);
      }
    },
  );

  test.each(rowsUnder('| max time | total | harm |'))('a mild guest, max time %s: %s, %s', (maxTime, total, harm) => {
    const maxTimeMs = figureOf(maxTime) * (maxTime?.endsWith('min') ? 60_000 : 1_000);
    for (const aggression of [0, 1]) {
      const policy: Policy = { ...POLICY_PRESETS.maintenance, aggression, minCpuShare: 0.05, maxTimeMs };
      const run = runOf(guest(16), policy, 20 * MIB);
      expectNear(run.totalMs / 1_000, figureOf(total));
      expectNear(run.harmCpuMs / 1_000, figureOf(harm));
    }
  });
});
