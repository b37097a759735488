/**
 * The few file operations that control groups and /proc need. All synchronous: what the guard does to a VM's groups is
 * one step that nothing else of it can interrupt. The root is given, so that recorded trees stand in for a machine.
 */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What the kernel answers about groups and threads that are no more. */
const GONE = new Set(['ENOENT', 'ESRCH', 'ENODEV', 'ENOTDIR']);

export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

export function isGone(error: unknown): boolean {
  return GONE.has(errnoOf(error));
}

export class GroupFiles {
  readonly #root: string;

  constructor(root = '/') {
    this.#root = root;
  }

  read(path: string): string {
    return readFileSync(join(this.#root, path), 'utf8');
  }

  /** undefined: there is no such file, thread or group (any more). */
  readIfThere(path: string): string | undefined {
    return ifThere(() => this.read(path));
  }

  /** One write(2), as the kernel's files want it; never makes a file. */
  write(path: string, text: string): void {
    writeFileSync(join(this.#root, path), text, { flag: 'r+' });
  }

  makeGroup(path: string): void {
    mkdirSync(join(this.#root, path));
  }

  /** The kernel removes a group's files with it; a group that is gone already is fine. */
  removeGroup(path: string): void {
    ifThere(() => rmdirSync(join(this.#root, path)));
  }

  /** Identifies a group for as long as the machine runs: the kernel uses no inode of cgroupfs twice. undefined: gone. */
  inode(path: string): string | undefined {
    return ifThere(() => statSync(join(this.#root, path), { bigint: true }).ino.toString());
  }

  exists(path: string): boolean {
    return this.inode(path) !== undefined;
  }

  /** Names of the groups in a group. */
  children(path: string): string[] {
    const entries = ifThere(() => readdirSync(join(this.#root, path), { withFileTypes: true })) ?? [];
    return entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  }
}

function ifThere<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}
