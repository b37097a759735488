/** The controllers by the name that a policy gives. Each lives in a file of its own. */
import { HostevacError } from '../domain/errors.ts';
import type { Policy } from '../domain/policy.ts';
import type { Controller } from './controller.ts';
import { leastHarm } from './least-harm.ts';
import type { PolicyBehaviour } from './policy-behaviour.ts';
import { rfc2011 } from './rfc2011.ts';

/** A state belongs to the controller that made it; whoever drives one passes it back unseen. */
const CONTROLLERS: Readonly<
  Record<Policy['controller'], (behaviours: ReadonlyMap<string, PolicyBehaviour>) => Controller<unknown>>
> = { leastHarm, rfc2011: () => rfc2011 };

/**
 * The controller of that name. `behaviours`: policies of the user's own modules, by name; see docs/policies.md. Throws
 * `badInput` for a name that is not known.
 */
export function controllerFor(
  name: Policy['controller'],
  behaviours: ReadonlyMap<string, PolicyBehaviour> = new Map(),
): Controller<unknown> {
  // A record that a newer version wrote may name one that this version does not have.
  if (!Object.hasOwn(CONTROLLERS, name)) {
    throw new HostevacError(
      'badInput',
      `no controller is named ${JSON.stringify(name)}; use one of ${Object.keys(CONTROLLERS).join(', ')}`,
    );
  }
  return CONTROLLERS[name](behaviours);
}
