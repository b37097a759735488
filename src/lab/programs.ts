/** Where the programs are that a lab runs: in PATH, or among those for administrators, which are not in everybody's. */
import { delimiter } from 'node:path';
import { inPath } from '../runtime/in-path.ts';

const FOR_ADMINISTRATORS = ['/usr/local/sbin', '/usr/sbin', '/sbin'];

/** Absolute; null: it is not there. */
export function findProgram(
  name: string,
  path: string | undefined,
  others: readonly string[] = FOR_ADMINISTRATORS,
): string | null {
  return inPath(name, { PATH: [path ?? '', ...others].join(delimiter) }) ?? null;
}
