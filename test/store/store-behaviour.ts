/**
 * What cells, wake-ups and event logs promise, whatever keeps them. Runs on memory and on Redis. Two of everything stand
 * for two processes.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { z } from 'zod';
import type { OperationEvent } from '../../src/domain/operation.ts';
import { Cell, type CellStore, type Wakeups } from '../../src/store/cell.ts';
import type { EventLog } from '../../src/store/event-log.ts';

export interface StoreHarness {
  readonly cells: readonly [CellStore, CellStore];
  readonly wakeups: readonly [Wakeups, Wakeups];
  readonly events: readonly [EventLog, EventLog];
  /** Lets time pass (virtual or real) until the condition holds; throws when it does not within `limitMs`. */
  until(condition: () => boolean | Promise<boolean>, limitMs: number): Promise<void>;
  /** Real ms, of the clock that the stores use. */
  monotonic(): number;
  close(): Promise<void>;
}

const LONG_MS = 60_000;

export function storeBehaviour(name: string, open: () => Promise<StoreHarness>): void {
  describe(`${name}: cells`, () => {
    const at = harness(open);

    test('a cell that was never written has version 0 and no text', async () => {
      expect(await at().cells[0].read('none')).toEqual({ version: 0, text: null });
    });

    test('what one process writes another reads, with the new version', async () => {
      const [one, other] = at().cells;
      expect(await one.compareAndSet('a', 0, 'text "with" ünicode')).not.toBeNull();
      const seen = await other.read('a');
      expect(seen.text).toBe('text "with" ünicode');
      expect(seen.version).toBeGreaterThan(0);
      const written = await other.compareAndSet('a', seen.version, 'second');
      expect(written).toEqual({ version: (await one.read('a')).version });
      const again = await one.read('a');
      expect(again.text).toBe('second');
      expect(again.version).toBeGreaterThan(seen.version);
    });

    test('a writer with an old version is refused and changes nothing', async () => {
      const [one, other] = at().cells;
      await one.compareAndSet('a', 0, 'first');
      const { version } = await one.read('a');
      await other.compareAndSet('a', version, 'second');
      expect(await one.compareAndSet('a', version, 'lost')).toBeNull();
      expect(await one.compareAndSet('a', 0, 'lost')).toBeNull();
      expect(await one.compareAndSet('a', version, null)).toBeNull();
      expect((await one.read('a')).text).toBe('second');
    });

    test('what is read again is what it has become since, whoever wrote it', async () => {
      const [one, other] = at().cells;
      const none = await one.readGuarded('a');
      expect(none).toMatchObject({ version: 0, text: null });
      await other.compareAndSet('a', 0, 'first');
      const first = await one.readGuarded('a');
      expect(first.text).toBe('first');
      expect(await one.readGuarded('a')).toEqual(first);
      await other.compareAndSet('a', first.version, 'second');
      const second = await one.readGuarded('a');
      expect(second.text).toBe('second');
      await other.compareAndSet('a', second.version, null);
      expect(await one.readGuarded('a')).toEqual(none);
      await other.compareAndSet('a', 0, 'second');
      const again = await one.readGuarded('a');
      expect([again.text, again.version > second.version]).toEqual(['second', true]);
    });

    test('what was read of one generation of the store is not written on another', async () => {
      const [one, other] = at().cells;
      await one.compareAndSet('a', 0, 'first');
      const { version, text, generation } = await other.readGuarded('a');
      expect(text).toBe('first');
      expect(generation).not.toBe('');
      expect((await one.readGuarded('none')).generation).toBe(generation);
      expect(await one.compareAndSet('a', version, 'lost', { generation: `${generation}0` })).toBeNull();
      expect(await one.compareAndSet('a', version, 'second', { generation })).not.toBeNull();
      expect((await other.read('a')).text).toBe('second');
    });

    test('a deleted cell that is written again refuses every version it had before', async () => {
      const [store] = at().cells;
      await store.compareAndSet('a', 0, 'first');
      const { version: first } = await store.read('a');
      await store.compareAndSet('a', first, 'second');
      const { version: second } = await store.read('a');
      expect(await store.compareAndSet('a', second, null)).not.toBeNull();
      expect(await store.read('a')).toEqual({ version: 0, text: null });
      for (let life = 0; life < 3; life += 1) {
        const { version } = await store.read('a');
        expect(await store.compareAndSet('a', version, `life ${life}`)).not.toBeNull();
        expect(await store.compareAndSet('a', first, 'ghost')).toBeNull();
        expect(await store.compareAndSet('a', second, 'ghost')).toBeNull();
        expect((await store.read('a')).text).toBe(`life ${life}`);
      }
    });

    test('many cells are read at once, in the order asked', async () => {
      const [store] = at().cells;
      await store.compareAndSet('a', 0, 'A');
      await store.compareAndSet('c', 0, 'C');
      expect((await store.readMany(['c', 'b', 'a', 'c'])).map(({ text }) => text)).toEqual(['C', null, 'A', 'C']);
      expect(await store.readMany([])).toEqual([]);
    });

    test('a cell with an expiry goes; a later write without one makes it stay', async () => {
      const [store] = at().cells;
      await store.compareAndSet('short', 0, 'x', { expireMs: 150 });
      await store.compareAndSet('kept', 0, 'x', { expireMs: 150 });
      const { version } = await store.read('kept');
      await store.compareAndSet('kept', version, 'y');
      expect((await store.read('short')).text).toBe('x');
      await at().until(async () => (await store.read('short')).version === 0, 5_000);
      expect((await store.read('kept')).text).toBe('y');
    });

    test('two processes that count in one cell lose no count', async () => {
      const cells = at().cells.map((store) => new Cell(store, 'count', z.number(), 0));
      const rounds = 40;
      await Promise.all(
        cells.map(async (cell) => {
          for (let round = 0; round < rounds; round += 1) {
            await cell.update((value) => ({ value: value + 1, result: undefined }));
          }
        }),
      );
      expect(await cells[0]?.read()).toBe(2 * rounds);
    });

    test('a write with a topic wakes who listens to it; a refused write does not', async () => {
      const [store] = at().cells;
      const listener = await at().wakeups[1].listen('topic');
      const start = at().monotonic();
      expect(await store.compareAndSet('a', 99, 'x', { topic: 'topic' })).toBeNull();
      let woken = false;
      const next = listener.next(LONG_MS).then(() => {
        woken = true;
      });
      await store.compareAndSet('other', 0, 'x', { topic: 'other topic' });
      expect(woken).toBe(false);
      await store.compareAndSet('a', 0, 'x', { topic: 'topic' });
      await next;
      expect(at().monotonic() - start).toBeLessThan(LONG_MS);
      await listener.close();
    });
  });

  describe(`${name}: wake-ups`, () => {
    const at = harness(open);

    test('a wake that came before anybody waited is not lost, and counts once', async () => {
      const [one, other] = at().wakeups;
      const listener = await other.listen('t');
      const probe = await other.listen('t');
      const arrived = probe.next(LONG_MS);
      await one.wake('t');
      await one.wake('t');
      await arrived;
      const start = at().monotonic();
      await listener.next(LONG_MS);
      expect(at().monotonic() - start).toBeLessThan(LONG_MS / 2);
      await probe.close();
      await listener.close();
    });

    test('without a wake, next ends after its time', async () => {
      const listener = await at().wakeups[0].listen('t');
      const start = at().monotonic();
      let ended = false;
      listener.next(200).then(() => {
        ended = true;
      });
      await at().until(() => ended, 5_000);
      expect(at().monotonic() - start).toBeGreaterThanOrEqual(195);
      await listener.close();
    });

    test('an abort ends next at once', async () => {
      const listener = await at().wakeups[0].listen('t');
      const stop = new AbortController();
      const next = listener.next(LONG_MS, stop.signal);
      stop.abort();
      await next;
      await listener.next(LONG_MS, stop.signal);
      await listener.close();
    });

    test('closing a listener ends its wait and leaves the other listeners of the topic', async () => {
      const [one, other] = at().wakeups;
      const closing = await other.listen('t');
      const staying = await other.listen('t');
      const ended = closing.next(LONG_MS);
      await closing.close();
      await ended;
      const woken = staying.next(LONG_MS);
      await one.wake('t');
      await woken;
      await staying.close();
      const again = await other.listen('t');
      const wokenAgain = again.next(LONG_MS);
      await one.wake('t');
      await wokenAgain;
      await again.close();
    });
  });

  describe(`${name}: event log`, () => {
    const at = harness(open);

    test('events come back in order and whole, those of other operations do not', async () => {
      const [one, other] = at().events;
      const sent = [event('op', 1), event('op', 2, { vm: 'web-1', moveId: 'm' }), event('op', 3)];
      for (const each of sent) {
        await one.append(each);
        await other.append(event('another', each.atMs));
      }
      const read = await other.read('op', '0', 0);
      expect(read.map(({ streamId: _, ...rest }) => rest)).toEqual(sent);
      expect(await other.read('nothing', '0', 0)).toEqual([]);
    });

    test('a watcher goes on behind the last event it saw', async () => {
      const [one, other] = at().events;
      for (let n = 1; n <= 25; n += 1) await one.append(event('op', n));
      const first = await one.read('op', '0', 0);
      const tenth = first[9]?.streamId ?? '';
      expect((await other.read('op', tenth, 0)).map(({ atMs }) => atMs)).toEqual(
        first.slice(10).map(({ atMs }) => atMs),
      );
      expect(await other.read('op', first.at(-1)?.streamId ?? '', 0)).toEqual([]);
    });

    test("the fleet's stream has the events of all operations in the order of their writing, with ids of its own", async () => {
      const [one, other] = at().events;
      expect(await one.lastOfFleet()).toBe('0');
      const sent = [event('op', 1), event('another', 2), event('op', 3), event('third', 4)];
      for (const each of sent) await one.append(each);
      const all = await other.readFleet('0', 0);
      expect(all.map(({ streamId: _, ...rest }) => rest)).toEqual(sent);
      expect(await other.lastOfFleet()).toBe(all.at(-1)?.streamId);
      const second = all[1]?.streamId ?? '';
      expect(await other.firstOfFleet('0')).toBe(all[0]?.streamId);
      expect(await other.firstOfFleet(second)).toBe(all[2]?.streamId);
      expect(await other.firstOfFleet(await other.lastOfFleet())).toBeNull();
      expect((await other.readFleet(second, 0)).map(({ atMs }) => atMs)).toEqual([3, 4]);
      expect((await other.read('op', '0', 0)).map(({ atMs }) => atMs)).toEqual([1, 3]);
    });

    test("a waiting read of the fleet's stream ends with an event of any operation", async () => {
      const [one, other] = at().events;
      await one.append(event('op', 1));
      const start = at().monotonic();
      const waiting = other.readFleet(await other.lastOfFleet(), LONG_MS);
      await one.append(event('another', 2));
      expect((await waiting).map(({ operationId }) => operationId)).toEqual(['another']);
      expect(at().monotonic() - start).toBeLessThan(LONG_MS / 2);
    });

    test('a waiting read ends with the first event, long before its time', async () => {
      const [one, other] = at().events;
      const start = at().monotonic();
      const waiting = other.read('op', '0', LONG_MS);
      await one.append(event('op', 5));
      expect((await waiting).map(({ atMs }) => atMs)).toEqual([5]);
      expect(at().monotonic() - start).toBeLessThan(LONG_MS / 2);
    });

    test('a waiting read without an event ends empty after its time', async () => {
      const start = at().monotonic();
      let read: readonly unknown[] | undefined;
      at()
        .events[0].read('op', '0', 150)
        .then((events) => {
          read = events;
        });
      await at().until(() => read !== undefined, 5_000);
      expect(read).toEqual([]);
      expect(at().monotonic() - start).toBeGreaterThanOrEqual(145);
    });

    test('an abort ends a waiting read at once', async () => {
      const stop = new AbortController();
      const waiting = at().events[0].read('op', '0', LONG_MS, stop.signal);
      stop.abort();
      expect(await waiting).toEqual([]);
      expect(await at().events[0].read('op', '0', LONG_MS, stop.signal)).toEqual([]);
    });
  });
}

function harness(open: () => Promise<StoreHarness>): () => StoreHarness {
  let current: StoreHarness | undefined;
  beforeEach(async () => {
    current = await open();
  });
  afterEach(() => current?.close());
  return () => {
    if (current === undefined) throw new Error('no store is open');
    return current;
  };
}

function event(operationId: string, atMs: number, more: Partial<OperationEvent> = {}): OperationEvent {
  return { atMs, operationId, kind: 'move.precopy', vm: null, moveId: null, message: `event ${atMs}`, ...more };
}
