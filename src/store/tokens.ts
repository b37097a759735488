/**
 * Access tokens of the API, in one cell: who has one, what it allows, and a SHA-256 of its secret. A secret is 32 random
 * bytes, so its hash cannot be guessed back and needs no salt. The token itself is shown once and kept nowhere.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { type Role, roles } from '../domain/access.ts';
import { HostevacError } from '../domain/errors.ts';
import { Cell, type CellStore } from './cell.ts';

const tokenSchema = z.object({
  name: z.string(),
  role: z.enum(roles),
  /** Hex. */
  hash: z.string(),
  /** Wall-clock times, as the next ones. */
  createdAtMs: z.number(),
  createdBy: z.string(),
  /** null: it does not. */
  expiresAtMs: z.number().nullable(),
  revokedAtMs: z.number().nullable(),
});
type StoredToken = z.infer<typeof tokenSchema>;
const tokensSchema = z.record(z.string(), tokenSchema);

/** All that there is to know of a token, without its hash. */
export interface TokenInfo extends Omit<StoredToken, 'hash'> {
  readonly id: string;
  readonly state: 'valid' | 'expired' | 'revoked';
}

export interface NewToken {
  readonly name: string;
  readonly role: Role;
  readonly createdBy: string;
  /** From now on; null: for good. */
  readonly expiresInMs: number | null;
}

/** The tokens as they were read once; checks against it ask nobody. */
export type TokenTable = Readonly<z.infer<typeof tokensSchema>>;

const FORM = /^hev_([0-9a-f]{8})_([A-Za-z0-9_-]{43})$/;
/** Compared with where there is no such token, so that this takes as long. */
const NOBODY = '0'.repeat(64);
const NO_SECRET = 'A'.repeat(43);
/** A bound, so that the cell stays small; expired and revoked ones make room first. */
const MOST = 1_000;

export class Tokens {
  readonly #cell: Cell<z.infer<typeof tokensSchema>>;
  readonly #now: () => number;

  constructor(store: CellStore, now: () => number = Date.now) {
    this.#cell = new Cell(store, 'tokens', tokensSchema, {});
    this.#now = now;
  }

  /** The token's text, for the only time. */
  async create(wanted: NewToken): Promise<{ readonly text: string; readonly info: TokenInfo }> {
    const id = randomBytes(4).toString('hex');
    const secret = randomBytes(32).toString('base64url');
    const atMs = this.#now();
    const token: StoredToken = {
      name: wanted.name,
      role: wanted.role,
      hash: hashOf(secret),
      createdAtMs: atMs,
      createdBy: wanted.createdBy,
      expiresAtMs: wanted.expiresInMs === null ? null : atMs + wanted.expiresInMs,
      revokedAtMs: null,
    };
    await this.#cell.update((tokens) => {
      const room = Object.keys(tokens).length < MOST ? tokens : withoutEnded(tokens, atMs);
      if (Object.keys(room).length >= MOST || Object.hasOwn(room, id)) {
        throw new HostevacError(
          'internal',
          `there are ${MOST} tokens already; revoke some with: hostevac token revoke`,
        );
      }
      return { value: { ...room, [id]: token }, result: undefined };
    });
    return { text: `hev_${id}_${secret}`, info: infoOf(id, token, atMs) };
  }

  /** Newest first. */
  async list(): Promise<TokenInfo[]> {
    const atMs = this.#now();
    const all = Object.entries(await this.#cell.read()).map(([id, token]) => infoOf(id, token, atMs));
    return all.sort((a, b) => b.createdAtMs - a.createdAtMs);
  }

  /** By id. Throws `unknownToken`. False: it was revoked already. */
  revoke(id: string): Promise<boolean> {
    return this.#cell.update((tokens) => {
      const token = Object.hasOwn(tokens, id) ? tokens[id] : undefined;
      if (token === undefined) {
        throw new HostevacError('unknownToken', `there is no token ${JSON.stringify(id)}; see: hostevac token list`);
      }
      if (token.revokedAtMs !== null) return { unchanged: true, result: false };
      return { value: { ...tokens, [id]: { ...token, revokedAtMs: this.#now() } }, result: true };
    });
  }

  /** Forgets all of them: then nobody on the loopback address needs one again. How many there were. */
  forgetAll(): Promise<number> {
    return this.#cell.update((tokens) => ({ value: {}, result: Object.keys(tokens).length }));
  }

  read(): Promise<TokenTable> {
    return this.#cell.read();
  }
}

/**
 * Whose token this is; null: nobody's, whatever the reason. Every text takes the same way: one hash, one comparison of equal
 * length, then the rest is looked at.
 */
export function holderOfToken(table: TokenTable, text: string, nowMs: number): TokenInfo | null {
  const [, id = '', secret = NO_SECRET] = FORM.exec(text) ?? [];
  const token = Object.hasOwn(table, id) ? table[id] : undefined;
  const same = timingSafeEqual(Buffer.from(hashOf(secret), 'hex'), Buffer.from(token?.hash ?? NOBODY, 'hex'));
  const info = token === undefined ? null : infoOf(id, token, nowMs);
  return same && info?.state === 'valid' ? info : null;
}

/** Whether the token of this id may still be used. */
export function isValidToken(table: TokenTable, id: string, nowMs: number): boolean {
  const token = Object.hasOwn(table, id) ? table[id] : undefined;
  return token !== undefined && infoOf(id, token, nowMs).state === 'valid';
}

/** True once a token was made (until all are forgotten): then nobody is let in without one. */
export function needsToken(table: TokenTable): boolean {
  return Object.keys(table).length > 0;
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex');
}

function infoOf(id: string, { hash: _hash, ...token }: StoredToken, nowMs: number): TokenInfo {
  const expired = token.expiresAtMs !== null && token.expiresAtMs <= nowMs;
  return { id, ...token, state: token.revokedAtMs !== null ? 'revoked' : expired ? 'expired' : 'valid' };
}

function withoutEnded(tokens: TokenTable, nowMs: number): TokenTable {
  return Object.fromEntries(Object.entries(tokens).filter(([id, token]) => infoOf(id, token, nowMs).state === 'valid'));
}
