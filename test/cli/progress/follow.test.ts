import { describe, expect, it } from 'vitest';
import { type FollowOptions, follow, writtenAt } from '../../../src/cli/progress/follow.ts';
import type { ProgressView } from '../../../src/cli/progress/view.ts';
import { HostevacError } from '../../../src/domain/errors.ts';
import type { OperationResult } from '../../../src/domain/operation.ts';
import type { StoredEvent } from '../../../src/store/event-log.ts';
import { host, operation } from '../records.ts';

const event = (n: number): StoredEvent => ({
  streamId: `${n}-0`,
  atMs: n,
  operationId: 'op-1',
  kind: 'move.done',
  vm: null,
  moveId: null,
  message: `event ${n}`,
});
const result: OperationResult = {
  id: 'op-1',
  kind: 'evacuateNode',
  state: 'done',
  host: 'node-a',
  makespanMs: 1,
  empty: true,
  moves: [],
  shutdowns: [],
  skipped: [],
  blocked: [],
};
const away = () => new HostevacError('redisAway', 'Redis at /x does not answer');

class Recorder implements ProgressView {
  readonly told: string[] = [];
  closed = 0;
  event({ message }: StoredEvent): void {
    this.told.push(message);
  }
  snapshot(): void {}
  notice(message: string): void {
    this.told.push(`! ${message}`);
  }
  close(): void {
    this.closed += 1;
  }
}

interface Fake {
  result: (options?: { timeoutMs?: number; signal?: AbortSignal }) => Promise<OperationResult>;
  events: (options?: { after?: string; signal?: AbortSignal }) => AsyncIterable<StoredEvent>;
  record: () => Promise<ReturnType<typeof operation>>;
  hasWorkers: () => Promise<boolean>;
}

function start(over: Partial<Fake>, options: Partial<FollowOptions> = {}) {
  const view = new Recorder();
  const fake: Fake = {
    result: async () => result,
    events: async function* () {
      yield event(1);
    },
    record: async () => operation({ state: 'done' }),
    hasWorkers: async () => true,
    ...over,
  };
  const handle = { id: 'op-1', moves: async () => [], ...fake };
  const producer = { hosts: async () => [host('node-a')], now: async () => 0, hasWorkers: fake.hasWorkers };
  const ended = follow({
    handle,
    producer,
    view,
    signal: new AbortController().signal,
    timeoutMs: null,
    startHint: 'hostevac up',
    times: { poll: 2, workerCheck: 2, retry: 2, patience: 200, drain: 500 },
    ...options,
  });
  return { view, ended };
}

/** Waits for a promise or for the signal, as the real ones do. */
function until<T>(promise: Promise<T>, signal?: AbortSignal): Promise<T> {
  return Promise.race([
    promise,
    new Promise<never>((_resolve, reject) => {
      if (signal?.aborted === true) reject(signal.reason);
      signal?.addEventListener('abort', () => reject(signal.reason));
    }),
  ]);
}

describe('following an operation', () => {
  it('an event is shown with the real time at which it was written, whatever clock the fleet has', () => {
    expect(writtenAt({ streamId: '1795405000123-4' })).toBe(1_795_405_000_123);
    expect(writtenAt({ streamId: '17' })).toBeNull();
  });

  it('shows every event, also those that come after the result', async () => {
    let end: (value: OperationResult) => void = () => undefined;
    const over = new Promise<OperationResult>((resolve) => {
      end = resolve;
    });
    const { view, ended } = start({
      result: () => over,
      async *events() {
        yield event(1);
        end(result);
        await new Promise(setImmediate);
        yield event(2);
      },
    });
    expect((await ended).result).toEqual(result);
    expect(view.told).toEqual(['event 1', 'event 2']);
    expect(view.closed).toBe(1);
  });

  it('Redis away for a moment is told once, and nothing is shown twice', async () => {
    let failures = 3;
    const asked: (string | undefined)[] = [];
    const { view, ended } = start({
      async result() {
        if (failures-- > 0) throw away();
        return result;
      },
      async *events({ after } = {}) {
        asked.push(after);
        if (after === '0') {
          yield event(1);
          throw away();
        }
        yield event(2);
      },
    });
    await ended;
    expect(asked).toEqual(['0', '1-0']);
    expect(view.told.filter((line) => line.startsWith('event'))).toEqual(['event 1', 'event 2']);
    expect(view.told.filter((line) => line.includes('waiting for Redis')).length).toBeGreaterThanOrEqual(1);
  });

  it('Redis away for too long ends the watching with the reason', async () => {
    const gone = async () => {
      throw away();
    };
    const { view, ended } = start({
      result: gone,
      record: gone,
      // biome-ignore lint/correctness/useYield: it fails before it has any
      async *events() {
        throw away();
      },
    });
    await expect(ended).rejects.toMatchObject({ code: 'redisAway' });
    expect(view.told.filter((line) => line.includes('waiting for Redis'))).toHaveLength(1);
    expect(view.closed).toBe(1);
  });

  it('says when no worker is there, and when one has come', async () => {
    let checks = 0;
    let end: (value: OperationResult) => void = () => undefined;
    const over = new Promise<OperationResult>((resolve) => {
      end = resolve;
    });
    const { view, ended } = start({
      result: () => over,
      async hasWorkers() {
        checks += 1;
        if (checks === 5) end(result);
        return checks > 2;
      },
    });
    await ended;
    expect(view.told.filter((line) => line.startsWith('!'))).toEqual([
      '! no worker is running: the operation is kept and is carried out when one starts (hostevac up)',
      '! a worker is running now',
    ]);
  });

  it('an interrupt ends it at once with its reason, and the display is taken away', async () => {
    const controller = new AbortController();
    const never = new Promise<OperationResult>(() => undefined);
    const { view, ended } = start(
      {
        result: ({ signal } = {}) => until(never, signal),
        async *events({ signal } = {}) {
          yield event(1);
          await until(never, signal);
        },
      },
      { signal: controller.signal },
    );
    controller.abort(new Error('Ctrl-C'));
    await expect(ended).rejects.toThrow('Ctrl-C');
    expect(view.closed).toBe(1);
  });

  it('an interrupt does not wait for a Redis that hangs', async () => {
    const controller = new AbortController();
    const hangs = () => new Promise<never>(() => undefined);
    const { ended } = start(
      { result: hangs, record: hangs },
      { signal: controller.signal, times: { poll: 2, workerCheck: 2, retry: 2, patience: 200, drain: 5 } },
    );
    controller.abort(new Error('Ctrl-C'));
    await expect(ended).rejects.toThrow('Ctrl-C');
  });

  it('a timeout is passed on', async () => {
    const { ended } = start(
      {
        async result({ timeoutMs } = {}) {
          throw new HostevacError('timeout', `after ${Math.round((timeoutMs ?? 0) / 1_000)} s`);
        },
      },
      { timeoutMs: 5_000 },
    );
    await expect(ended).rejects.toMatchObject({ code: 'timeout', message: 'after 5 s' });
  });

  it('a fault of ours while drawing is not waited out', async () => {
    const { ended } = start({
      record: async () => {
        throw new TypeError('x is not a function');
      },
    });
    await expect(ended).rejects.toThrow('x is not a function');
  });
});
