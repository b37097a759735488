/**
 * Asks a policy for its choice. A user's module is not trusted with the requirements: it is shown a frozen copy, what it
 * chose is looked up in the untouched view, and where it fails the built-in choice stands in. It is called in this process,
 * so one that never returns is not helped. Pure.
 */
import { chooseLeastHarm } from './policies/least-harm-choice.ts';
import type { Candidate, Choice, PolicyBehaviour, PolicyView } from './policy-behaviour.ts';

/** Of what a policy says, so many characters are kept. */
const WORDS_KEPT = 300;

/** What the policy chose, if it may; else what the built-in choice would be, and what was wrong. Never throws for its faults. */
export function chosen(behaviour: PolicyBehaviour, view: PolicyView): { choice: Choice; fault: string | null } {
  const instead = (fault: string) => ({ choice: chooseLeastHarm(view), fault: `policy ${behaviour.name} ${fault}` });
  try {
    const shown = copyOf(view);
    // A user's module may return anything.
    const answer: unknown = behaviour.choose(shown);
    const picked = isRecord(answer) ? answer['candidate'] : undefined;
    const candidate = offered(picked, shown, view);
    if (candidate === undefined) return instead('chose what it was not offered');
    const why = isRecord(answer) ? answer['why'] : undefined;
    return {
      choice: { candidate, why: typeof why === 'string' ? cut(why) : 'the policy gives no reason' },
      fault: null,
    };
  } catch (error) {
    const what = error instanceof Error ? error.message : error;
    return instead(`failed: ${typeof what === 'string' ? cut(what) : 'it threw what is no error'}`);
  }
}

/** The untouched one that is meant: the very copy that was shown, or one with its share and beginning. */
function offered(picked: unknown, shown: PolicyView, { candidates }: PolicyView): Candidate | undefined {
  const copies: readonly unknown[] = shown.candidates;
  const index = copies.indexOf(picked);
  if (index >= 0) return candidates[index];
  if (!isRecord(picked)) return undefined;
  const { share, begins } = picked;
  return candidates.find((candidate) => candidate.share === share && candidate.begins === begins);
}

function copyOf(view: PolicyView): PolicyView {
  const { policy, candidates } = view;
  const precedence = [...policy.precedence];
  Object.freeze(precedence);
  return Object.freeze({
    ...view,
    policy: Object.freeze({ ...policy, precedence }),
    candidates: Object.freeze(candidates.map(copyOfOne)),
  });
}

/** Its prediction, too, is made only when it is read. */
function copyOfOne(candidate: Candidate): Candidate {
  const { share, begins, expectedHarmCpuMs, expectedTotalMs, expectedEndMs, endsInTime } = candidate;
  return Object.freeze({
    share,
    begins,
    expectedHarmCpuMs,
    expectedTotalMs,
    expectedEndMs,
    endsInTime,
    get prediction() {
      return structuredClone(candidate.prediction);
    },
  });
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function cut(words: string): string {
  return words.length > WORDS_KEPT ? `${words.slice(0, WORDS_KEPT - 3)}...` : words;
}
