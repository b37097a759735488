/** What must hold once an operation has ended, whatever happened on the way. */
import { expect } from 'vitest';
import { copiesOf, type Eyes } from './place.ts';

/**
 * Every VM runs exactly once where its last move took it, unthrottled; nothing is claimed, granted or still on its way;
 * no link was ever promised twice; no migration was started a second time unless the first had ended.
 */
export async function expectCleanEnd(eyes: Eyes, id: string): Promise<void> {
  const operation = await eyes.operation(id);
  expect(operation).toMatchObject({ state: 'done', reason: null, waitingFor: [] });
  const moves = await eyes.moves(id);
  const state = await eyes.view();
  const copies = copiesOf(state);
  for (const { vm, moveIds } of operation.tasks) {
    const last = moves.find((move) => move.id === moveIds.at(-1));
    expect(copies.get(vm), vm).toEqual([{ host: last?.destination, state: 'running', share: 1 }]);
    // An attempt whose destination refused to prepare ended without a start.
    const ended = moves.filter((move) => move.vm === vm && move.state !== 'done' && move.migrateSent);
    expect(state.starts[vm], `starts of ${vm}`).toBeGreaterThanOrEqual(1);
    expect(state.starts[vm], `starts of ${vm}`).toBeLessThanOrEqual(1 + ended.length);
  }
  const started = state.history.flatMap(({ command, refusal }) =>
    command.kind === 'startMigration' && refusal === null ? [command.migrationId] : [],
  );
  expect(started.length).toBe(new Set(started).size);
  expect(state.migrations).toEqual([]);
  expect(state.throttled).toEqual({});
  expect(state.overbooked).toEqual({ count: 0, last: [] });
  const claims = await eyes.stores.claims.read();
  expect(claims.vms).toEqual({});
  expect(claims.reservations).toEqual({});
  for (const use of await eyes.budget.use()) expect([use.egress.counted, use.ingress.counted]).toEqual([0, 0]);
  expect(await eyes.stores.records.activeOperations()).toEqual([]);
}
