/** A plan made before, played on a real guest: what it comes to there, and whether it ends when it was to. */
import type { Candidate, Choice, PolicyView } from '../../../src/convergence/policy-behaviour.ts';
import type { Policy } from '../../../src/domain/policy.ts';
import type { Contender } from './contender.ts';
import { type Deciding, ours } from './ours.ts';

/** No throttle: what is above it is none worth the while. */
const FREE = 0.99;

/**
 * The product with all its parts, but for who decides: `shares` says what the guest gets in each pass, the first pass first,
 * and the last share holds until the end.
 */
export function planned(name: string, shares: readonly number[], over: Partial<Policy>): Contender {
  return ours(name, 'the plan of one who knows everything', over, playing(shares));
}

/** Chooses what is offered near the plan, for its moment; the share is the plan's own. */
export function playing(shares: readonly number[]): Deciding {
  const shareIn = (pass: number): number => {
    const share = shares[Math.min(Math.max(1, pass), shares.length) - 1] ?? 1;
    return share >= FREE ? 1 : share;
  };
  let chosen = 1;
  const choose = (view: PolicyView): Choice => {
    const now = shareIn(view.pass);
    const next = shareIn(Math.max(1, view.pass) + 1);
    // A throttle is to bite from the first byte of its pass on: it is asked for while the guest still runs free.
    const waits = now === 1 && next < 1;
    chosen = waits ? next : now;
    return { candidate: near(view.candidates, chosen, waits ? 'nextPass' : 'now'), why: 'planned' };
  };
  return {
    behaviour: { name: 'planned', what: 'Plays a plan that was made before.', choose },
    shareFor: (share) => (share < 1 && chosen < 1 ? chosen : share),
  };
}

function near(candidates: readonly Candidate[], share: number, begins: Candidate['begins']): Candidate {
  const offered = candidates.filter((one) => (share < 1 ? one.share < 1 && one.begins === begins : one.share === 1));
  const found = offered.find((one) => one.share <= share) ?? offered.at(-1);
  if (found === undefined) throw new RangeError(`a share of ${share} is not offered`);
  return found;
}
