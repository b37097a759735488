/**
 * The whole table of states and faults, each cell once: `npm run chaos -- table`. Goes on where it was interrupted; cells that
 * went wrong are played again when their lines are taken out of the results. Then docs/reliability.md is written.
 */
import { afterAll, beforeAll, expect, test } from 'vitest';
import { describeWith } from '../../support/needs.ts';
import { cellTest } from './cell-test.ts';
import { clearLeft } from './chaos-place.ts';
import { FAULTS } from './faults.ts';
import { RESULTS, writeReport } from './report.ts';
import { readResults } from './results.ts';
import { STEPS } from './steps.ts';

const done = readResults(RESULTS).filter(({ run }) => run === 'table');

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis'], 'every fault in every state', () => {
  for (const fault of FAULTS) {
    for (const step of STEPS) {
      if (done.some((one) => one.step === step && one.fault === fault.name)) continue;
      cellTest(`${step} ${fault.name}`, { run: 'table', step, fault, moment: 0.5 });
    }
  }
  test('nothing was wrong in those that were played before', () => {
    expect(
      done.flatMap(({ step, fault, problems }) => problems.map((problem) => `${step} ${fault}: ${problem}`)),
    ).toEqual([]);
  });
  beforeAll(clearLeft);
  afterAll(writeReport);
});
