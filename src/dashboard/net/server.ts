/**
 * The server as the pages see it: requests with the token, one stream of what changes, and whether it can be reached. A
 * page keeps what it shows while the server is away; the stream tries again by itself, and when it is back everybody is told
 * to look anew.
 */
import { ApiProblem, NotReached, problemOf } from './problem.ts';
import { keepToken, readToken } from './session.ts';
import { followEvents } from './stream.ts';
import type { Changed, Me, OperationEvent } from './types.ts';

export type Link =
  | { readonly state: 'connecting' }
  | { readonly state: 'connected' }
  /** `sinceMs`: the last time that anything was heard of it (this browser's clock). */
  | { readonly state: 'away'; readonly sinceMs: number; readonly why: string };

/** What a page is told: everything may be new; hosts are; these operations are; something happened. */
export type News =
  | { readonly kind: 'everything' }
  | { readonly kind: 'hosts' }
  | { readonly kind: 'operations'; readonly ids: readonly string[] }
  | { readonly kind: 'event'; readonly event: OperationEvent };

const REQUEST_LIMIT_MS = 15_000;
/** Nothing heard for so long on the stream: the server is asked whether it is there. */
const QUIET_MS = 20_000;

export class Server {
  #link: Link = { state: 'connecting' };
  #heardMs = Date.now();
  #me: Me | null = null;
  #refused = false;
  readonly #watchers = new Set<() => void>();
  readonly #listeners = new Set<(news: News) => void>();
  #lastId = '';
  #stream: AbortController | null = null;

  get link(): Link {
    return this.#link;
  }
  get me(): Me | null {
    return this.#me;
  }
  /** It answered 401: it wants a token, or another one. */
  get refused(): boolean {
    return this.#refused;
  }

  /** Told when `link`, `me` or `refused` changed. */
  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  listen(listener: (news: News) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Asks who we are, and follows what happens. Again after a token was given. */
  async start(): Promise<void> {
    this.stop();
    const stream = new AbortController();
    this.#stream = stream;
    for (let wait = 500; !stream.signal.aborted; wait = Math.min(5_000, wait * 2)) {
      try {
        this.#me = await this.request<Me>('GET', '/v1/me');
        this.#refused = false;
        this.#changed();
        // What was not looked at meanwhile.
        this.#tell({ kind: 'everything' });
        break;
      } catch (error) {
        // Refused: the form for a token starts it again. Else it will be there, or in its right mind, some time.
        if (this.#refused) return;
        if (error instanceof ApiProblem) this.lost(error.message);
        await pause(wait, stream.signal);
      }
    }
    if (!stream.signal.aborted) void this.#follow(stream.signal);
  }

  /** No connection is held for a tab that nobody sees: a browser has six for all tabs. */
  stop(): void {
    this.#stream?.abort();
    this.#stream = null;
  }

  async signIn(token: string): Promise<void> {
    keepToken(token);
    await this.start();
  }

  signOut(): void {
    keepToken(null);
    this.#me = null;
    this.#lastId = '';
    void this.start();
  }

  headers(more: Readonly<Record<string, string>> = {}): Record<string, string> {
    const token = readToken();
    return { ...(token === null ? {} : { authorization: `Bearer ${token}` }), ...more };
  }

  /** Throws `ApiProblem` with what the server says, `NotReached` when nobody answers. */
  async request<T>(
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    path: string,
    body?: unknown,
    options: {
      readonly signal?: AbortSignal;
      readonly headers?: Readonly<Record<string, string>>;
      readonly limitMs?: number;
    } = {},
  ): Promise<T> {
    const limit = AbortSignal.timeout(options.limitMs ?? REQUEST_LIMIT_MS);
    const signal = options.signal === undefined ? limit : AbortSignal.any([limit, options.signal]);
    let response: Response;
    let text: string;
    try {
      response = await fetch(path, {
        method,
        signal,
        cache: 'no-store',
        credentials: 'omit',
        headers: this.headers({
          accept: 'application/json',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...options.headers,
        }),
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      text = await response.text();
    } catch (error) {
      if (options.signal?.aborted === true) throw error;
      this.lost('the server does not answer');
      throw new NotReached();
    }
    if (response.ok) {
      this.heard();
      return (text === '' ? null : JSON.parse(text)) as T;
    }
    const problem = problemOf(response.status, text);
    if (response.status === 401) this.#refuse();
    if (response.status >= 502 && response.status <= 504) {
      this.lost(problem.message);
      throw new NotReached(problem.message);
    }
    this.heard();
    throw problem;
  }

  /** Anything that came from it. */
  heard(): void {
    this.#heardMs = Date.now();
    if (this.#link.state === 'connected') return;
    const back = this.#link.state === 'away';
    this.#link = { state: 'connected' };
    this.#changed();
    if (back) this.#tell({ kind: 'everything' });
  }

  lost(why: string): void {
    if (this.#link.state === 'away') return;
    this.#link = { state: 'away', sinceMs: this.#heardMs, why };
    this.#changed();
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const asking = setInterval(() => {
      if (Date.now() - this.#heardMs > QUIET_MS) void this.request('GET', '/v1/me').catch(() => undefined);
    }, 5_000);
    signal.addEventListener('abort', () => clearInterval(asking));
    await followEvents(this, '/v1/events', {
      signal,
      lastId: this.#lastId,
      onEvent: (event) => {
        this.#lastId = event.id;
        if (event.event === 'changed') {
          const changed = JSON.parse(event.data) as Changed;
          if (changed.hosts === true) this.#tell({ kind: 'hosts' });
          if (changed.operations !== undefined) this.#tell({ kind: 'operations', ids: changed.operations });
        } else {
          this.#tell({ kind: 'event', event: JSON.parse(event.data) as OperationEvent });
        }
      },
    }).catch((error: unknown) => {
      if (!(error instanceof ApiProblem)) throw error;
    });
    clearInterval(asking);
  }

  #refuse(): void {
    this.#refused = true;
    this.#me = null;
    this.stop();
    this.#changed();
  }

  #changed(): void {
    for (const watcher of this.#watchers) watcher();
  }

  #tell(news: News): void {
    for (const listener of this.#listeners) listener(news);
  }
}

/** Ends early when aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done(): void {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    }
    signal.addEventListener('abort', done);
  });
}
