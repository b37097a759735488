import { expect, it } from 'vitest';
import { seenVms } from '../../src/operations/vms.ts';
import type { ClaimsState } from '../../src/store/claims.ts';
import type { PublishedInventory } from '../../src/store/presence.ts';

type Seen = PublishedInventory['vms'][number];
const seen = (name: string, over: Partial<Seen> = {}): Seen => ({
  name,
  uuid: `u-${name}`,
  state: 'running',
  memoryBytes: 1,
  touchedBytes: 1,
  cpus: 1,
  demandCores: 0,
  notMigratable: null,
  ...over,
});
const inventory = (host: string, takenAtMs: number, vms: Seen[]): PublishedInventory => ({
  host,
  takenAtMs,
  unreachable: null,
  vms,
});
const claims: ClaimsState = { vms: { 'db-1': 'op-1' }, reservations: {}, cordons: {}, changedAtMs: {} };
const where = (inventories: (PublishedInventory | null)[]): string[] =>
  seenVms(inventories, claims).map(({ vm, host, state }) => `${vm} ${host} ${state}`);

it('each VM once, by name, with the operation that has claimed it', () => {
  const listed = seenVms([inventory('b', 1, [seen('web-1')]), null, inventory('a', 1, [seen('db-1')])], claims);
  expect(listed).toEqual([
    { vm: 'db-1', uuid: 'u-db-1', host: 'a', state: 'running', cpus: 1, memoryBytes: 1, operation: 'op-1' },
    { vm: 'web-1', uuid: 'u-web-1', host: 'b', state: 'running', cpus: 1, memoryBytes: 1, operation: null },
  ]);
});

it('one that is being moved is where it runs, not where it arrives', () => {
  const incoming = inventory('b', 9, [seen('db-1', { state: 'incoming' })]);
  expect(where([incoming, inventory('a', 1, [seen('db-1')])])).toEqual(['db-1 a running']);
  expect(
    where([inventory('b', 1, [seen('db-1')]), inventory('a', 9, [seen('db-1', { state: 'postMigrate' })])]),
  ).toEqual(['db-1 b running']);
});

it('one that two hosts show is where it was seen last; two VMs of one name are two', () => {
  expect(where([inventory('a', 1, [seen('db-1')]), inventory('b', 2, [seen('db-1')])])).toEqual(['db-1 b running']);
  const other = inventory('b', 2, [seen('db-1', { uuid: 'u-2' })]);
  expect(where([inventory('a', 1, [seen('db-1')]), other])).toEqual(['db-1 a running', 'db-1 b running']);
});
