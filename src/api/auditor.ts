/**
 * What the audit log is told of requests: everything that changes something, with its outcome, and what was refused. Who is
 * refused again and again must not push out what is worth keeping: of each caller so many refusals an hour are written down,
 * then how many more there were.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { z } from 'zod';
import type { AuditEntry } from '../domain/access.ts';
import type { Live } from './context.ts';

export const REFUSALS_PER_HOUR = 60;
const HOUR_MS = 3_600_000;

type Actor = Pick<AuditEntry, 'actor' | 'role'>;

interface Window {
  readonly who: Actor;
  readonly fromMs: number;
  count: number;
}

/** Counts refusals by caller. There are as many callers as there are tokens, and the one that nobody knows. */
export class Refusals {
  readonly #windows = new Map<string, Window>();

  /** Whether this one is written down. */
  admits(key: string, who: Actor, nowMs: number): boolean {
    const known = this.#windows.get(key);
    const window = known ?? { who, fromMs: nowMs, count: 0 };
    if (known === undefined) this.#windows.set(key, window);
    window.count += 1;
    return window.count <= REFUSALS_PER_HOUR;
  }

  /** Whose hour is over, or everybody's, with how many were not written down; they begin anew. */
  take(nowMs: number, all = false): { readonly who: Actor; readonly unlisted: number }[] {
    const over = [...this.#windows].filter(([, { fromMs }]) => all || nowMs - fromMs >= HOUR_MS);
    for (const [key] of over) this.#windows.delete(key);
    return over
      .map(([, { who, count }]) => ({ who, unlisted: count - REFUSALS_PER_HOUR }))
      .filter(({ unlisted }) => unlisted > 0);
  }
}

const REFUSED: ReadonlySet<number> = new Set([401, 403, 429]);

export class Auditor {
  readonly #log: Logger;
  readonly #refusals = new Refusals();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** Before the answer is sent. Never throws. */
  async tell(request: FastifyRequest, reply: FastifyReply, payload: unknown): Promise<void> {
    const { action } = request.routeOptions.config;
    const { caller, audited, live } = request;
    if (action === undefined || live === null) return;
    const status = reply.statusCode;
    const who = { actor: caller?.name ?? 'unknown', role: caller?.role ?? null };
    const refused = REFUSED.has(status) && audited.done !== true;
    if (refused && !this.#refusals.admits(caller === null ? '' : `${caller.tokenId}`, who, performance.now())) return;
    await this.#append(live, {
      ...who,
      action,
      target: audited.target ?? targetOf(request),
      outcome: outcomeOf(status, audited),
      detail: status < 400 ? (audited.detail ?? '') : `${status} ${codeOf(payload)}`,
    });
  }

  /** What was not written down of those whose hour is over. */
  async summarise(live: Live, all = false): Promise<void> {
    for (const { who, unlisted } of this.#refusals.take(performance.now(), all)) {
      const detail = `${unlisted} more requests were refused and are not listed`;
      await this.#append(live, { ...who, action: 'requests.refused', target: null, outcome: 'refused', detail });
    }
  }

  async #append(live: Live, told: Omit<AuditEntry, 'atMs' | 'via'>): Promise<void> {
    const entry: AuditEntry = { atMs: Date.now(), via: 'api', ...told };
    try {
      await live.backend.audit.append(entry);
    } catch (error) {
      this.#log.error({ err: error, entry }, 'not written to the audit log');
    }
  }
}

const namedSchema = z.object({ id: z.string().optional(), host: z.string().optional() });

function targetOf({ params }: FastifyRequest): string | null {
  const named = namedSchema.safeParse(params).data;
  return named?.id ?? named?.host ?? null;
}

function outcomeOf(status: number, { done, unchanged }: FastifyRequest['audited']): AuditEntry['outcome'] {
  // What was done was done, also where its answer could not be made.
  if (done !== true) {
    if (REFUSED.has(status)) return 'refused';
    if (status >= 400) return 'failed';
  }
  return unchanged === true ? 'unchanged' : 'done';
}

const codedSchema = z.object({ code: z.string() });

function codeOf(payload: unknown): string {
  if (typeof payload !== 'string') return '';
  return codedSchema.safeParse(JSON.parse(payload)).data?.code ?? '';
}
