/** What a lab may write its fleet file over: nothing of the user's. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fleetFileFault, marked } from '../../src/lab/fleet-file.ts';

const FLEET = 'name: lab-abcd\nhosts: []\n';

describe('a lab may write its fleet file', () => {
  let home = '';
  let path = '';
  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'hostevac-fleet-'));
    path = join(home, 'fleet.yaml');
  });
  afterEach(() => rmSync(home, { recursive: true }));

  test('where there is none, and over one that another lab left as it was', () => {
    expect(fleetFileFault(path)).toBeNull();
    writeFileSync(path, marked(FLEET));
    expect(fleetFileFault(path)).toBeNull();
  });

  test.each([
    ['in a directory that does not exist', 'missing/fleet.yaml', /cannot be written: ENOENT.*missing'/],
    ['below a file', 'file/fleet.yaml', /file is no directory/],
    ['under the name of a directory', 'folder', /is no file/],
  ])('not %s', (_, name, message) => {
    mkdirSync(join(home, 'folder'));
    writeFileSync(join(home, 'file'), '');
    const fault = fleetFileFault(resolve(home, name));
    expect(fault?.message).toMatch(message);
    expect(fault?.remedy).toMatch(/^name a file in a directory/);
  });

  test('not over one that no lab has written', () => {
    writeFileSync(path, FLEET);
    expect(fleetFileFault(path)).toEqual({
      message: 'exists, and no lab has written it',
      remedy: 'move it away, or name another file with --fleet-file',
    });
  });

  test.each([
    ['at its end', `${marked(FLEET)}# mine\n`],
    ['in the middle', marked(FLEET).replace('lab-abcd', 'lab-mine')],
    ['in front', `# mine\n${marked(FLEET)}`],
    ['by leaving something out', marked(FLEET).replace('hosts: []\n', '')],
  ])('not over one that was changed %s', (_, text) => {
    writeFileSync(path, text);
    expect(fleetFileFault(path)?.message).toMatch(/has been changed|no lab has written it/);
  });
});
