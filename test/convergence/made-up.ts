/** What a policy is shown, made up. */
import type { Candidate, PolicyView } from '../../src/convergence/policy-behaviour.ts';
import { POLICY_PRESETS } from '../../src/domain/policy.ts';

export const PREDICTION: Candidate['prediction'] = {
  totalMs: { value: 1, low: 1, high: 1 },
  downtimeMs: { value: 1, low: 1, high: 1 },
  transferredBytes: { value: 1, low: 1, high: 1 },
  harmCpuMs: { value: 1, low: 1, high: 1 },
  meanShare: 1,
  minShare: 1,
  endsInTime: 1,
};

export const candidateOf = (
  share: number,
  expectedHarmCpuMs: number,
  { begins = 'now', expectedTotalMs = 5_000, expectedEndMs = expectedTotalMs, endsInTime = 1 }: Partial<Candidate> = {},
): Candidate => ({
  share,
  begins,
  expectedHarmCpuMs,
  expectedTotalMs,
  expectedEndMs,
  endsInTime,
  prediction: PREDICTION,
});

export function viewOf(candidates: readonly Candidate[], more: Partial<PolicyView> = {}): PolicyView {
  return {
    policy: POLICY_PRESETS.maintenance,
    candidates,
    elapsedMs: 2_000,
    pass: 2,
    timeLeftMs: 598_000,
    spentHarmCpuMs: 0,
    leastHarmCpuMs: candidates.reduce((least, each) => Math.min(least, each.expectedHarmCpuMs), 9_000),
    share: 1,
    demandCores: 1,
    othersWait: false,
    ...more,
  };
}
