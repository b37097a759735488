/** The table of presets in docs/policies.md says what they are. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { POLICY_PRESETS, type Policy } from '../../src/domain/policy.ts';
import { formatDuration } from '../../src/domain/units.ts';

const text = readFileSync(new URL('../../docs/policies.md', import.meta.url), 'utf8');

/** The cells of a line of the first table, behind its first. */
function cells(first: string): string[] {
  const line = text.split('\n').find((one) => one.startsWith(`| ${first} |`));
  return (line ?? '')
    .split('|')
    .slice(2, -1)
    .map((cell) => cell.trim());
}

const plain = (duration: string): string => duration.replace(' min', 'm').replaceAll(' ', '');
const WORDS = { minCpu: 'min CPU', maxBandwidth: 'max bandwidth', maxTime: 'max time' } as const;
const presets: readonly Policy[] = [POLICY_PRESETS.maintenance, POLICY_PRESETS.rebalance, POLICY_PRESETS.emergency];

test('names, figures, what is done at the deadline, what gives way first', () => {
  expect(text).toContain(`| | ${presets.map(({ name }) => `\`${name}\``).join(' | ')} |`);
  expect(cells('aggression')).toEqual(presets.map(({ aggression }) => String(aggression)));
  expect(cells('min CPU')).toEqual(presets.map(({ minCpuShare }) => String(minCpuShare)));
  expect(cells('max stall').map(plain)).toEqual(presets.map(({ maxStallMs }) => formatDuration(maxStallMs)));
  expect(cells('max time, per VM').map(plain)).toEqual(presets.map(({ maxTimeMs }) => formatDuration(maxTimeMs)));
  const dashed = (action: string) => action.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  expect(cells('then')).toEqual(presets.map(({ atDeadline }) => dashed(atDeadline)));
  expect(cells('kept longest to shortest')).toEqual(
    presets.map(({ precedence }) => precedence.map((one) => WORDS[one]).join(', ')),
  );
});
