/** A plan made before, played on a real guest: what it comes to there, and whether it ends when it was to. */
import type { Candidate, Choice, PolicyBehaviour, PolicyView } from '../../../src/convergence/policy-behaviour.ts';
import type { Policy } from '../../../src/domain/policy.ts';
import type { Contender } from './contender.ts';
import { ours } from './ours.ts';

/** No throttle: what is above it is none worth the while. */
const FREE = 0.99;

/**
 * The product with all its parts, but for who decides: `shares` says what the guest gets in each pass, the first pass first,
 * and the last share holds until the end.
 */
export function planned(name: string, shares: readonly number[], over: Partial<Policy>): Contender {
  return ours(name, 'the plan of one who knows everything', over, { behaviour: playing(shares) });
}

/** Chooses what comes nearest to the plan among what is offered. */
export function playing(shares: readonly number[]): PolicyBehaviour {
  const shareIn = (pass: number): number => shares[Math.min(Math.max(1, pass), shares.length) - 1] ?? 1;
  return {
    name: 'planned',
    what: 'Plays a plan that was made before.',
    choose: (view) => choiceFor(view, shareIn),
  };
}

function choiceFor({ pass, candidates }: PolicyView, shareIn: (pass: number) => number): Choice {
  const now = shareIn(pass);
  const next = shareIn(Math.max(1, pass) + 1);
  // A throttle is to bite from the first byte of its pass on: it is asked for while the guest still runs free.
  if (now >= FREE && next < FREE) return { candidate: nearest(candidates, next, 'nextPass'), why: 'planned for later' };
  return { candidate: nearest(candidates, now, 'now'), why: 'planned' };
}

/** Not above the plan: a pass that leaves a little more than fits is followed by another one. */
function nearest(candidates: readonly Candidate[], share: number, begins: Candidate['begins']): Candidate {
  const offered = candidates.filter((one) => one.share >= FREE || one.begins === begins);
  const found = offered.find((one) => one.share <= share * 1.001) ?? offered.at(-1) ?? candidates.at(-1);
  if (found === undefined) throw new RangeError('nothing is offered');
  return found;
}
