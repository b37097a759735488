/** Where the programs are that a lab runs: in PATH, or among those for administrators, which are not in everybody's. */
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

const FOR_ADMINISTRATORS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Absolute; null: it is not there. */
export function findProgram(
  name: string,
  path: string | undefined,
  others: readonly string[] = FOR_ADMINISTRATORS,
): string | null {
  const folders = [...(path ?? '').split(delimiter).filter((folder) => folder !== ''), ...others];
  return folders.map((folder) => join(folder, name)).find(isExecutable) ?? null;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    // Not there, or not for us: the same to a caller.
    return false;
  }
}
