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

  test.each(DEADLINE_CASES)('can be met: $profile, floor $floor, $maxTimeMs ms', ({ profile, floor, maxTimeMs }) => {
    const { cpuShare, secondCpuShare } = profileNamed(profile);
    const known =
      profile === 'reference'
        ? REFERENCE
        : { demandCores: [cpuShare + secondCpuShare], writtenBytesPerSec: rateOf(profileNamed(profile)) };
    const least = leastPossible([result({ profile, ...known })], { floor, maxTimeMs });
    expect(least).toMatchObject({ feasible: true });
    if (process.env['HOSTEVAC_SHOW'] !== undefined) {
      let ms = maxTimeMs;
      while (leastPossible([result({ profile, ...known })], { floor, maxTimeMs: ms - 100 })?.feasible === true)
        ms -= 100;
      console.log(`${profile} ${floor} ${maxTimeMs}: harm ${least?.harmCpuMs.toFixed(0)}, least time ${ms}`);
    }
  });
});
