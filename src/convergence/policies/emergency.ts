/** For a host that is about to fail: only time counts. */
import type { Candidate, Choice, PolicyBehaviour, PolicyView } from '../policy-behaviour.ts';
import { gentlestWithin, leastOf, mostInTime } from './gentlest.ts';

/** Time that makes no difference. */
const SLACK = 0.02;
const SLACK_MS = 100;

function choose(view: PolicyView): Choice {
  const { candidates, elapsedMs, policy } = view;
  const inTime = mostInTime(candidates);
  const whole = ({ expectedTotalMs }: Candidate) => elapsedMs + expectedTotalMs;
  const least = leastOf(inTime, whole);
  if (least === undefined) throw new RangeError('a policy was offered nothing to choose from');
  const allowance = (2 - policy.aggression) * whole(least) * (1 + SLACK) + SLACK_MS;
  // A throttle from the next pass on is one that begins too late, if it is one at all.
  const now = inTime.filter(({ begins }) => begins === 'now');
  const candidate = gentlestWithin(now.length > 0 ? now : inTime, whole, allowance, view) ?? least;
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
