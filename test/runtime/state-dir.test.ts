import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { stateDir } from '../../src/runtime/state-dir.ts';

describe('state directory', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostevac-state-'));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test('HOSTEVAC_STATE_DIR wins, then XDG_STATE_HOME, then the home directory', () => {
    const env = { HOSTEVAC_STATE_DIR: join(root, 'own'), XDG_STATE_HOME: join(root, 'xdg'), HOME: join(root, 'home') };
    expect(stateDir(env)).toBe(join(root, 'own'));
    expect(stateDir({ ...env, HOSTEVAC_STATE_DIR: '' })).toBe(join(root, 'xdg', 'hostevac'));
    expect(stateDir({ HOME: env.HOME })).toBe(join(root, 'home', '.local', 'state', 'hostevac'));
    expect(stateDir({ HOME: env.HOME, XDG_STATE_HOME: 'relative' })).toBe(
      join(root, 'home', '.local', 'state', 'hostevac'),
    );
  });

  test('it is created for its user alone', () => {
    const path = stateDir({ HOSTEVAC_STATE_DIR: join(root, 'a', 'b') });
    expect(statSync(path).mode & 0o777).toBe(0o700);
    expect(stateDir({ HOSTEVAC_STATE_DIR: path })).toBe(path);
  });

  test('one that cannot be made says so, with the path and what to set', () => {
    writeFileSync(join(root, 'file'), '');
    const path = join(root, 'file', 'below');
    expect(() => stateDir({ HOSTEVAC_STATE_DIR: path })).toThrow(
      expect.objectContaining({ code: 'badInput', message: expect.stringMatching(/file\/below.*HOSTEVAC_STATE_DIR/) }),
    );
  });
});
