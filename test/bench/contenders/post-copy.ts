/** Post-copy as soon as the first pass is over: the guest goes on at its destination, and what is missing follows. */
import { anyAnswer } from '../../../src/hypervisors/qemu/answers.ts';
import type { Contender } from './contender.ts';
import { migratePair } from './pair.ts';

export const postCopy: Contender = {
  name: 'postCopy',
  what: 'post-copy with preempt, after the first pass',
  ours: false,
  leadMs: 0,
  waits: false,
  migrate: (stage) => {
    let begun = false;
    return migratePair(stage, { capabilities: ['postcopy-ram', 'postcopy-preempt'] }, async ({ pass }, source) => {
      if (begun || pass < 2) return;
      begun = true;
      await source.execute('migrate-start-postcopy', anyAnswer);
    });
  },
};
