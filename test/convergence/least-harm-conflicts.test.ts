/** What the controller of least harm does when not all requirements can be kept: early, in the policy's order, on record. */
import { describe, expect, test } from 'vitest';
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
