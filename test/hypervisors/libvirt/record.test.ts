/** Which migration is ours: what is written on a domain, read back, and told from a later migration. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { entityName } from '../../../src/domain/names.ts';
import { isOf, type MigrationRecord, recordIn, recordText } from '../../../src/hypervisors/libvirt/record.ts';

const RECORD: MigrationRecord = {
  migrationId: 'ev-1-1-1',
  destination: 'b',
  writtenAtMs: 1_000_000,
  autostart: true,
  postCopy: true,
};

test('what was written is read back, whatever hosts are called', () => {
  const names = fc
    .string({ unit: 'binary', minLength: 1, maxLength: 40 })
    .filter((one) => entityName.safeParse(one).success);
  // XML has no characters that are no characters.
  const storable = names.filter((name) => !/[\uFFFE\uFFFF]/.test(name));
  fc.assert(
    fc.property(storable, fc.boolean(), (destination, autostart) => {
      const record = { ...RECORD, destination, autostart };
      expect(recordIn(recordText(record))).toEqual(record);
    }),
  );
});

test('as libvirt gives it back: with numbers for letters, and quotes of its own', () => {
  const text = `<migration id='ev-1-1-1' to="gr&#xF6;&lt;&#223;e" at="1000000" autostart="no" postcopy="no"/>\n`;
  expect(recordIn(text)).toEqual({ ...RECORD, destination: 'grö<ße', autostart: false, postCopy: false });
});

test.each([
  '',
  '\n',
  '<migration/>',
  '<migration id="x" to="b" at="soon" autostart="no"/>',
  '<other id="x"/>',
  '<<',
  'words',
])('no record: %j', (text) => {
  expect(recordIn(text)).toBeNull();
});

test('a migration that began when the record was written is ours; one that began at another time is not', () => {
  const nowMs = RECORD.writtenAtMs + 600_000;
  expect(isOf(RECORD, nowMs, 599_500)).toBe(true);
  expect(isOf(RECORD, nowMs, 601_000)).toBe(true);
  // Somebody began another one later, or this one was there before us.
  expect(isOf(RECORD, nowMs, 500_000)).toBe(false);
  expect(isOf(RECORD, nowMs, 610_000)).toBe(false);
});
