/**
 * Where a demo keeps its things: a directory of its own under the system's temporary one, named after the process, so
 * that nothing is shared with the user's fleet or another demo, and the leavings of a killed one are told from a live one's.
 */
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { startTicksOf } from '../../runtime/process-identity.ts';

const PREFIX = 'hostevac-demo-';

/** `hostevac-demo-<pid>-<start ticks>-XXXXXX` */
export function makeDemoPlace(temporary: string): Promise<string> {
  return mkdtemp(join(temporary, `${PREFIX}${process.pid}-${startTicksOf(process.pid) ?? 0}-`));
}

/** Removes what demos that are no more have left; what cannot be removed stays. Names of what was removed. */
export async function removeStaleDemoPlaces(temporary: string): Promise<string[]> {
  const removed: string[] = [];
  for (const name of await readdir(temporary).catch(() => [])) {
    const match = /^hostevac-demo-(\d+)-(\d+)-[A-Za-z0-9]{6}$/.exec(name);
    if (match === null || startTicksOf(Number(match[1])) === Number(match[2])) continue;
    const path = join(temporary, name);
    const ours = await lstat(path).then(
      (stat) => stat.isDirectory() && stat.uid === process.getuid?.(),
      () => false,
    );
    if (!ours) continue;
    await rm(path, { recursive: true, force: true }).then(
      () => removed.push(name),
      () => undefined,
    );
  }
  return removed;
}
