/** Reads server-sent events, for tests: to the end of a stream, or step by step. */

export interface Received {
  readonly id: string | null;
  readonly event: string;
  readonly data: string;
}

export interface OpenStream {
  readonly response: Response;
  /** The next event; null: the stream has ended. */
  next(): Promise<Received | null>;
  close(): Promise<void>;
}

export async function openEvents(url: string, headers: Readonly<Record<string, string>> = {}): Promise<OpenStream> {
  const abort = new AbortController();
  const response = await fetch(url, { headers, signal: abort.signal });
  if (response.status !== 200 || response.body === null) throw new Error(`${response.status} ${await response.text()}`);
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  return {
    response,
    async next() {
      for (;;) {
        const end = text.indexOf('\n\n');
        if (end >= 0) {
          const block = text.slice(0, end);
          text = text.slice(end + 2);
          const event = parse(block);
          if (event !== null) return event;
          continue;
        }
        const { done, value } = await reader.read();
        if (done) return null;
        text += decoder.decode(value, { stream: true });
      }
    },
    close: async () => {
      abort.abort();
      await reader.cancel().catch(() => undefined);
    },
  };
}

/** All events of a stream that ends. */
export async function readEvents(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Received[]> {
  const stream = await openEvents(url, headers);
  const received: Received[] = [];
  for (let event = await stream.next(); event !== null; event = await stream.next()) received.push(event);
  return received;
}

function parse(block: string): Received | null {
  const fields = new Map(
    block
      .split('\n')
      .map((line) => /^([a-z]+): (.*)$/.exec(line))
      .flatMap((match) => (match === null ? [] : [[match[1] ?? '', match[2] ?? ''] as const])),
  );
  const event = fields.get('event');
  return event === undefined ? null : { id: fields.get('id') ?? null, event, data: fields.get('data') ?? '' };
}
