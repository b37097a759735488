/** The policies by name: the presets, and those of the user's own modules. */
import { HostevacError } from '../../domain/errors.ts';
import type { PolicyBehaviour } from '../policy-behaviour.ts';
import { emergency } from './emergency.ts';
import { maintenance } from './maintenance.ts';
import { rebalance } from './rebalance.ts';

export const PRESET_BEHAVIOURS: ReadonlyMap<string, PolicyBehaviour> = new Map(
  [maintenance, rebalance, emergency].map((behaviour) => [behaviour.name, behaviour]),
);

/** Of the user's first: one that has a preset's name stands in for it. Throws `badInput` for a name that is not known. */
export function behaviourOf(name: string, extra: ReadonlyMap<string, PolicyBehaviour>): PolicyBehaviour {
  const behaviour = extra.get(name) ?? PRESET_BEHAVIOURS.get(name);
  if (behaviour !== undefined) return behaviour;
  const known = [...new Set([...PRESET_BEHAVIOURS.keys(), ...extra.keys()])].sort().join(', ');
  throw new HostevacError('badInput', `no policy is named ${JSON.stringify(name)}; use one of ${known}`);
}
