/** The deadlines that real guests are to meet can be met. */
import { describe, expect, test } from 'vitest';
import { profileNamed } from '../../src/lab/profiles.ts';
import { rateOf } from '../lab/twin.ts';
import { caseName, DEADLINE_CASES } from './deadline-cases.ts';
import { result } from './fixtures.ts';
import { leastPossible } from './least.ts';

/** Of a core, and what a guest that never halts makes of it on the machine of docs/lab.md. */
const REFERENCE = { demandCores: [1], writtenBytesPerSec: 174 * 2 ** 20 };

describe('the deadlines', () => {
  test('are twenty and more, each of them once', () => {
    const names = DEADLINE_CASES.map((one) => `${one.profile} ${caseName(one)}`);
    expect(names.length).toBeGreaterThanOrEqual(20);
    expect(new Set(names).size).toBe(names.length);
  });

  // More time makes nothing impossible.
  const shortest = DEADLINE_CASES.filter((one, index) =>
    DEADLINE_CASES.every(
      (other, at) =>
        at >= index || other.profile !== one.profile || other.floor !== one.floor || other.maxTimeMs > one.maxTimeMs,
    ),
  );
  test.each(shortest)('can be met: $profile, floor $floor, $maxTimeMs ms', ({ profile, floor, maxTimeMs }) => {
    const { cpuShare, secondCpuShare } = profileNamed(profile);
    const known =
      profile === 'reference'
        ? REFERENCE
        : { demandCores: [cpuShare + secondCpuShare], writtenBytesPerSec: rateOf(profileNamed(profile)) };
    const seen = [result({ profile, ...known })];
    expect(leastPossible(seen, { floor, maxTimeMs })).toMatchObject({ feasible: true });
    // The test would notice one that cannot.
    expect(leastPossible(seen, { floor, maxTimeMs: 700 })).toMatchObject({ feasible: false });
  });
});
