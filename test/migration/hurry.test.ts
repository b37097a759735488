/** What time is worth to those who wait behind a guest that hardly converges (decision 0033). */
import { beforeAll, expect, test } from 'vitest';
import type { Policy } from '../../src/domain/policy.ts';
import type { OperationRequest } from '../../src/domain/request.ts';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

/** It writes 94 MiB/s, and 100 are sent: by itself each pass is hardly shorter than the one before. */
const near = vm('near', { memory: '3GiB', dirtyRate: '94MiB/s', workingSet: '1GiB', cpuUse: 0.5 });
const quiet = vm('quiet', { memory: '1GiB' });
const SLOW = { egress: '100MiB/s' };
/** Enough for it to end by itself. */
const LONG: Partial<Policy> = { maxTimeMs: 3_600_000 };

const HARD: Partial<Policy> = { ...LONG, aggression: 1 };

async function moved(guests: ReturnType<typeof vm>[], request: OperationRequest) {
  const world = new World({ hosts: [host('a', guests, SLOW), host('b', [], SLOW)] });
  await world.crew();
  const id = await world.request(request);
  expect((await world.ended(id)).state).toBe('done');
  const move = await world.move(id, 'near');
  if (move?.startedAtMs == null || move.endedAtMs === null) throw new Error('near was not moved');
  return { tookMs: move.endedAtMs - move.startedAtMs, ...move };
}

let alone: Awaited<ReturnType<typeof moved>>;
beforeAll(async () => {
  alone = await moved([near], evacuate('a', HARD));
}, 60_000);

test('alone it hardly lacks anything and takes its time, before others it is slowed and is soon done', async () => {
  const first = await moved([near, quiet], evacuate('a', HARD));
  expect(first.tookMs).toBeLessThan(alone.tookMs / 2);
  expect(first.figures.harmCpuMs).toBeGreaterThan(2 * alone.figures.harmCpuMs);
  // What it was slowed for is worth it: a tenth of what it would have used in the time that was saved.
  const saved = 0.1 * (alone.tookMs - first.tookMs);
  expect(first.figures.harmCpuMs - alone.figures.harmCpuMs).toBeLessThan(saved);
  // And was foreseen.
  expect(first.predicted?.totalMs.value).toBeLessThan(alone.tookMs / 2);
});

const gentle: Partial<Policy> = { ...LONG, aggression: 0 };
const away = ['near', 'quiet'].map((name) => ({ vm: name, to: 'b' }));

test.each([
  ['who is asked to be gentle', evacuate('a', gentle)],
  ['in a rebalance, which has time', balance(away, { ...HARD, minCpuShare: 0.1 })],
] as const)('for others it is not slowed: %s', async (_, request) => {
  const { tookMs, figures } = await moved([near, quiet], request);
  expect(tookMs).toBeGreaterThan(0.8 * alone.tookMs);
  expect(figures.harmCpuMs).toBeLessThan(alone.figures.harmCpuMs + 500);
});
