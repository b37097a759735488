/** What the controller of least harm does when not all requirements can be kept: early, in the policy's order, on record. */
import { describe, expect, test } from 'vitest';
import { Outlook } from '../../src/convergence/candidates.ts';
import type { DirtyModel } from '../../src/convergence/dirty-model.ts';
import type { Standing } from '../../src/convergence/forward.ts';
import { type Conflict, NO_CONFLICT, type Question, type Settled, settle } from '../../src/convergence/infeasible.ts';
import { leastHarm } from '../../src/convergence/least-harm.ts';
import type { PolicyBehaviour } from '../../src/convergence/policy-behaviour.ts';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { type VirtualGuest, type VirtualRun, virtualRun } from './virtual-run.ts';

const MIB = 2 ** 20;
const GRANT = 40 * MIB;

function guest(rateMib: number, setMib: number, touchedMib: number, memoryMib: number): VirtualGuest {
  return {
    pattern: 'sweep',
    rateBytesPerSec: rateMib * MIB,
    workingSetBytes: setMib * MIB,
    touchedBytes: touchedMib * MIB,
    memoryBytes: memoryMib * MIB,
    cpus: 1,
    cpuUse: 1,
  };
}

const REFERENCE = guest(164, 64, 80, 256);
const WIDE = guest(400, 600, 700, 1_000);
const policyOf = (overrides: Partial<Policy>): Policy => ({ ...POLICY_PRESETS.maintenance, ...overrides });
const run = (of: VirtualGuest, policy: Policy, extra: ReadonlyMap<string, PolicyBehaviour> = new Map()): VirtualRun =>
  virtualRun({ guest: of, controller: leastHarm(extra), policy, grant: GRANT });
const gaveWay = ({ relaxed }: VirtualRun) => relaxed.map(({ requirement }) => requirement);

describe('where the floor cannot be kept', () => {
  test('a rebalance gives up within seconds rather than hurt', () => {
    const { ended, why, harmCpuMs, totalMs, relaxed } = run(REFERENCE, POLICY_PRESETS.rebalance);
    expect(ended).toBe('aborted');
    expect(totalMs).toBeLessThan(6_000);
    expect(harmCpuMs).toBe(0);
    expect(relaxed).toEqual([]);
    expect(why).toMatch(/cannot end within .* without going below 50% CPU: it writes .* over .*, 40MiB\/s are sent/);
    expect(why).toContain('a min CPU below 50%');
  });

  test('an evacuation goes below it, just as low as needed, and that is on record', () => {
    const maxTimeMs = 60_000;
    const policy = policyOf({ minCpuShare: 0.2, maxTimeMs });
    const { ended, totalMs, minShare, relaxed } = run(WIDE, policy);
    expect(ended).toBe('completed');
    expect(totalMs).toBeLessThanOrEqual(maxTimeMs);
    expect(relaxed.map(({ requirement }) => requirement)).toEqual(['minCpu']);
    expect(relaxed[0]?.why).toMatch(/cannot end within .* at \d+% it does with a probability of \d+%/);
    expect(minShare).toBeLessThan(0.2);
    expect(minShare).toBeGreaterThan(0.05);
  });

  test('one that is asked to keep it gives up instead', () => {
    const policy = policyOf({ minCpuShare: 0.2, maxTimeMs: 60_000, precedence: ['minCpu', 'maxTime', 'maxBandwidth'] });
    const { ended, harmCpuMs, minShare } = run(WIDE, policy);
    expect({ ended, harmCpuMs, minShare }).toEqual({ ended: 'aborted', harmCpuMs: 0, minShare: 1 });
  });
});

describe('what lasts for a moment only', () => {
  const dip = (toMib: number, fromMs: number, forMs: number) => (elapsedMs: number) =>
    (elapsedMs >= fromMs && elapsedMs < fromMs + forMs ? toMib : 40) * MIB;
  const within = (of: VirtualGuest, policy: Policy, grant: (elapsedMs: number) => number) =>
    virtualRun({ guest: of, controller: leastHarm(new Map()), policy, grant });

  test('a grant that is small for a second and a half makes nobody give up who has ten minutes', () => {
    const mild = guest(30, 64, 400, 1_024);
    const { ended, why, relaxed } = within(mild, POLICY_PRESETS.rebalance, dip(12, 4_000, 1_500));
    expect({ ended, why, relaxed }).toEqual({ ended: 'completed', why: null, relaxed: [] });
    expect(within(mild, POLICY_PRESETS.rebalance, dip(12, 4_000, 60_000)).ended).toBe('aborted');
  });

  test('nor does it break a floor', () => {
    const hot = guest(200, 64, 400, 1_024);
    const { ended, minShare, relaxed } = within(hot, POLICY_PRESETS.maintenance, dip(4, 3_000, 1_500));
    expect({ ended, relaxed }).toEqual({ ended: 'completed', relaxed: [] });
    expect(minShare).toBeGreaterThanOrEqual(0.1);
    const { relaxed: atLast } = within(hot, POLICY_PRESETS.maintenance, dip(4, 3_000, 60_000));
    expect(atLast.map(({ requirement }) => requirement)).toEqual(['minCpu']);
  });
});

