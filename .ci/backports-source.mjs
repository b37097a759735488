#!/usr/bin/env node
// Prints a package source entry for this Debian release's backports, derived from the entry that the machine has for the
// release itself: same address, same key, same options. No host is named here: whoever set the machine up chose one.
// Prints nothing where backports are configured already. Both forms of sources.list(5) are read; the answer is in the
// form of the entry it was made from ("deb ..." or a deb822 stanza).
//
//   backports-source.mjs [directory, default /etc/apt] [codename, default that of /etc/os-release]
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** @typedef {{ uris: string[], suites: string[], components: string[], text: (suite: string) => string }} Source */

/**
 * A line `deb [options] uri suite component...`; null for anything else. `deb-src` and CD-ROMs have no binaries to fetch.
 * @returns {Source | null}
 */
function oneLine(line) {
  const words = /^deb\s+(\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s*([^#]*)/.exec(line.trim());
  if (words === null) return null;
  const [, options = '', uri, suite, components] = words;
  if (uri.startsWith('cdrom:')) return null;
  return {
    uris: [uri],
    suites: [suite],
    components: components.split(/\s+/).filter(Boolean),
    text: (other) => `deb ${options}${uri} ${other} main\n`,
  };
}

/** The fields of a stanza; a value goes on over lines that begin with a blank (an embedded key does). */
function fieldsOf(stanza) {
  const fields = [];
  for (const line of stanza.split('\n').filter((text) => !text.startsWith('#'))) {
    const last = fields.at(-1);
    if (/^[ \t]/.test(line) && last !== undefined) last.value += `\n${line}`;
    else if (line.includes(':'))
      fields.push({ name: line.slice(0, line.indexOf(':')), value: line.slice(line.indexOf(':') + 1) });
  }
  return fields;
}

/** @returns {Source | null} */
function deb822(stanza) {
  const fields = fieldsOf(stanza);
  const words = (name) =>
    (fields.find((field) => field.name.toLowerCase() === name)?.value ?? '').split(/\s+/).filter(Boolean);
  if (!words('types').includes('deb') || /^(no|false|0|off|without|disable)$/i.test(words('enabled')[0] ?? ''))
    return null;
  const uris = words('uris').filter((uri) => !uri.startsWith('cdrom:'));
  if (uris.length === 0) return null;
  const changed = (suite) => ({ types: ' deb', uris: ` ${uris.join(' ')}`, suites: ` ${suite}`, components: ' main' });
  return {
    uris,
    suites: words('suites'),
    components: words('components'),
    text: (suite) => {
      const over = changed(suite);
      return fields.map(({ name, value }) => `${name}:${over[name.toLowerCase()] ?? value}\n`).join('');
    },
  };
}

/** All enabled sources of binaries, in the order in which apt reads them. */
function sources(directory) {
  const parts = join(directory, 'sources.list.d');
  const files = [
    join(directory, 'sources.list'),
    ...(existsSync(parts)
      ? readdirSync(parts)
          .sort()
          .map((name) => join(parts, name))
      : []),
  ];
  return files
    .filter((file) => existsSync(file))
    .flatMap((file) => {
      const text = readFileSync(file, 'utf8');
      if (file.endsWith('.list')) return text.split('\n').map(oneLine);
      return file.endsWith('.sources') ? text.split(/\n[ \t]*\n/).map(deb822) : [];
    })
    .filter((source) => source !== null);
}

function codenameOf(osRelease) {
  return /^VERSION_CODENAME="?([a-z]+)"?$/m.exec(readFileSync(osRelease, 'utf8'))?.[1];
}

function backportsSource(directory, codename) {
  const all = sources(directory).filter(({ components }) => components.includes('main'));
  if (all.some(({ suites }) => suites.includes(`${codename}-backports`))) return '';
  const candidates = all.filter(({ suites }) => suites.includes(codename));
  // Other publishers use the release's name as their suite, too. Debian's own archive has its updates at the same address.
  const updates = all.filter(({ suites }) => suites.includes(`${codename}-updates`)).flatMap(({ uris }) => uris);
  const own = candidates.find(({ uris }) => uris.some((uri) => updates.includes(uri))) ?? candidates[0];
  if (own === undefined) {
    throw new Error(
      `no package source below ${directory} has the suite "${codename}" with the component "main", so there is none to derive ${codename}-backports from; add a source of it by hand`,
    );
  }
  return own.text(`${codename}-backports`);
}

const [directory = '/etc/apt', codename = codenameOf('/etc/os-release')] = process.argv.slice(2);
try {
  if (codename === undefined)
    throw new Error('/etc/os-release names no VERSION_CODENAME; this is meant for a Debian release');
  process.stdout.write(backportsSource(directory, codename));
} catch (error) {
  console.error(`backports-source: ${error.message}`);
  process.exitCode = 1;
}
