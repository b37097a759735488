/** The record of a lab: one that would have something removed that is not the lab's is refused. */
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { readManifest } from '../../src/lab/manifest.ts';
import { stopLab } from '../../src/lab/stop.ts';

describe('a lab is where its record says', () => {
  let home = '';
  let short = '';
  let other = '';
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'hostevac-record-'));
    short = mkdtempSync('/tmp/hevlab-');
    other = join(home, 'precious');
    mkdirSync(join(home, 'state', 'lab'), { recursive: true });
    mkdirSync(other);
  });
  afterEach(() => {
    rmSync(home, { recursive: true });
    rmSync(short, { recursive: true, force: true });
  });

  function record(place: string): string {
    const stateDir = join(home, 'state');
    const manifest = {
      id: 'abcd',
      place,
      state: 'up',
      starter: { machine: 'here', pid: 1, startTicks: 0 },
      hosts: [],
      guests: [],
      fleetFile: null,
      up: null,
    };
    writeFileSync(join(stateDir, 'lab', 'lab.json'), JSON.stringify(manifest));
    return stateDir;
  }

  test('in its state directory, by whatever path that is reached', () => {
    const place = join(home, 'state', 'lab');
    expect(readManifest(record(place))?.place).toBe(place);
    symlinkSync(join(home, 'state'), join(home, 'link'));
    expect(readManifest(join(home, 'link'))?.place).toBe(place);
  });

  test('in a short directory of ours, also when that has gone', () => {
    expect(readManifest(record(short))?.place).toBe(short);
    rmSync(short, { recursive: true });
    expect(readManifest(record(short))?.place).toBe(short);
  });

  test('and nowhere else: lab down touches nothing', async () => {
    const stateDir = record(other);
    await expect(stopLab(stateDir)).rejects.toMatchObject({
      code: 'badInput',
      message: expect.stringMatching(
        /lab\.json is not what a lab writes: its place ".*precious" is neither .*; end its/,
      ),
    });
    expect(existsSync(other)).toBe(true);
    expect(existsSync(join(stateDir, 'lab', 'lab.json'))).toBe(true);
  });

  test.each([
    ['the root', () => '/'],
    ['what is above the lab', () => join(home, 'state')],
    ['a way out of the short directory', () => `${short}/../../etc`],
    ['a directory in the short one', () => `${short}/a`],
    ['one that does not exist', () => join(home, 'nothing')],
  ])('not %s', (_, place) => {
    expect(() => readManifest(record(place()))).toThrow(/is not what a lab writes: its place/);
  });

  test.skipIf(process.geteuid?.() !== 0)('not the short directory of another user', () => {
    chownSync(short, 65_534, 65_534);
    expect(() => readManifest(record(short))).toThrow(/belongs to user 65534/);
  });

  test('not a link that has the name of a short directory', () => {
    rmSync(short, { recursive: true });
    symlinkSync(other, short);
    expect(() => readManifest(record(short))).toThrow(/is no directory/);
  });
});
