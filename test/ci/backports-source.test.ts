/** The package source that .ci derives for backports, from the ways in which machines name their own. */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';

const SCRIPT = fileURLToPath(new URL('../../.ci/backports-source.mjs', import.meta.url));

let etc: string;
beforeEach(() => {
  etc = mkdtempSync(join(tmpdir(), 'hostevac-apt-'));
  mkdirSync(join(etc, 'sources.list.d'));
});
afterEach(() => rmSync(etc, { recursive: true }));

function derived(files: Readonly<Record<string, string>>): string {
  for (const [name, text] of Object.entries(files)) writeFileSync(join(etc, name), text);
  return execFileSync(process.execPath, [SCRIPT, etc, 'bookworm'], { encoding: 'utf8' });
}

test('a stanza with several suites and comments gives one of its address, key and options', () => {
  const text = `# The image's own.
Types: deb deb-src
# http://example.org/an/address/that/was
URIs: http://example.org/debian
Suites: bookworm bookworm-updates
Components: main contrib
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://example.org/debian-security
Suites: bookworm-security
Components: main
`;
  expect(derived({ 'sources.list.d/debian.sources': text })).toBe(`Types: deb
URIs: http://example.org/debian
Suites: bookworm-backports
Components: main
Check-Valid-Until: no
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
`);
});

test('a key that is written into the stanza is kept whole', () => {
  const key =
    ' -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJKwYBBAHaRw8BAQdAd7Z0srwuhlB6JKFkcf4HU4SSS\n -----END PGP PUBLIC KEY BLOCK-----';
  const text = `types: deb\nuris: https://example.org/debian\nsuites: bookworm\ncomponents: main\nSigned-By:\n${key}\n`;
  expect(derived({ 'sources.list.d/debian.sources': text })).toBe(
    `types: deb\nuris: https://example.org/debian\nsuites: bookworm-backports\ncomponents: main\nSigned-By:\n${key}\n`,
  );
});

test('a line keeps its options', () => {
  const text = `deb-src http://example.org/debian bookworm main
# deb http://example.org/commented bookworm main
deb [arch=amd64 signed-by=/etc/apt/keyrings/d.gpg] https://example.org/debian bookworm main non-free # ours
deb https://example.org/debian bookworm-updates main
`;
  expect(derived({ 'sources.list': text })).toBe(
    'deb [arch=amd64 signed-by=/etc/apt/keyrings/d.gpg] https://example.org/debian bookworm-backports main\n',
  );
});

test('a source of security updates that stands first is not taken', () => {
  const text = `deb http://example.org/debian-security bookworm-security main
deb http://example.org/debian bookworm main
`;
  expect(derived({ 'sources.list': text })).toBe('deb http://example.org/debian bookworm-backports main\n');
});

test("another publisher's source of that name is not taken, though it stands first", () => {
  expect(
    derived({
      'sources.list.d/another.list': 'deb [signed-by=/k.gpg] https://example.com/12/prod bookworm main\n',
      'sources.list.d/debian.sources':
        'Types: deb\nURIs: http://example.org/debian\nSuites: bookworm bookworm-updates\nComponents: main\n',
    }),
  ).toBe('Types: deb\nURIs: http://example.org/debian\nSuites: bookworm-backports\nComponents: main\n');
});

test('a list of mirrors is an address like any other', () => {
  const text = 'Types: deb\nURIs: mirror+file:/etc/apt/mirrors/debian.list\nSuites: bookworm\nComponents: main\n';
  expect(derived({ 'sources.list.d/debian.sources': text })).toContain(
    'URIs: mirror+file:/etc/apt/mirrors/debian.list\n',
  );
});

test('CD-ROMs, other components and sources that are switched off are passed over', () => {
  const off = (field: string) =>
    `Types: deb\nEnabled: ${field}\nURIs: http://example.org/off\nSuites: bookworm\nComponents: main\n`;
  expect(
    derived({
      'sources.list': `deb cdrom:[Debian GNU/Linux 12 _Bookworm_ - amd64 NETINST]/ bookworm main
deb cdrom:[Bookworm]/ bookworm main
deb http://example.org/parts bookworm contrib
deb http://example.org/debian bookworm main
`,
      'sources.list.d/disc.sources': 'Types: deb\nURIs: cdrom:[Bookworm]/\nSuites: bookworm\nComponents: main\n',
      'sources.list.d/off.sources': `${off('no')}\n${off('false')}`,
      'sources.list.d/old.list.disabled': 'deb http://example.org/old bookworm main\n',
    }),
  ).toBe('deb http://example.org/debian bookworm-backports main\n');
});

test('nothing is derived where there are backports already', () => {
  const release = 'Types: deb\nURIs: http://example.org/debian\nSuites: bookworm\nComponents: main\n';
  const backports = 'deb http://example.org/debian bookworm-backports main contrib\n';
  expect(derived({ 'sources.list.d/debian.sources': release, 'sources.list.d/backports.list': backports })).toBe('');
});

test('backports that are switched off, of sources, or of another release are none', () => {
  const text = `Types: deb
URIs: http://example.org/debian
Suites: bookworm
Components: main

Types: deb
Enabled: no
URIs: http://example.org/debian
Suites: bookworm-backports
Components: main

Types: deb-src
URIs: http://example.org/debian
Suites: bookworm-backports
Components: main

Types: deb
URIs: http://example.org/debian
Suites: trixie-backports
Components: main
`;
  expect(derived({ 'sources.list.d/debian.sources': text })).toContain('Suites: bookworm-backports\n');
});

test('a machine without a source for its release is told what to add', () => {
  writeFileSync(join(etc, 'sources.list'), 'deb http://example.org/debian stable main\n');
  const { status, stderr } = spawnSync(process.execPath, [SCRIPT, etc, 'bookworm'], { encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stderr).toContain(`no package source below ${etc} has the suite "bookworm"`);
  expect(stderr).toContain('bookworm-backports');
});
