import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hrefOf, parseRoute, type Route } from '../../src/dashboard/lib/route.ts';

describe('addresses', () => {
  it('whatever a host, a VM or an operation is called, its address leads back to it', () => {
    const name = fc.string({ minLength: 1, unit: 'grapheme' });
    const route: fc.Arbitrary<Exclude<Route, { page: 'unknown' }>> = fc.oneof(
      name.map((host) => ({ page: 'host' as const, host })),
      name.map((host) => ({ page: 'evacuate' as const, host })),
      name.map((id) => ({ page: 'operation' as const, id })),
      name.map((id) => ({ page: 'migration' as const, id })),
      name.map((vm) => ({ page: 'whatIf' as const, vm })),
      fc.constantFrom({ page: 'fleet' as const }, { page: 'operations' as const }, { page: 'audit' as const }),
    );
    fc.assert(
      fc.property(route, (one) => {
        expect(parseRoute(hrefOf(one))).toEqual(one);
      }),
    );
  });

  it.each([
    ['', 'fleet'],
    ['#', 'fleet'],
    ['#/', 'fleet'],
    ['#/operations/', 'operations'],
    ['#/nowhere', 'unknown'],
    ['#/hosts/a/b', 'unknown'],
    ['#/hosts/a/evacuate/now', 'unknown'],
    ['#/hosts/%zz', 'host'],
  ])('%s is %s', (hash, page) => expect(parseRoute(hash).page).toBe(page));
});
