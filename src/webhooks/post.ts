/** One request to a receiver: bounded in time and in what is read of the answer, no redirect followed, certificates checked. */
import { packageVersion } from '../runtime/package-version.ts';
import type { Endpoint } from './endpoints.ts';
import { type Message, signature } from './message.ts';

/** `refused`: the receiver does not want this one; trying again hardly helps. `failed`: it is away, overloaded or broken. */
export type Answer = { readonly kind: 'taken' } | { readonly kind: 'refused' | 'failed'; readonly why: string };

const TIMEOUT_MS = 10_000;
/** Of an answer's body nothing is used; so much is read that the connection can be used again. */
const READ_BYTES = 16_384;
/** Not the event's fault. */
const TRANSIENT: ReadonlySet<number> = new Set([408, 409, 425, 429]);

/** Never rejects. */
export async function post(
  { webhook, secret }: Endpoint,
  { id, body }: Message,
  options: { readonly signal: AbortSignal; readonly timeoutMs?: number },
): Promise<Answer> {
  const timeout = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
  try {
    const response = await fetch(webhook.url, {
      method: 'POST',
      body,
      redirect: 'manual',
      signal: AbortSignal.any([options.signal, timeout]),
      headers: {
        'content-type': 'application/json',
        'user-agent': `hostevac/${packageVersion()}`,
        'hostevac-event-id': id,
        'hostevac-signature': signature(secret, body, Math.floor(Date.now() / 1_000)),
      },
    });
    await drain(response);
    const { status } = response;
    if (status >= 200 && status < 300) return { kind: 'taken' };
    const why = status >= 300 && status < 400 ? `HTTP ${status}; redirects are not followed` : `HTTP ${status}`;
    return { kind: status >= 500 || TRANSIENT.has(status) ? 'failed' : 'refused', why };
  } catch (error) {
    if (timeout.aborted) return { kind: 'failed', why: 'no answer in time' };
    return { kind: 'failed', why: whyOf(error) };
  }
}

async function drain(response: Response): Promise<void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  let read = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    read += value.byteLength;
    if (read > READ_BYTES) {
      await reader.cancel();
      return;
    }
  }
}

/** fetch says "fetch failed", and what it was in its cause. */
function whyOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  if (!(cause instanceof Error)) return error.message;
  return 'code' in cause && cause.message === '' ? String(cause.code) : cause.message;
}
