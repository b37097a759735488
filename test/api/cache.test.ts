import { describe, expect, it } from 'vitest';
import { Cached, CachedByKey } from '../../src/api/cache.ts';
import { Shared } from '../../src/api/shared.ts';
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
      shared.run('vm', 'x', work('first')),
      shared.run('vm', 'x', work('second')),
      shared.run('vm', 'y', work('third')),
    ]);
    expect(answers).toEqual(['first', 'first', 'third']);
    expect(log).toEqual(['first begins', 'first ends', 'third begins', 'third ends']);
  });
});
