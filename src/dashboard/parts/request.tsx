/** The way from a request that is being put together to an operation: preview, then start, or start for approval. */
import { useEffect, useRef, useState } from 'preact/hooks';
import { freshKey } from '../lib/draft.ts';
import { hrefOf } from '../lib/route.ts';
import { useServer } from '../net/hooks.ts';
import { asError, NotReached } from '../net/problem.ts';
import type { Accepted, Plan } from '../net/types.ts';
import { useAnnounce } from './announce.tsx';
import { Confirm } from './dialog.tsx';
import { PlanView } from './plan.tsx';
import { Loading, Problem } from './small.tsx';

/** While somebody types, nothing is asked. */
const SETTLE_MS = 300;

export function PreviewAndStart({
  kind,
  body,
  title,
}: {
  readonly kind: 'evacuateNode' | 'loadBalance';
  /** null: not yet a request. */
  readonly body: object | null;
  readonly title: string;
}) {
  const server = useServer();
  const announce = useAnnounce();
  const [plan, setPlan] = useState<Plan | null>(null);
  const [problem, setProblem] = useState<Error | null>(null);
  const [asking, setAsking] = useState(false);
  const [busy, setBusy] = useState(false);
  const text = body === null ? null : JSON.stringify(body);
  const key = useRef({ text, key: '' });
  if (key.current.text !== text || key.current.key === '') {
    key.current = { text, key: freshKey((bytes) => crypto.getRandomValues(bytes)) };
  }
  useEffect(() => {
    if (text === null) {
      setPlan(null);
      setProblem(null);
      return undefined;
    }
    const stop = new AbortController();
    const timer = setTimeout(async () => {
      try {
        const request = JSON.parse(text) as object;
        const made = await server.request<Plan>('POST', '/v1/plans', { [kind]: request }, { signal: stop.signal });
        setPlan(made);
        setProblem(null);
      } catch (error) {
        if (stop.signal.aborted || error instanceof NotReached) return;
        setPlan(null);
        setProblem(asError(error));
      }
    }, SETTLE_MS);
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [server, kind, text]);

  const start = async (approveFirst: boolean): Promise<void> => {
    if (text === null) return;
    setBusy(true);
    try {
      const path = kind === 'evacuateNode' ? '/v1/evacuations' : '/v1/rebalances';
      const request = { ...(JSON.parse(text) as object), ...(approveFirst ? { approveFirst: true } : {}) };
      const accepted = await server.request<Accepted>('POST', path, request, {
        headers: { 'idempotency-key': approveFirst ? `${key.current.key}-approve` : key.current.key },
      });
      announce(
        accepted.acceptance === 'joined' ? 'An evacuation of this host was running already: here it is.' : 'Started.',
      );
      window.location.hash = hrefOf({ page: 'operation', id: accepted.id });
    } finally {
      setBusy(false);
    }
  };
  const forApproval = (): void => {
    start(true).catch((error: unknown) => setProblem(asError(error)));
  };
  const nothing = plan !== null && plan.moves.length + plan.shutdowns.length === 0;
  return (
    <section class="card" aria-labelledby="plan-title">
      <div class="card-head">
        <h2 id="plan-title">Plan</h2>
        <div class="actions">
          <button type="button" class="button" disabled={plan === null || nothing || busy} onClick={forApproval}>
            Start for approval
          </button>
          <button
            type="button"
            class="button primary"
            disabled={plan === null || nothing || busy}
            onClick={() => setAsking(true)}
          >
            Start…
          </button>
        </div>
      </div>
      <Problem problem={problem} />
      {plan !== null ? (
        <PlanView plan={plan} />
      ) : text === null ? (
        <p class="hint">What is to be moved comes first.</p>
      ) : (
        problem === null && <Loading what="the plan" />
      )}
      {plan !== null && (
        <p class="hint">As it would be now. When it starts it is planned anew, with what is known then.</p>
      )}
      {asking && plan !== null && (
        <Confirm title={title} action="Start" onConfirm={() => start(false)} onClose={() => setAsking(false)}>
          <p>
            {plan.moves.length === 1 ? '1 VM moves' : `${plan.moves.length} VMs move`}
            {plan.shutdowns.length > 0 && `, ${plan.shutdowns.length} will be shut down`}
            {plan.blocked.length > 0 && `, ${plan.blocked.length} cannot be moved`}. It can be paused and cancelled at
            any time.
          </p>
        </Confirm>
      )}
    </section>
  );
}
