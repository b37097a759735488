/**
 * Who asked for what, and what came of it: one stream for the fleet, `<prefix>:audit`, appended to and never changed. The
 * newest entries are kept, about as many as `AUDIT_KEPT`; older ones go as new ones come.
 */
import type { Redis } from 'ioredis';
import { type AuditEntry, auditEntrySchema } from '../domain/access.ts';
import { reachable } from './redis-script.ts';

export const AUDIT_KEPT = 20_000;

/** What somebody else wrote into a request must not fill the log. */
const MOST_CHARS = 500;

export class AuditLog {
  readonly #redis: Redis;
  readonly #key: string;

  constructor(redis: Redis, prefix: string) {
    this.#redis = redis;
    this.#key = `${prefix}:audit`;
  }

  async append(entry: AuditEntry): Promise<void> {
    const short = (text: string): string => (text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)}…` : text);
    const kept = {
      ...entry,
      actor: short(entry.actor),
      detail: short(entry.detail),
      target: entry.target === null ? null : short(entry.target),
    };
    const added = this.#redis.xadd(this.#key, 'MAXLEN', '~', AUDIT_KEPT, '*', 'e', JSON.stringify(kept));
    await reachable(this.#redis, added);
  }

  /** Newest first. `before`: the `next` of the page before. */
  async read(limit: number, before: string | null): Promise<{ items: AuditEntry[]; next: string | null }> {
    const end = before === null ? '+' : `(${before}`;
    const found = await reachable(this.#redis, this.#redis.xrevrange(this.#key, end, '-', 'COUNT', limit));
    const items = found.flatMap(([, fields]) => entryOf(fields[1]) ?? []);
    return { items, next: found.length < limit ? null : (found.at(-1)?.[0] ?? null) };
  }
}

/** null: whoever wrote it was no hostevac, or a later one. The others are told all the same. */
function entryOf(text: string | undefined): AuditEntry | null {
  try {
    return auditEntrySchema.parse(JSON.parse(text ?? 'null'));
  } catch {
    return null;
  }
}
