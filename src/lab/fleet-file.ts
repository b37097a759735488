/** The fleet file that a lab writes: known again by its first line, and never written over what somebody else has put there. */
import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { HostevacError, reasonOf } from '../domain/errors.ts';
import { sha256 } from './manifest.ts';

/** The sum is of all that follows, so that a lab sees without any record whether it was changed. */
const FIRST_LINE = /^# Written by `hostevac lab up` \(sha256 ([0-9a-f]{64})\); `hostevac lab down` removes it\.\n/;

export function marked(fleet: string): string {
  return `# Written by \`hostevac lab up\` (sha256 ${sha256(fleet)}); \`hostevac lab down\` removes it.\n${fleet}`;
}

/** In the words of a `Problem`. */
export interface FleetFileFault {
  readonly message: string;
  readonly remedy: string;
}

/** Why a lab may not write there; null: it may. */
export function fleetFileFault(path: string): FleetFileFault | null {
  return placeFault(path) ?? contentFault(path);
}

function placeFault(path: string): FleetFileFault | null {
  const remedy = 'name a file in a directory that you can write to';
  const folder = dirname(path);
  try {
    if (!statSync(folder).isDirectory()) return { message: `${folder} is no directory`, remedy };
    // Also over a file that exists: lab down removes it.
    accessSync(folder, constants.W_OK | constants.X_OK);
    const found = statSync(path, { throwIfNoEntry: false });
    if (found === undefined) return null;
    if (!found.isFile()) return { message: 'is there, and is no file', remedy };
    accessSync(path, constants.R_OK | constants.W_OK);
    return null;
  } catch (error) {
    return { message: `cannot be written: ${reasonOf(error).message}`, remedy };
  }
}

function contentFault(path: string): FleetFileFault | null {
  const remedy = 'move it away, or name another file with --fleet-file';
  const text = existsSync(path) ? readFileSync(path, 'utf8') : null;
  if (text === null) return null;
  const [firstLine, sum] = FIRST_LINE.exec(text) ?? [];
  if (firstLine === undefined) return { message: 'exists, and no lab has written it', remedy };
  if (sha256(text.slice(firstLine.length)) === sum) return null;
  return { message: 'has been changed since a lab wrote it, and lab up would overwrite that', remedy };
}

/** Throws `labUnfit`: what could be known before has been asked of `fleetFileFault`. */
export function writeFleetFile(path: string, text: string): void {
  try {
    writeFileSync(path, text);
  } catch (error) {
    throw new HostevacError('labUnfit', `${path} cannot be written: ${reasonOf(error).message}`, { cause: error });
  }
}
