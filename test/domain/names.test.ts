/** Names: what is refused, and that no two of them meet in one key, queue or file. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { encodeName, entityName } from '../../src/domain/names.ts';

const names = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 60 })
  .filter((name) => entityName.safeParse(name).success);

describe('names', () => {
  test.each(['web-1', 'Windows Server 2022 (Köln)', 'a:b/c', '日本', '.hidden', '😀'])('%s is a name', (name) => {
    expect(entityName.parse(name)).toBe(name);
  });

  test.each([
    ['', 'nothing'],
    ['a\nb', 'a line end'],
    ['a\u001b[2J', 'an escape sequence'],
    ['a\u0085b', 'a C1 control'],
    ['a\u2028b', 'a line separator'],
    ['\ud800', 'half a character'],
    ['ü'.repeat(128), '256 bytes'],
  ])('%j is refused: %s', (name) => {
    expect(entityName.safeParse(name).success).toBe(false);
  });

  test('two names never encode to one', () => {
    fc.assert(fc.property(names, names, (a, b) => (encodeName(a) === encodeName(b)) === (a === b)));
    for (const [a, b] of [
      ['a:b', 'a%3Ab'],
      ['1', '%31'],
      ['.a', '%2Ea'],
      ['a', 'A'],
      ['é', 'e\u0301'],
    ] as const) {
      expect(encodeName(a)).not.toBe(encodeName(b));
    }
  });

  test('an encoded name can be decoded: nothing of it is lost', () => {
    fc.assert(fc.property(names, (name) => decodeURIComponent(encodeName(name)) === name));
  });

  test('an encoded name is safe in a queue name, a job id and a path', () => {
    fc.assert(
      fc.property(fc.oneof(names, fc.integer().map(String), fc.constantFrom('.', '..', '-1')), (name) => {
        const encoded = encodeName(name);
        expect(encoded).toMatch(/^[A-Za-z0-9_%-][A-Za-z0-9_.%-]*$/);
        // What BullMQ takes for an integer, it refuses as a job id.
        expect(String(Number.parseInt(encoded, 10))).not.toBe(encoded);
      }),
    );
  });
});
