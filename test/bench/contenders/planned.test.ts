/** A plan made before is played pass by pass, with what is offered. */
import { describe, expect, test } from 'vitest';
import type { Candidate, PolicyView } from '../../../src/convergence/policy-behaviour.ts';
import { POLICY_PRESETS } from '../../../src/domain/policy.ts';
import { playing } from './planned.ts';

const PREDICTION = {
  totalMs: { value: 1, low: 1, high: 1 },
  downtimeMs: { value: 1, low: 1, high: 1 },
  transferredBytes: { value: 1, low: 1, high: 1 },
  harmCpuMs: { value: 1, low: 1, high: 1 },
  meanShare: 1,
  minShare: 1,
  endsInTime: 1,
};

function candidate(share: number, begins: Candidate['begins']): Candidate {
  const figures = { expectedHarmCpuMs: 0, expectedTotalMs: 0, expectedEndMs: 0, endsInTime: 1, prediction: PREDICTION };
  return { share, begins, ...figures };
}

/** By descending share. */
const OFFERED = [1, 0.5, 0.2, 0.1].flatMap((share) =>
  share === 1 ? [candidate(1, 'now')] : [candidate(share, 'now'), candidate(share, 'nextPass')],
);

/** What is chosen, and what the guest is held to by it. */
function chosen(shares: readonly number[], pass: number): string {
  const view: PolicyView = {
    policy: POLICY_PRESETS.maintenance,
    candidates: OFFERED,
    elapsedMs: 0,
    pass,
    timeLeftMs: 60_000,
    spentHarmCpuMs: 0,
    leastHarmCpuMs: 0,
    share: 1,
    demandCores: 1,
    othersWait: false,
  };
  const { behaviour, shareFor } = playing(shares);
  const { share, begins } = behaviour.choose(view).candidate;
  return `${share} ${begins}, ${shareFor(share)}`;
}

describe('a plan', () => {
  test('lets the guest run free and holds it back from the pass on that was planned', () => {
    expect(chosen([1, 1, 0.1], 0)).toBe('1 now, 1');
    expect(chosen([1, 0.995, 0.1], 1)).toBe('1 now, 1');
    expect(chosen([1, 1, 0.1], 2)).toBe('0.1 nextPass, 0.1');
    expect(chosen([1, 1, 0.1], 3)).toBe('0.1 now, 0.1');
  });

  test('holds its last share until the end, exactly, whatever is offered', () => {
    expect(chosen([0.5, 0.3], 1)).toBe('0.5 now, 0.5');
    expect(chosen([0.5, 0.3], 2)).toBe('0.2 now, 0.3');
    expect(chosen([0.5, 0.3], 9)).toBe('0.2 now, 0.3');
    expect(chosen([0.95], 1)).toBe('0.5 now, 0.95');
    expect(chosen([0.05], 1)).toBe('0.1 now, 0.05');
  });
});
