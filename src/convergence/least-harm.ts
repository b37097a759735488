/** The controller that decides by a model of the guest. For now it lets every guest run free. */
import type { Controller } from './controller.ts';
import type { PolicyBehaviour } from './policy-behaviour.ts';

export function leastHarm(_behaviours: ReadonlyMap<string, PolicyBehaviour>): Controller<unknown> {
  return {
    name: 'leastHarm',
    start: () => null,
    decide: (_state, _sample, { maxStallMs, maxBandwidthBytesPerSec }) => ({
      action: { kind: 'run', share: 1, maxStallMs, lookAgainMs: null, maxBandwidthBytesPerSec },
      reason: '100%: runs free',
      next: null,
      relaxed: [],
      prediction: null,
      evidence: [],
      notes: [],
    }),
  };
}
