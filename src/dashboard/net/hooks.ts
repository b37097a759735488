/** What pages use of the server: data that stays fresh, and whether it can be reached. */
import { createContext } from 'preact';
import { useCallback, useContext, useEffect, useReducer, useRef, useState } from 'preact/hooks';
import { ENDED_OPERATION_STATES } from '../../domain/states.ts';
import { type PolicyChoice, policyChoices } from '../lib/policies.ts';
import type { ServerEvent } from '../lib/sse.ts';
import { ApiProblem } from './problem.ts';
import type { Link, News, Server } from './server.ts';
import { followEvents } from './stream.ts';
import type { Me, OperationPage, OperationSummary, Policies } from './types.ts';

export const ServerContext = createContext<Server | null>(null);

export function useServer(): Server {
  const server = useContext(ServerContext);
  if (server === null) throw new Error('no server in the context');
  return server;
}

export function useSession(): { readonly link: Link; readonly me: Me | null; readonly refused: boolean } {
  const server = useServer();
  const [, again] = useReducer((n: number) => n + 1, 0);
  useEffect(() => server.watch(() => again(undefined)), [server]);
  return { link: server.link, me: server.me, refused: server.refused };
}

const RANK = { viewer: 0, operator: 1, admin: 2 } as const;

/** Whether this caller may do what needs the role. */
export function useMay(role: keyof typeof RANK): boolean {
  const { me } = useSession();
  return me !== null && RANK[me.role] >= RANK[role];
}

export interface Live<T> {
  /** The last that was had; stays while the server is away. */
  readonly data: T | null;
  readonly problem: ApiProblem | null;
  readonly refresh: () => void;
}

/** News come in bursts; one look answers them all. */
const SETTLE_MS = 120;

/**
 * Fetched now, on news that concern it, after the server was away, and every `everyMs`. `path` null: nothing is fetched.
 */
export function useLive<T>(
  path: string | null,
  options: { readonly concerns?: (news: News) => boolean; readonly everyMs?: number } = {},
): Live<T> {
  const server = useServer();
  const [data, setData] = useState<{ readonly path: string; readonly value: T } | null>(null);
  const [problem, setProblem] = useState<ApiProblem | null>(null);
  const concerns = useRef(options.concerns);
  concerns.current = options.concerns;
  const { everyMs } = options;
  const wanted = useRef<() => void>(() => undefined);

  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    let busy = false;
    let again = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      clearTimeout(timer);
      try {
        const value = await server.request<T>('GET', path, undefined, { signal: stop.signal });
        if (!stop.signal.aborted) {
          setData({ path, value });
          setProblem(null);
        }
      } catch (error) {
        if (!stop.signal.aborted && error instanceof ApiProblem) setProblem(error);
      }
      busy = false;
      if (stop.signal.aborted) return;
      if (again) {
        again = false;
        timer = setTimeout(look, SETTLE_MS);
      } else if (everyMs !== undefined && !document.hidden) {
        timer = setTimeout(look, everyMs);
      }
    };
    wanted.current = () => void look();
    const forget = server.listen((news) => {
      if (news.kind !== 'everything' && concerns.current?.(news) !== true) return;
      clearTimeout(timer);
      timer = setTimeout(look, SETTLE_MS);
    });
    void look();
    return () => {
      stop.abort();
      clearTimeout(timer);
      forget();
    };
  }, [server, path, everyMs]);

  const refresh = useCallback(() => wanted.current(), []);
  // What another path had is not this one's.
  return { data: data !== null && data.path === path ? data.value : null, problem, refresh };
}

/** Those of the newest hundred that have not ended; none before they are had. */
export function useOpenOperations(everyMs?: number): readonly OperationSummary[] {
  const { data } = useLive<OperationPage>('/v1/operations?limit=100', {
    concerns: (news) => news.kind === 'operations',
    ...(everyMs === undefined ? {} : { everyMs }),
  });
  return (data?.items ?? []).filter(({ state }) => !ENDED_OPERATION_STATES.has(state));
}

/** The policies that may be chosen: they change with the server only. */
export function usePolicyChoices(): PolicyChoice[] {
  const { data } = useLive<Policies>('/v1/policies');
  return policyChoices(data);
}

/**
 * Follows a stream while somebody sees the tab. Seen again, it goes on behind `lastId`, or from the beginning without one;
 * `opened` is told every time.
 */
export function useStream(
  path: string,
  onEvent: (event: ServerEvent) => void,
  options: { readonly lastId?: { readonly current: string }; readonly opened?: () => void } = {},
): void {
  const server = useServer();
  const listener = useRef({ onEvent, ...options });
  listener.current = { onEvent, ...options };
  useEffect(() => {
    let stop: AbortController | null = null;
    const seen = (): void => {
      stop?.abort();
      if (document.hidden) return;
      stop = new AbortController();
      const { lastId, opened } = listener.current;
      opened?.();
      followEvents(server, path, {
        signal: stop.signal,
        lastId: lastId?.current ?? '',
        onEvent: (event) => listener.current.onEvent(event),
      }).catch(() => undefined);
    };
    seen();
    document.addEventListener('visibilitychange', seen);
    return () => {
      document.removeEventListener('visibilitychange', seen);
      stop?.abort();
    };
  }, [server, path]);
}
