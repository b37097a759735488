/**
 * docs/migration-states.md shows the state table of a migration: diagram and tables between its markers are the ones
 * that follow from src/migration/states.ts. `HOSTEVAC_WRITE=1` writes them; what stands around them is written by hand.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { FINAL_STEPS, migrationSteps, SHOWN_AS, TRANSITIONS } from '../../src/migration/states.ts';

const file = new URL('../../docs/migration-states.md', import.meta.url);
const BEGIN = '<!-- begin: from src/migration/states.ts; HOSTEVAC_WRITE=1 rewrites it -->';
const END = '<!-- end -->';

/** One arrow for each pair of states, with all causes that lead along it. */
function diagram(): string[] {
  const arrows = new Map<string, string[]>();
  for (const [from, cause, to] of TRANSITIONS) {
    const arrow = `${from} --> ${to}`;
    arrows.set(arrow, [...(arrows.get(arrow) ?? []), cause]);
  }
  return [
    '```mermaid',
    'stateDiagram-v2',
    `  [*] --> ${migrationSteps[0]}`,
    ...[...arrows].map(([arrow, causes]) => `  ${arrow}: ${causes.join(', ')}`),
    ...migrationSteps.filter((step) => FINAL_STEPS.has(step)).map((step) => `  ${step} --> [*]`),
    '```',
  ];
}

function table(): string[] {
  return ['| from | cause | to |', '|---|---|---|', ...TRANSITIONS.map((row) => `| ${row.join(' | ')} |`)];
}

function shown(): string[] {
  const rows = migrationSteps.map((step) => {
    const as = SHOWN_AS[step];
    return `| ${step} | ${as === null ? '(as before)' : `\`${as}\``} | ${FINAL_STEPS.has(step) ? 'yes' : ''} |`;
  });
  return ['| state | shown as | final |', '|---|---|---|', ...rows];
}

function generated(): string {
  return ['', ...diagram(), '', ...table(), '', ...shown(), ''].join('\n');
}

/** The text before, between and behind the markers. */
function parts(text: string): readonly [before: string, between: string, behind: string] {
  const [before, rest, ...more] = text.split(`${BEGIN}\n`);
  const [between, behind, ...others] = (rest ?? '').split(END);
  if (before === undefined || between === undefined || behind === undefined || more.length + others.length > 0) {
    throw new Error(`docs/migration-states.md: expected one "${BEGIN}" and, behind it, one "${END}"`);
  }
  return [before, between, behind];
}

/** First cells of the rows of the table under a heading. */
function firstCells(text: string, heading: string): string[] {
  const section = text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/^\| `(\w+)` \|/gm)].map((match) => match[1] ?? '');
}

describe('the document of the migration states', () => {
  it('shows the table that the program runs on', () => {
    if (process.env['HOSTEVAC_WRITE'] === '1') {
      const [before, , behind] = parts(readFileSync(file, 'utf8'));
      writeFileSync(file, `${before}${BEGIN}\n${generated()}${END}${behind}`);
    }
    expect(parts(readFileSync(file, 'utf8'))[1]).toBe(generated());
  });

  it('explains each state and each cause once, and none that is gone', () => {
    const text = readFileSync(file, 'utf8');
    expect(firstCells(text, 'States')).toEqual([...migrationSteps]);
    expect(firstCells(text, 'Causes').sort()).toEqual([...new Set(TRANSITIONS.map(([, cause]) => cause))].sort());
  });
});
