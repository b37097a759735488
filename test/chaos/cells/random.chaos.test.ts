/**
 * Random cells at random moments: `npm run chaos -- random`. HOSTEVAC_CHAOS_RUNS says how many (default 200),
 * HOSTEVAC_CHAOS_SEED the first seed (default 1). Goes on where it was interrupted; then docs/reliability.md is written.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWith } from '../../support/needs.ts';
import { numbersFrom } from '../../support/random.ts';
import { cellTest } from './cell-test.ts';
import { clearLeft } from './chaos-place.ts';
import { FAULTS } from './faults.ts';
import { RESULTS, writeReport } from './report.ts';
import { readResults } from './results.ts';
import { STEPS } from './steps.ts';

const RUNS = Number(process.env['HOSTEVAC_CHAOS_RUNS'] ?? 200);
const FIRST = Number(process.env['HOSTEVAC_CHAOS_SEED'] ?? 1);

const before = readResults(RESULTS).filter(({ run }) => run !== 'table');
const done = new Set(before.map(({ run }) => run));

function pick<T>(of: readonly T[], random: () => number): T {
  const picked = of[Math.floor(random() * of.length)];
  if (picked === undefined) throw new Error('nothing to pick from');
  return picked;
}

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis'], 'a random fault in a random state', () => {
  for (let seed = FIRST; seed < FIRST + RUNS; seed += 1) {
    const random = numbersFrom(seed);
    const [step, fault, moment] = [pick(STEPS, random), pick(FAULTS, random), random()];
    if (done.has(String(seed))) continue;
    cellTest(`seed ${seed}: ${step} ${fault.name}`, { run: String(seed), step, fault, moment });
  }
  test('nothing was wrong in those that were played before', () => {
    expect(before.flatMap(({ run, problems }) => problems.map((problem) => `seed ${run}: ${problem}`))).toEqual([]);
  });
  beforeAll(clearLeft);
  afterAll(writeReport);
});
