/** What can be said of the files in docs/deploy without running them: systemd reads the units, and they agree with the code. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { OTHER_COMMANDS, QUEUED_COMMANDS } from '../../src/doctor/redis-commands.ts';
import { inPath } from '../../src/runtime/in-path.ts';
import { execute } from './container.ts';

const DEPLOY = fileURLToPath(new URL('../../docs/deploy/', import.meta.url));
const units = readdirSync(join(DEPLOY, 'systemd'));
const read = (path: string) => readFileSync(join(DEPLOY, path), 'utf8');
const settingsOf = (unit: string, key: string) =>
  [...read(`systemd/${unit}`).matchAll(new RegExp(`^${key}=(.*)$`, 'gm'))].map(([, value]) => value);

const analyze = inPath('systemd-analyze', process.env);
/** Of Debian's package; elsewhere systemd would say that it is not there. */
const programs = ['/usr/bin/node', '/usr/bin/flock'].every((path) => inPath(path.slice(9), { PATH: '/usr/bin' }));
const lacking = [
  ...(analyze === undefined ? ['systemd-analyze'] : []),
  ...(programs ? [] : ['/usr/bin/node or flock']),
];
if (lacking.length > 0)
  console.warn(`\n*** SKIPPED, NOT TESTED: systemd-analyze verify (no ${lacking.join(', ')}) ***\n`);

describe.skipIf(lacking.length > 0)('systemd-analyze', () => {
  const verify = (path: string) => execute('systemd-analyze', ['verify', '--man=no', path]);

  test.each(units)('has nothing to say about %s', async (unit) => {
    const { code, stdout, stderr } = await verify(join(DEPLOY, 'systemd', unit));
    // It may find fault with units of the machine that ours are ordered after.
    const said = `${stdout}${stderr}`.split('\n').filter((line) => line.includes('hostevac'));
    expect({ code, said }).toEqual({ code: 0, said: [] });
  });

  test('and would have: a wrong word is seen', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostevac-units-'));
    try {
      const path = join(directory, 'hostevac-guard.service');
      writeFileSync(path, read('systemd/hostevac-guard.service').replace('NoNewPrivileges=', 'NoNewPrivilege='));
      expect((await verify(path)).stderr).toMatch(/Unknown key.*'NoNewPrivilege'/);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  });

  test.each([
    ['hostevac-guard.service', 2],
    ['hostevac-operations.service', 1.5],
    ['hostevac-api.service', 1.5],
    ['hostevac-worker@.service', 2],
    ['hostevac-worker-qemu.service', 5.5],
  ])('finds %s exposed no more than %d', async (unit, limit) => {
    const { stdout } = await execute('systemd-analyze', [
      'security',
      '--offline=true',
      '--no-pager',
      join(DEPLOY, 'systemd', unit),
    ]);
    const exposure = Number(/Overall exposure level for \S+: ([\d.]+)/.exec(stdout)?.[1]);
    expect(exposure).toBeLessThanOrEqual(limit);
  });
});

describe('the files agree with the code and with each other', () => {
  test('the ACL grants the commands that are used, on the keys and channels of fleets, and nobody else is let in', () => {
    const users = read('redis/users.acl').trim().split('\n');
    const granted = /^user hostevac off resetchannels (\S+) (\S+) -@all (.*)$/.exec(users.at(-1) ?? '');
    expect(granted?.slice(1, 3)).toEqual(['&{hostevac:*}:*', '~{hostevac:*}:*']);
    const commands = (granted?.[3] ?? '').split(' ').map((rule) => rule.slice(1));
    expect(commands).toEqual([...Object.keys(QUEUED_COMMANDS), ...OTHER_COMMANDS].sort());
    expect(users.slice(0, -1)).toEqual(['user default off', 'user operator off resetchannels &* ~* +@all']);
  });

  test('all units have one user, one state directory and one clone, and the guard is in none of the workers', () => {
    for (const unit of units) {
      expect([unit, settingsOf(unit, 'User'), settingsOf(unit, 'Group')]).toEqual([unit, ['hostevac'], ['hostevac']]);
      expect([unit, settingsOf(unit, 'StateDirectory')[0]?.split(' ')[0]]).toEqual([unit, 'hostevac']);
      expect([unit, settingsOf(unit, 'Restart'), settingsOf(unit, 'StartLimitIntervalSec')]).toEqual([
        unit,
        ['always'],
        ['0'],
      ]);
      expect([unit, settingsOf(unit, 'NoNewPrivileges')]).toEqual([unit, ['yes']]);
      expect([unit, settingsOf(unit, 'ExecStart')[0]]).toEqual([
        unit,
        expect.stringContaining('/usr/bin/node /opt/hostevac/dist/src/'),
      ]);
    }
    expect(settingsOf('hostevac-worker-qemu.service', 'KillMode')).toEqual(['process']);
    expect(read('hostevac.env')).toMatch(/^HOSTEVAC_STATE_DIR=\/var\/lib\/hostevac$/m);
    for (const unit of units.filter((name) => name !== 'hostevac-guard.service')) {
      expect([unit, settingsOf(unit, 'EnvironmentFile')[0]]).toEqual([unit, '/etc/hostevac/hostevac.env']);
    }
  });

  test('docs/deploy.md names every file', () => {
    const text = readFileSync(join(DEPLOY, '../deploy.md'), 'utf8');
    const files = readdirSync(DEPLOY, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    expect(files.map(({ name }) => name).filter((name) => !text.includes(name))).toEqual([]);
  });
});
