import { describe, expect, it } from 'vitest';
import { Cached, CachedByKey } from '../../src/api/cache.ts';
import { Few, Shared } from '../../src/api/shared.ts';
import { until } from '../support/condition.ts';

/** A read that ends when the test says so. */
function reads(): { read: () => Promise<number>; end: (error?: Error) => void; count: () => number } {
  let count = 0;
  let settle: ((error?: Error) => void) | null = null;
  return {
    count: () => count,
    end: (error) => settle?.(error),
    read: () => {
      count += 1;
      const value = count;
      return new Promise((resolve, reject) => {
        settle = (error) => (error === undefined ? resolve(value) : reject(error));
      });
    },
  };
}

describe('a cached value', () => {
  it('is read once for all who ask at once, and kept', async () => {
    const { read, end, count } = reads();
    const cached = new Cached(60_000, read);
    const all = Promise.all([cached.get(), cached.get(), cached.get()]);
    end();
    expect(await all).toEqual([1, 1, 1]);
    expect(await cached.get()).toBe(1);
    expect(count()).toBe(1);
  });

  it('a read that fails is told to those who wait, and the next one reads anew', async () => {
    const { read, end } = reads();
    const cached = new Cached(60_000, read);
    const failed = cached.get();
    end(new Error('away'));
    await expect(failed).rejects.toThrow('away');
    const again = cached.get();
    end();
    expect(await again).toBe(2);
  });

  it('what was being read when it was dropped is not kept: it may be from before the change', async () => {
    const { read, end } = reads();
    const cached = new Cached(60_000, read);
    const before = cached.get();
    const endBefore = end;
    cached.drop();
    endBefore();
    expect(await before).toBe(1);
    const after = cached.get();
    end();
    expect(await after).toBe(2);
    expect(await cached.get()).toBe(2);
  });

  it('nobody waits for what is a little old: it is given while it is read anew', async () => {
    const { read, end, count } = reads();
    const cached = new Cached(100, read);
    const first = cached.get();
    end();
    await first;
    const began = performance.now();
    await until(() => performance.now() - began > 110, 1_000);
    expect(await cached.get()).toBe(1);
    expect(count()).toBe(2);
    end();
    await until(async () => (await cached.get()) === 2, 1_000, 'the new one');
  });

  it('of many keys the latest are kept', async () => {
    let count = 0;
    const read = async (key: string): Promise<string> => {
      count += 1;
      return `${key}${count}`;
    };
    const cached = new CachedByKey(60_000, read, 2);
    for (const key of ['a', 'b', 'a', 'c', 'a']) await cached.get(key);
    expect(await cached.get('a')).toBe('a1');
    expect(await cached.get('b')).toBe('b4');
  });
});

describe('shared work', () => {
  const stays = new AbortController().signal;

  it('the same question shares the answer, another one waits for its turn', async () => {
    const shared = new Shared<string>();
    const log: string[] = [];
    const work = (name: string) => async () => {
      log.push(`${name} begins`);
      await Promise.resolve();
      log.push(`${name} ends`);
      return name;
    };
    const answers = await Promise.all([
      shared.run('vm', 'x', stays, work('first')),
      shared.run('vm', 'x', stays, work('second')),
      shared.run('vm', 'y', stays, work('third')),
    ]);
    expect(answers).toEqual(['first', 'first', 'third']);
    expect(log).toEqual(['first begins', 'first ends', 'third begins', 'third ends']);
  });

  it('what nobody waits for any more is given up, also before its turn', async () => {
    const shared = new Shared<string>();
    const begun: string[] = [];
    const work = (name: string) => (signal: AbortSignal) => {
      begun.push(name);
      return new Promise<string>((_resolve, reject) =>
        signal.addEventListener('abort', () => reject(new Error(`${name} given up`))),
      );
    };
    const [one, two, three] = [new AbortController(), new AbortController(), new AbortController()];
    const first = shared.run('vm', 'x', one.signal, work('x'));
    const joined = shared.run('vm', 'x', two.signal, work('x'));
    const later = shared.run('vm', 'y', three.signal, work('y'));
    const outcomes = Promise.allSettled([first, joined, later]);
    one.abort();
    three.abort();
    await until(() => begun.length > 0, 1_000, 'its beginning');
    expect(await Promise.race([joined, Promise.resolve('still asked')])).toBe('still asked');
    two.abort();
    expect((await outcomes).map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
    expect(begun).toEqual(['x']);
  });

  it('so much may be asked of one thing, and so much of all', async () => {
    const shared = new Shared<string>();
    const gone: AbortController[] = [];
    const never = (signal: AbortSignal) =>
      new Promise<string>((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('given up'))));
    const asked: Promise<string>[] = [];
    const ask = (key: string, question: string): Promise<string> => {
      const abort = new AbortController();
      gone.push(abort);
      const answer = shared.run(key, question, abort.signal, never);
      answer.catch(() => undefined);
      asked.push(answer);
      return answer;
    };
    for (const question of ['1', '2', '3', '4']) ask('vm', question);
    await expect(ask('vm', '5')).rejects.toMatchObject({ code: 'tooManyRequests' });
    for (let vm = 0; vm < 28; vm += 1) ask(`vm-${vm}`, '1');
    await expect(ask('vm-28', '1')).rejects.toMatchObject({ code: 'tooManyRequests' });
    for (const abort of gone) abort.abort();
    await Promise.allSettled(asked);
    expect(await shared.run('vm', '5', stays, async () => 'room again')).toBe('room again');
  });

  it('few at once: the others wait, and not too many of them', async () => {
    const few = new Few(2, 1, 'are made');
    let [running, most] = [0, 0];
    const open: (() => void)[] = [];
    const work = async (): Promise<void> => {
      running += 1;
      most = Math.max(most, running);
      await new Promise<void>((resolve) => open.push(resolve));
      running -= 1;
    };
    const all = [few.run(work), few.run(work), few.run(work)];
    await expect(few.run(work)).rejects.toMatchObject({ code: 'tooManyRequests' });
    for (let ended = 0; ended < 3; ended += 1) {
      await until(() => open.length > 0, 1_000, 'work');
      open.shift()?.();
    }
    await Promise.all(all);
    expect(most).toBe(2);
    await expect(few.run(async () => 'room')).resolves.toBe('room');
  });
});
