/** What happened to an operation, as it happens. */
import { useRef, useState } from 'preact/hooks';
import { printable, sinceText } from '../lib/words.ts';
import { useStream } from '../net/hooks.ts';
import type { OperationEvent } from '../net/types.ts';
import { useAnnounce } from './announce.tsx';
import { Empty } from './small.tsx';

const KEPT = 500;
interface Kept extends OperationEvent {
  readonly id: string;
}

export function EventsLog({
  path,
  startMs,
  ended,
}: {
  readonly path: string;
  readonly startMs: number;
  readonly ended: boolean;
}) {
  const announce = useAnnounce();
  const [events, setEvents] = useState<readonly Kept[]>([]);
  const lastId = useRef('');
  // What had happened before somebody looked is not news.
  const wasOver = useRef(ended);
  const openedMs = useRef(0);
  useStream(
    path,
    ({ id, data }) => {
      lastId.current = id;
      const event: Kept = { ...(JSON.parse(data) as OperationEvent), id };
      setEvents((before) => (before.some((each) => each.id === id) ? before : [...before, event].slice(-KEPT)));
      if (!wasOver.current && performance.now() - openedMs.current > 1_000) announce(event.message);
    },
    {
      lastId,
      opened: () => {
        openedMs.current = performance.now();
      },
    },
  );
  if (events.length === 0) return <Empty title="Nothing has happened yet." />;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached with the keyboard
    <ol class="events" tabIndex={0} aria-label="Events, newest first">
      {events.toReversed().map((event) => (
        <li key={event.id}>
          <span class="events-when">{sinceText(event.atMs - startMs)}</span>
          <span>{printable(event.message)}</span>
        </li>
      ))}
    </ol>
  );
}
