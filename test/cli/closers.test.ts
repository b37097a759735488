import { expect, it } from 'vitest';
import { closeAll } from '../../src/cli/closers.ts';

it('everything is closed, last opened first, whatever fails or hangs', async () => {
  const closed: string[] = [];
  const problems: string[] = [];
  await closeAll(
    [
      async () => void closed.push('server'),
      () => new Promise<void>(() => void closed.push('hangs')),
      async () => {
        closed.push('fails');
        throw new Error('Redis is away');
      },
    ],
    5,
    (problem) => problems.push(problem),
  );
  expect(closed).toEqual(['fails', 'hangs', 'server']);
  expect(problems).toEqual(['closing failed: Redis is away', 'closing took longer than 5 ms']);
});
