/** A list that the server gives a page at a time: the newest page stays fresh, older ones are added behind it. */
import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';
import { type Live, useLive, useServer } from '../net/hooks.ts';
import type { News } from '../net/server.ts';

interface PageOf<Item> {
  readonly items: Item[];
  readonly next: string | null;
}

export interface Paged<Item> extends Omit<Live<PageOf<Item>>, 'data'> {
  /** null: not had yet. */
  readonly items: readonly Item[] | null;
  /** null: that was all. */
  readonly more: (() => void) | null;
}

/** `path` has its query already (`/v1/audit?limit=50`). `keyOf`: items that come twice are shown once. */
export function usePaged<Item>(
  path: string,
  keyOf: (item: Item) => string,
  options: { readonly concerns?: (news: News) => boolean; readonly everyMs?: number } = {},
): Paged<Item> {
  const server = useServer();
  const first = useLive<PageOf<Item>>(path, options);
  const [older, setOlder] = useState<{ readonly items: readonly Item[]; readonly next: string | null } | null>(null);
  useEffect(() => setOlder(null), [path]);
  const next = older === null ? (first.data?.next ?? null) : older.next;
  const more = async (): Promise<void> => {
    if (next === null) return;
    const page = await server.request<PageOf<Item>>('GET', `${path}&cursor=${encodeURIComponent(next)}`);
    setOlder({ items: [...(older?.items ?? []), ...page.items], next: page.next });
  };
  const seen = new Set<string>();
  const items =
    first.data === null
      ? null
      : [...first.data.items, ...(older?.items ?? [])].filter((item) => {
          const key = keyOf(item);
          if (seen.has(key)) return false;
          seen.add(key);
          return true;
        });
  return {
    items,
    problem: first.problem,
    refresh: first.refresh,
    more: next === null ? null : () => void more().catch(() => undefined),
  };
}

/** Below the list; not there when that was all. */
export function MoreButton({
  more,
  children,
}: {
  readonly more: (() => void) | null;
  readonly children: ComponentChildren;
}) {
  if (more === null) return null;
  return (
    <p class="more-button">
      <button type="button" class="button" onClick={more}>
        {children}
      </button>
    </p>
  );
}
