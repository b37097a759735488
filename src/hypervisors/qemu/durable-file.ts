/**
 * Small files that must be whole and on disk before the next step: written beside their place, synced, renamed. Reading
 * is bounded. Synchronous: they are a few hundred bytes on a local file system, and some must be read and acted on in
 * one tick.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { HostevacError } from '../../domain/errors.ts';

/** No definition or record of ours comes near this. */
const MAX_BYTES = 2 ** 20;
const CHUNK_BYTES = 2 ** 14;

export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/**
 * undefined: there is no such file. Throws `badInput` for one that is too large or no file (a pipe would hold us up, a
 * device never end), and whatever the file system says.
 */
export function readSmallFile(path: string): string | undefined {
  let handle: number;
  try {
    handle = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined;
    // A socket, or a device that nobody serves.
    if (errorCode(error) === 'ENXIO') throw noFile(path);
    throw error;
  }
  try {
    if (!fstatSync(handle).isFile()) throw noFile(path);
    return readBounded(handle, path);
  } finally {
    closeSync(handle);
  }
}

/** What a file says of its size need not be so (in /proc it is not): the reading is bounded. */
function readBounded(handle: number, path: string): string {
  const chunks: Buffer[] = [];
  for (let size = 0; ; ) {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    const read = readSync(handle, chunk);
    if (read === 0) return Buffer.concat(chunks).toString('utf8');
    chunks.push(chunk.subarray(0, read));
    size += read;
    if (size > MAX_BYTES) {
      throw new HostevacError('badInput', `${path} has more than ${MAX_BYTES} bytes: is it the right file?`);
    }
  }
}

function noFile(path: string): HostevacError {
  return new HostevacError('badInput', `${path} is no regular file; replace it by one or remove it`);
}

export function writeDurably(path: string, text: string): void {
  const beside = `${path}.${process.pid}.new`;
  try {
    writeSynced(beside, text);
    renameSync(beside, path);
  } finally {
    rmSync(beside, { force: true });
  }
  syncDirectory(dirname(path));
}

/** Like `writeDurably`, for what must never be overwritten. False: there is one already. */
export function createDurably(path: string, text: string): boolean {
  const beside = `${path}.${process.pid}.new`;
  try {
    writeSynced(beside, text);
    linkSync(beside, path);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  } finally {
    rmSync(beside, { force: true });
  }
  syncDirectory(dirname(path));
  return true;
}

/** Renames and removals in a directory are on disk once the directory itself has been synced. */
export function syncDirectory(path: string): void {
  if (!existsSync(path)) return;
  const handle = openSync(path, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function writeSynced(path: string, text: string): void {
  const handle = openSync(path, 'w', 0o600);
  try {
    writeFileSync(handle, text);
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