describe('one look after another', () => {
  /** Ends at any share; only with shares well below 30%; never. */
  const [MILD, HOT, ENDLESS] = [5, 400, 20_000];
  const modelOf = (weights: readonly [number, number, number], value: number | null = MILD * MIB): DirtyModel => ({
    rateBytesPerSec: { value, low: 0, high: null },
    workingSetBytes: { value: 64 * MIB, low: 64 * MIB, high: 64 * MIB },
    pattern: 'sweep',
    hypotheses: [MILD, HOT, ENDLESS].map((rateMib, index) => ({
      rateBytesPerSec: rateMib * MIB,
      workingSetBytes: 64 * MIB,
      pattern: 'sweep',
      weight: weights[index] ?? 0,
    })),
    change: null,
  });
  const HALF = modelOf([0.3, 0.6, 0.1]);
  const HOPELESS = modelOf([0, 0, 1]);
  const floor30 = policyOf({ minCpuShare: 0.3 });

  interface Asked {
    readonly policy?: Policy;
    readonly model?: DirtyModel;
    readonly bandwidth?: number;
    readonly timeLeftMs: number;
    readonly share?: number;
  }
  function ask(conflict: Conflict, { policy = floor30, model = HALF, timeLeftMs, ...rest }: Asked): Settled {
    const { bandwidth = GRANT, share = 1 } = rest;
    const from: Standing = {
      pass: 1,
      leftBytes: 64 * MIB,
      cpuMsInPass: 0,
      passElapsedMs: 0,
      bandwidthBytesPerSec: bandwidth,
      downtimeLimitMs: 300,
      guest: { memoryBytes: 64 * MIB, touchedBytes: 64 * MIB, demandCores: 1 },
    };
    const outlook = new Outlook(from, model, timeLeftMs);
    const question: Question = { policy, model, from, outlook, share, timeLeftMs, certain: true };
    return settle(conflict, question);
  }
  /** Looks, 100 ms apart, until something happens: after so many ms; null: not within 20 s. */
  function until(asked: Asked, happens: (settled: Settled) => boolean): number | null {
    let conflict = NO_CONFLICT;
    for (let ms = 0; ms <= Math.min(20_000, asked.timeLeftMs - 100); ms += 100) {
      const settled = ask(conflict, { ...asked, timeLeftMs: asked.timeLeftMs - ms });
      if (happens(settled)) return ms;
      conflict = settled.conflict;
    }
    return null;
  }
  const breaksFloor = ({ conflict }: Settled) => conflict.relaxed.length > 0;
  const givesUp = (settled: Settled) => settled.givesUp !== null;

  test.each([
    [600_000, 5_000],
    [100_000, 2_000],
    [30_000, 1_000],
    [4_000, 400],
  ])('with %i ms left it must look like that for %i ms', (timeLeftMs, patienceMs) => {
    expect(until({ timeLeftMs }, breaksFloor)).toBe(patienceMs);
    expect(until({ timeLeftMs, model: HOPELESS, policy: POLICY_PRESETS.rebalance }, givesUp)).toBe(patienceMs);
  });

  test('what was unlikely for long and is hopeless for a moment is not given up', () => {
    let { conflict } = ask(NO_CONFLICT, { timeLeftMs: 600_000, policy: POLICY_PRESETS.rebalance });
    for (let ms = 100; ms <= 10_000; ms += 100) {
      const model = ms > 9_000 ? HOPELESS : HALF;
      const settled = ask(conflict, { timeLeftMs: 600_000 - ms, policy: POLICY_PRESETS.rebalance, model });
      expect(settled.givesUp).toBeNull();
      conflict = settled.conflict;
    }
  });

  test('a floor that has given way does not fall further for a moment, but for longer', () => {
    const given: Conflict = { ...NO_CONFLICT, relaxed: [{ requirement: 'minCpu', why: '' }], floor: 0.2 };
    const first = ask(given, { timeLeftMs: 600_000 });
    const soon = ask(first.conflict, { timeLeftMs: 596_000 });
    expect([first, soon].map(({ conflict }) => conflict.floor)).toEqual([0.2, 0.2]);
    expect(Math.min(...soon.candidates.map(({ share }) => share))).toBe(0.2);
    expect(ask(soon.conflict, { timeLeftMs: 595_000 }).conflict.floor).toBeLessThan(0.1);
    const well = ask(soon.conflict, { timeLeftMs: 595_500, model: modelOf([1, 0, 0]) });
    expect(ask(well.conflict, { timeLeftMs: 595_000 }).conflict.floor).toBe(0.2);
  });

  test.each(Object.values(POLICY_PRESETS))('without bandwidth nothing is known: $name goes on as it is', (policy) => {
    for (const share of [1, 0.6]) {
      const asked: Asked = { policy, model: HOPELESS, bandwidth: 0, share, timeLeftMs: 600_000 };
      expect(until(asked, (settled) => givesUp(settled) || breaksFloor(settled))).toBeNull();
      expect(ask(NO_CONFLICT, asked).candidates.map((one) => [one.share, one.begins])).toEqual([[share, 'now']]);
    }
  });

  test('a floor or cap that is in the way of some guests only waits until more than bounds is known, or time is short', () => {
    const bounds = modelOf([0.3, 0.6, 0.1], null);
    expect(until({ timeLeftMs: 600_000, model: bounds }, breaksFloor)).toBeNull();
    expect(until({ timeLeftMs: 4_000, model: bounds }, breaksFloor)).not.toBeNull();
    const policy = policyOf({ minCpuShare: 0.3, maxBandwidthBytesPerSec: GRANT });
    expect(until({ timeLeftMs: 600_000, policy, model: bounds }, breaksFloor)).toBeNull();
    expect(until({ timeLeftMs: 4_500, policy, model: bounds }, breaksFloor)).not.toBeNull();
    expect(until({ timeLeftMs: 600_000, policy }, breaksFloor)).not.toBeNull();
  });

  test('a floor is not broken for a small gain, and what it makes of it is said', () => {
    expect(until({ timeLeftMs: 600_000, model: modelOf([0.3, 0.01, 0.69]) }, breaksFloor)).toBeNull();
    expect(until({ timeLeftMs: 600_000, model: modelOf([0.1, 0.3, 0.6]) }, breaksFloor)).not.toBeNull();
    // Where there is any chance below it, the time does not give way to a floor that is less precious.
    const slight = { timeLeftMs: 600_000, model: modelOf([0, 0.2, 0.8]) };
    expect(until(slight, (settled) => breaksFloor(settled) || givesUp(settled))).toBeNull();
    let why = '';
    until({ timeLeftMs: 600_000 }, ({ conflict }) => {
      why = conflict.relaxed[0]?.why ?? '';
      return why !== '';
    });
    expect(why).toMatch(/will hardly end within .*; at \d+% it does with a probability of 90%/);
  });
});

