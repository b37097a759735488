/** For evacuations: the host must get empty, so the deadline comes first. */
import type { PolicyBehaviour } from '../policy-behaviour.ts';
import { chooseLeastHarm } from './least-harm-choice.ts';

export const maintenance: PolicyBehaviour = {
  name: 'maintenance',
  what:
    'For evacuations; the deadline comes first. Guests whose memory can be sent faster than they write it run free, unless ' +
    'only a throttle meets the max time: then the gentlest that does. Others run free until throttling pays, and are then ' +
    'slowed as gently as the aggression allows: at 1 for the least harm there is, at 0 for up to 1.3 times that. Where the max ' +
    'time cannot be met otherwise, the bandwidth cap gives way, then the floor.',
  choose: chooseLeastHarm,
};
