/** For a host that is about to fail: only time counts. */
import type { Candidate, Choice, PolicyBehaviour, PolicyView } from '../policy-behaviour.ts';
import { gentlestWithin, leastOf, mostInTime } from './gentlest.ts';

/** A part of the time that is left makes no difference. */
const SLACK = 0.02;

/**
 * What it allows is a part of what is left, not of the whole: what the whole may take grows with every moment that has
 * passed, and whoever may always be a little later than the soonest end never comes to one (a guest that hardly converged
 * was held at a third for four minutes; 3 s are enough).
 */
function choose(view: PolicyView): Choice {
  const { candidates, policy } = view;
  const inTime = mostInTime(candidates);
  const left = ({ expectedTotalMs }: Candidate) => expectedTotalMs;
  const least = leastOf(inTime, left);
  if (least === undefined) throw new RangeError('a policy was offered nothing to choose from');
  const allowance = (2 - policy.aggression) * left(least) * (1 + SLACK);
  // A throttle from the next pass on is one that begins too late, if it is one at all.
  const now = inTime.filter(({ begins }) => begins === 'now');
  const candidate = gentlestWithin(now.length > 0 ? now : inTime, left, allowance, view) ?? least;
  return {
    candidate,
    why: candidate.share >= 1 ? 'a throttle would not end it sooner' : 'gentler would take longer',
  };
}

export const emergency: PolicyBehaviour = {
  name: 'emergency',
  what:
    'For a host that is about to fail; only time counts. The guest is slowed from the start, as much as shortens the ' +
    'migration: at aggression 1 for the least time there is, at 0 for up to twice that. At the max time it is held until all ' +
    'is sent.',
  choose,
};
