/** Who takes part, in the order of the tables. */
import type { Contender } from './contender.ts';
import { novaForceComplete, ovirtSuspend } from './ladders.ts';
import { leastHarm, rfc2011 } from './ours.ts';
import { postCopy } from './post-copy.ts';
import { autoConverge, autoConvergeIncus, none } from './precopy.ts';

export const CONTENDERS: readonly Contender[] = [
  none,
  autoConverge,
  autoConvergeIncus,
  ovirtSuspend,
  novaForceComplete,
  postCopy,
  rfc2011,
  ...leastHarm,
];
