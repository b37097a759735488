/** Small files as operators may have left them: what is no such file neither holds the worker up nor fills its memory. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { readSmallFile } from '../../../src/hypervisors/qemu/durable-file.ts';
import { processByPidFile } from '../../../src/hypervisors/qemu/process.ts';
import { vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'small-'));
  file = join(dir, 'vm.json');
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

test('a small file is read, and one that is not there is none', () => {
  expect(readSmallFile(file)).toBeUndefined();
  writeFileSync(file, 'ü'.repeat(100_000));
  expect(readSmallFile(file)).toBe('ü'.repeat(100_000));
});

const fifo = (path: string) => execFileSync('mkfifo', [path]);

test.each([
  ['a pipe that nobody writes to', fifo],
  ['a directory', (path: string) => mkdirSync(path)],
  ['a device that never ends', (path: string) => symlinkSync('/dev/zero', path)],
])('%s is no file', (_, make) => {
  make(file);
  expect(() => readSmallFile(file)).toThrow(/vm.json is no regular file; replace it/);
});

test('one that is too large is not read to its end', () => {
  writeFileSync(file, Buffer.alloc(2 ** 20 + 1));
  expect(() => readSmallFile(file)).toThrow(/has more than 1048576 bytes/);
});

test.each([
  ['a pipe', fifo],
  ['a link to itself', (path: string) => symlinkSync(path, path)],
])('%s as qemu.pid names no process', (_, make) => {
  make(join(dir, 'qemu.pid'));
  expect(processByPidFile(vmDir(dir))).toBeUndefined();
});
