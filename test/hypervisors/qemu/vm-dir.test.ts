/** Names of directories, and what is removed from one. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { dirNamesFor, newVmDir, removeVmDir, vmDir } from '../../../src/hypervisors/qemu/vm-dir.ts';

const silent = pino({ level: 'silent' });

describe('the name of a directory', () => {
  test.each(['web-1', 'db_2.example', 'A'])('is that of the VM where it is short and safe: %s', (name) => {
    expect(dirNamesFor(name)[0]).toBe(name);
  });

  test('is short, stays in its place and looks like no option, whatever the VM is called', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 255 }), (name) => {
        for (const dir of dirNamesFor(name)) expect(dir).toMatch(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,23}$/);
      }),
    );
    for (const name of ['-rf', '..', '../x', 'a;b', '.hidden', 'ü', '/', 'x'.repeat(255), 'a/../../b']) {
      expect(dirname(newVmDir('/run/a', name).path)).toBe('/run/a');
    }
  });

  test('is not shared by two VMs', () => {
    const long = 'x'.repeat(30);
    const names = ['a/b', 'a;b', 'ab', 'a b', `${long}1`, `${long}2`, '-ab', '.ab', 'A/b'];
    expect(new Set(names.map((name) => dirNamesFor(name)[0])).size).toBe(names.length);
  });

  test('is another one where a directory of its name holds another VM', () => {
    const runDir = mkdtempSync(join(tmpdir(), 'vmdir-'));
    try {
      expect(newVmDir(runDir, 'web-1').path).toBe(join(runDir, 'web-1'));
      for (const name of dirNamesFor('web-1')) {
        expect(newVmDir(runDir, 'web-1').path).toBe(join(runDir, name));
        mkdirSync(join(runDir, name));
        writeFileSync(join(runDir, name, 'vm.json'), '{}');
      }
      expect(() => newVmDir(runDir, 'web-1')).toThrow(/hold other VMs than web-1/);
    } finally {
      rmSync(runDir, { recursive: true, force: true });
    }
  });

  test('is refused when its sockets would have too long a path', () => {
    expect(() => newVmDir(`/${'r'.repeat(90)}`, 'web-1')).toThrow(/may have 107; give the host a shorter runDir/);
    // The longest runDir that a fleet file may have, and the longest name.
    expect(() => newVmDir(`/${'r'.repeat(59)}`, 'x'.repeat(255))).not.toThrow();
  });
});

describe('removing a directory', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'vmdir-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test('removes what is ours and keeps what is not', () => {
    const dir = vmDir(join(root, 'x'));
    mkdirSync(dir.path);
    for (const file of [dir.definition, dir.monitor, dir.token, dir.log]) writeFileSync(file, '');
    const disk = join(dir.path, 'disk.img');
    writeFileSync(disk, 'precious');
    removeVmDir(dir, silent);
    expect(readdirSync(dir.path)).toEqual(['disk.img']);
    rmSync(disk);
    removeVmDir(dir, silent);
    expect(existsSync(dir.path)).toBe(false);
    removeVmDir(dir, silent);
  });
});
