/** A plan made before is played pass by pass, with what is offered. */
import { describe, expect, test } from 'vitest';
import { candidateOf, viewOf } from '../../convergence/made-up.ts';
import { playing } from './planned.ts';

/** By descending share. */
const OFFERED = [
  candidateOf(1, 0),
  ...[0.5, 0.2, 0.1].flatMap((share) => [candidateOf(share, 0), candidateOf(share, 0, { begins: 'nextPass' })]),
];

/** What is chosen, and what the guest is held to by it. */
function chosen(shares: readonly number[], pass: number): string {
  const { behaviour, shareFor } = playing(shares);
  const { share, begins } = behaviour.choose(viewOf(OFFERED, { pass })).candidate;
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
