/**
 * Lives in which some requests wait for approval, which somebody gives, often to a plan that cannot be carried out any more.
 * Drawn from a stream of its own: all other lives stay what they were.
 */
import { Random } from './random.ts';
import { type Planned, type Scenario, TROUBLE_MS } from './scenario.ts';

const LIVES = 0.2;

export function withApproval(scenario: Scenario): Scenario {
  const random = new Random(scenario.seed, 'approvals');
  if (!random.happens(LIVES)) return scenario;
  const approvals: Planned[] = [];
  let operation = 0;
  const acts = scenario.acts.map((planned): Planned => {
    const { act, atMs } = planned;
    if (act.kind !== 'evacuate' && act.kind !== 'balance') return planned;
    const mine = operation;
    operation += 1;
    if (random.happens(0.2)) return planned;
    for (let left = random.whole(0, 3); left > 0; left -= 1) {
      const laterMs = Math.min(TROUBLE_MS, atMs + Math.round(random.skewed(500, 60_000)));
      approvals.push({ atMs: laterMs, act: { kind: 'approve', operation: mine } });
    }
    return { atMs, act: { ...act, terms: { ...act.terms, approveFirst: true } } };
  });
  return { ...scenario, acts: [...acts, ...approvals].sort((one, other) => one.atMs - other.atMs) };
}