describe('the order in which requirements give way', () => {
  const capped = (precedence: Policy['precedence']) =>
    run(
      guest(30, 64, 80, 256),
      policyOf({ maxBandwidthBytesPerSec: 5 * MIB, minCpuShare: 0.5, maxTimeMs: 30_000, precedence }),
    );

  test('the cap first, where it is the least precious; then all that is granted is used, and the floor is kept', () => {
    const result = capped(['maxTime', 'minCpu', 'maxBandwidth']);
    expect(result.ended).toBe('completed');
    expect(gaveWay(result)).toEqual(['maxBandwidth']);
    expect(result.mostBytesPerSec).toBe(GRANT);
    expect(result.minShare).toBeGreaterThanOrEqual(0.5);
  });

  test('the floor first, where it is', () => {
    expect(gaveWay(capped(['maxTime', 'maxBandwidth', 'minCpu']))[0]).toBe('minCpu');
  });

  test('the time first, where it is: then neither cap nor floor does', () => {
    const result = capped(['minCpu', 'maxBandwidth', 'maxTime']);
    expect(result.ended).toBe('aborted');
    expect(gaveWay(result)).toEqual([]);
    expect(result.mostBytesPerSec).toBe(5 * MIB);
    expect(result.minShare).toBe(1);
  });
});

