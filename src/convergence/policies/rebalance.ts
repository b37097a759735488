/** For rebalancing: nobody has to leave, so what the guest keeps comes first. */
import type { PolicyBehaviour } from '../policy-behaviour.ts';
import { chooseLeastHarm } from './least-harm-choice.ts';

export const rebalance: PolicyBehaviour = {
  name: 'rebalance',
  what:
    'For rebalancing; what the guest keeps comes first. The same curve as `maintenance`, above a floor of half of its CPU ' +
    'that never gives way: a guest that cannot be moved like that within the max time is left where it is, as soon as that ' +
    'is clear.',
  choose: chooseLeastHarm,
};
