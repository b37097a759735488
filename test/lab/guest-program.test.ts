/** The committed bytes of the lab's guest are what its source assembles to. HOSTEVAC_WRITE=1 makes them anew. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const SOURCE = fileURLToPath(new URL('../../src/lab/guest/guest.S', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../../src/lab/guest/program.ts', import.meta.url));

const assembler = process.arch === 'x64' && answers('as') && answers('ld');
if (!assembler)
  console.warn('\n*** SKIPPED, NOT TESTED: the guest is its source (no x86 `as` and `ld`: binutils) ***\n');

test.skipIf(!assembler)('the committed guest program is what guest.S assembles to', () => {
  const text = programText(assemble());
  if (process.env['HOSTEVAC_WRITE'] === '1') writeFileSync(PROGRAM, text);
  expect(readFileSync(PROGRAM, 'utf8')).toBe(text);
});

function answers(program: string): boolean {
  try {
    execFileSync(program, ['--version'], { stdio: 'pipe' });
    return true;
  } catch {
    return false;
  }
}

function assemble(): Buffer {
  const place = mkdtempSync(join(tmpdir(), 'hostevac-guest-'));
  try {
    execFileSync('as', ['--32', '-mx86-used-note=no', SOURCE, '-o', join(place, 'o')], { stdio: 'pipe' });
    const link = [
      '-m',
      'elf_i386',
      '-Ttext',
      '0x7c00',
      '--oformat',
      'binary',
      join(place, 'o'),
      '-o',
      join(place, 'bin'),
    ];
    execFileSync('ld', link, { stdio: 'pipe' });
    return readFileSync(join(place, 'bin'));
  } finally {
    rmSync(place, { recursive: true, force: true });
  }
}

function programText(program: Buffer): string {
  const lines = program.toString('base64').match(/.{1,96}/g) ?? [];
  return [
    '/** guest.S, assembled: written by test/lab/guest-program.test.ts with HOSTEVAC_WRITE=1. Base64 of one boot sector. */',
    'export const GUEST_PROGRAM = [',
    ...lines.map((line) => `  '${line}',`),
    "].join('');",
    '',
  ].join('\n');
}
