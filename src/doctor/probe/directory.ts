/** What a directory is like for this user. Nothing is written. */
import { accessSync, constants, statfsSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DirectoryFacts } from '../judge/machine.ts';

export function lookAtDirectory(path: string): DirectoryFacts {
  let kind: DirectoryFacts['fault'] = null;
  try {
    if (!statSync(path).isDirectory()) kind = 'notADirectory';
  } catch (error) {
    kind = codeOf(error) === 'ENOENT' ? 'missing' : codeOf(error) === 'ENOTDIR' ? 'notADirectory' : 'unreadable';
  }
  if (kind === 'missing') {
    const above = nearest(dirname(path));
    return { path, fault: kind, ...roomAt(above), above: { path: above, writable: refusal(above) === null } };
  }
  kind ??= refusal(path);
  return { path, fault: kind, ...(kind === null ? roomAt(path) : { freeBytes: null, freeInodes: null }), above: null };
}

function refusal(path: string): 'unreadable' | 'unwritable' | 'readOnly' | null {
  try {
    accessSync(path, constants.R_OK | constants.X_OK);
  } catch {
    return 'unreadable';
  }
  try {
    accessSync(path, constants.W_OK);
    return null;
  } catch (error) {
    return codeOf(error) === 'EROFS' ? 'readOnly' : 'unwritable';
  }
}

/** `bavail`: what is kept for root is not this user's. File systems without a fixed number of inodes say 0 of 0. */
function roomAt(path: string): Pick<DirectoryFacts, 'freeBytes' | 'freeInodes'> {
  try {
    const { bavail, bsize, ffree, files } = statfsSync(path);
    return { freeBytes: bavail * bsize, freeInodes: files === 0 ? null : ffree };
  } catch {
    // A file system that does not tell (some network ones) is not full for all we know.
    return { freeBytes: null, freeInodes: null };
  }
}

function nearest(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    if (statSync(at, { throwIfNoEntry: false })?.isDirectory() === true || at === dirname(at)) return at;
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}