describe('at the deadline, or as soon as it is clear', () => {
  const hopeless = (more: Partial<Policy>) =>
    policyOf({ minCpuShare: 0.2, maxTimeMs: 60_000, precedence: ['minCpu', 'maxBandwidth', 'maxTime'], ...more });

  test('post-copy begins as soon as all has been sent once, with nothing spent', () => {
    const { ended, harmCpuMs, why, decisions } = run(WIDE, hopeless({ atDeadline: 'postCopy' }));
    expect({ ended, harmCpuMs }).toEqual({ ended: 'postCopy', harmCpuMs: 0 });
    // Not before all has been sent once, for what is not there then the guest would wait for.
    expect(decisions.at(-1)?.pass).toBe(2);
    expect(why).toContain('cannot end within');
  });

  test('a guest that is held until all is sent has completed, and what that broke is on record', () => {
    const result = run(WIDE, hopeless({ atDeadline: 'forceComplete' }));
    expect(result.ended).toBe('completed');
    expect(gaveWay(result)).toEqual(['maxTime', 'minCpu']);
    expect(result.downtimeMs).toBeLessThan(300);
  });

  test('where the least share does not end it either, it stands still as long as needed, on record', () => {
    const result = run(guest(8_000, 600, 700, 1_000), hopeless({ atDeadline: 'forceComplete', maxTimeMs: 20_000 }));
    expect(result.ended).toBe('completed');
    expect(gaveWay(result)).toContain('maxStall');
  });

  test('what no guest whatever could do is said at once', () => {
    const { ended, totalMs, why } = run(guest(1, 8, 64, 256), policyOf({ maxTimeMs: 1_000 }));
    expect(ended).toBe('aborted');
    expect(totalMs).toBeLessThan(500);
    expect(why).toContain('cannot end within');
  });

  test('a guest known to change its ways may end in time after all: it goes on while even a quiet guest could still make it', () => {
    const changing: VirtualGuest = {
      ...guest(20, 100, 300, 600),
      phases: [
        { durationMs: 6_000, rateBytesPerSec: 20 * MIB },
        { durationMs: 600_000, rateBytesPerSec: 400 * MIB },
      ],
    };
    const { ended, totalMs } = run(changing, hopeless({ maxTimeMs: 30_000 }));
    expect(ended).toBe('aborted');
    expect(totalMs).toBeGreaterThan(27_000);
    // Until it has kept to its new ways for half a minute.
    const longer = run(changing, hopeless({ maxTimeMs: 300_000 }));
    expect(longer.ended).toBe('aborted');
    expect(longer.totalMs).toBeGreaterThan(33_000);
    expect(longer.totalMs).toBeLessThan(60_000);
  });
});

describe("a user's policy", () => {
  const named = (choose: PolicyBehaviour['choose']): ReadonlyMap<string, PolicyBehaviour> =>
    new Map([['mine', { name: 'mine', what: 'for a test', choose }]]);
  const mine = policyOf({ name: 'mine', aggression: 1, minCpuShare: 0.05 });

  test('decides what is done among what is offered', () => {
    const never = named(({ candidates }) => {
      const free = candidates[0];
      if (free === undefined) throw new Error('nothing offered');
      return { candidate: free, why: 'never throttle' };
    });
    const result = run(REFERENCE, { ...mine, maxTimeMs: 8_000 }, never);
    expect(result.minShare).toBe(1);
    expect(result.decisions[0]?.reason).toContain('never throttle');
  });

  test.each([
    [
      'fails',
      named(() => {
        throw new Error('oh dear');
      }),
      'oh dear',
    ],
    [
      'chooses what it was not offered',
      named(({ candidates }) => {
        const free = candidates[0];
        if (free === undefined) throw new Error('nothing offered');
        return { candidate: { ...free, share: 0.001 }, why: 'as I like it' };
      }),
      'not offered',
    ],
  ])('that %s is replaced by the built-in choice, and that is told once', (_, extra, words) => {
    const result = run(REFERENCE, mine, extra);
    expect(result.ended).toBe('completed');
    expect(result.minShare).toBe(0.05);
    expect(result.notes.filter((note) => note.includes(words))).toHaveLength(1);
  });

  test('of an unknown name is refused, with the known ones', () => {
    expect(() => run(REFERENCE, { ...mine, name: 'nobody' })).toThrow(
      /no policy is named "nobody"; use one of emergency, maintenance, rebalance/,
    );
  });
});
