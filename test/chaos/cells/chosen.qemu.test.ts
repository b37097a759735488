/** Ten cells of the table of states and faults, in every run; all of it is played by `npm run chaos`. */
import { expect, test } from 'vitest';
import { describeWith } from '../../support/needs.ts';
import { play } from './cell.ts';
import { faultNamed } from './faults.ts';
import type { Step } from './steps.ts';

const CHOSEN: readonly (readonly [Step, string])[] = [
  ['reconciling', 'workerKilled'],
  ['admitting', 'redisRestarted'],
  ['standby', 'allKilled'],
  ['precopy', 'redisLosesWrites'],
  ['precopy', 'journalReadOnly'],
  ['precopy', 'redisSilent'],
  ['switchover', 'destinationKilled'],
  ['postcopy', 'linkCut'],
  ['verifying', 'workerStopped'],
  ['cleaning', 'guardKilled'],
];
const LIMIT_MS = 10 * 60_000;

describeWith(['qemu', 'root', 'cgroup', 'netns', 'redis'], 'a move that is struck', () => {
  test.concurrent.each(CHOSEN)(
    'while it is %s: %s',
    async (step, fault) => {
      const { problems, said } = await play({ step, fault: faultNamed(fault), moment: 0.5 });
      expect(problems, said ?? '').toEqual([]);
    },
    LIMIT_MS,
  );
});
