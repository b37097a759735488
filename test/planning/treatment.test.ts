/** What is done with a VM that cannot be migrated: the whole table, and the laws that it keeps (decision 0035). */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  NON_MIGRATABLE_LABEL,
  type NonMigratable,
  nonMigratableChoices,
  type Treatment,
  treatments,
} from '../../src/domain/non-migratable.ts';
import { treatmentOf } from '../../src/planning/treatment.ts';

const fixed = (label: string | null, over: { state?: 'running' | 'paused'; notMigratable?: string | null } = {}) => ({
  name: 'gpu-1',
  state: 'running' as const,
  notMigratable: 'a host device is attached',
  ...(label === null ? {} : { labels: { [NON_MIGRATABLE_LABEL]: label, owner: 'ml' } }),
  ...over,
});

describe('a VM that cannot be migrated', () => {
  it.each<[NonMigratable, none: Treatment, block: Treatment, skip: Treatment, shutdown: Treatment]>([
    ['block', 'block', 'block', 'skip', 'block'],
    ['skip', 'skip', 'block', 'skip', 'skip'],
    ['shutdown', 'shutdown', 'block', 'skip', 'shutdown'],
    ['label', 'block', 'block', 'skip', 'shutdown'],
  ])('request %s: %s without a label, %s, %s, %s with each of them', (choice, ...expected) => {
    const labels = [null, 'block', 'skip', 'shutdown'];
    expect(labels.map((label) => treatmentOf(fixed(label), choice)?.treatment)).toEqual(expected);
  });

  it('is told who says so, with the reason of the hypervisor', () => {
    const told = (label: string | null, choice: NonMigratable) => treatmentOf(fixed(label), choice)?.reason.message;
    expect(told(null, 'block')).toBe('gpu-1 cannot be migrated: a host device is attached');
    expect(told(null, 'skip')).toMatch(/attached; the request says that it stays where it is$/);
    expect(told('skip', 'shutdown')).toMatch(/its label hostevac.non-migratable says that it stays where it is$/);
    expect(told('shutdown', 'block')).toMatch(/its label lets it be shut down, the request does not ask for it/);
  });
});

const anyLabel = fc.option(fc.oneof(fc.constantFrom(...treatments), fc.string()), { nil: null });
const anyChoice = fc.option(fc.constantFrom(...nonMigratableChoices), { nil: null });
const anyState = fc.constantFrom('running' as const, 'paused' as const);

describe('nobody is shut down by surprise', () => {
  test('it takes a request that shuts down, a running VM that cannot be migrated, and a label that does not forbid it', () => {
    fc.assert(
      fc.property(anyLabel, anyChoice, anyState, (label, choice, state) => {
        if (treatmentOf(fixed(label, { state }), choice)?.treatment !== 'shutdown') return;
        expect(['shutdown', 'label']).toContain(choice);
        expect(state).toBe('running');
        expect([null, 'shutdown']).toContain(label?.trim() ?? null);
        if (choice === 'label') expect(label?.trim()).toBe('shutdown');
      }),
    );
  });

  test('whatever can be migrated is', () => {
    fc.assert(
      fc.property(anyLabel, anyChoice, anyState, (label, choice, state) => {
        expect(treatmentOf(fixed(label, { state, notMigratable: null }), choice)).toBeNull();
      }),
    );
  });

  test('a move that somebody named is refused', () => {
    fc.assert(
      fc.property(anyLabel, (label) => {
        expect(treatmentOf(fixed(label), null)?.treatment).toBe('block');
      }),
    );
  });
});
