import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeDemoPlace, removeStaleDemoPlaces } from '../../src/cli/commands/demo-places.ts';

let base = '';
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'hostevac-test-'));
});
afterEach(() => rm(base, { recursive: true, force: true }));

it('what a killed demo has left is removed; a living one and other files are left alone', async () => {
  const own = await makeDemoPlace(base);
  // Our pid with another start time: the pid was used again.
  const stale = `hostevac-demo-${process.pid}-1-abcDEF`;
  await mkdir(join(base, stale, 'redis'), { recursive: true });
  await writeFile(join(base, stale, 'redis', 'data'), 'x');
  const precious = join(base, 'precious');
  await mkdir(precious);
  await symlink(precious, join(base, 'hostevac-demo-1-1-abcdef'));
  await mkdir(join(base, 'hostevac-demo-notes'));
  expect(await removeStaleDemoPlaces(base)).toEqual([stale]);
  expect((await readdir(base)).sort()).toEqual(
    ['precious', 'hostevac-demo-1-1-abcdef', 'hostevac-demo-notes', own.slice(base.length + 1)].sort(),
  );
});
