/** Records as the version before the choice of a controller wrote them: they are read, go on and end. */
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../../src/clock/virtual-clock.ts';
import { MemoryCellStore, MemoryWakeups } from '../../src/store/memory-store.ts';
import { initialRecord, Records } from '../../src/store/records.ts';
import { balance, evacuate } from '../support/world.ts';

const POLICY =
  '{"name":"maintenance","aggression":0.5,"minCpuShare":0.1,"maxStallMs":300,"maxTimeMs":600000,' +
  '"maxBandwidthBytesPerSec":null,"atDeadline":"abort","controller":"rfc2011","throttling":"required","maxAttempts":3}';
const REQUEST = `{"kind":"evacuateNode","host":"a","policy":${POLICY},"deadlineMs":null}`;
const INDEX =
  `{"active":{"op-1":{"request":${REQUEST},"createdAtMs":5}},"ended":["op-0"],` +
  `"keys":{"night":{"id":"op-1","content":${JSON.stringify(REQUEST)},"atMs":5}}}`;
const OPERATION =
  `{"id":"op-1","request":${REQUEST},"state":"running","createdAtMs":5,"startedAtMs":6,"endedAtMs":null,"round":1,` +
  '"tasks":[{"vm":"db-1","source":"a","wanted":null,"state":"precopy","needsMove":false,"moveIds":["op-1-1-1"],' +
  '"avoid":[],"retryAtMs":0,"reason":null}],"reason":null,"waitingFor":[],"waitingSinceMs":null,"waitingSeenMs":null,' +
  '"token":3}';
const MOVE =
  '{"id":"op-1-1-1","operationId":"op-1","vm":"db-1","uuid":"u-1","source":"a","destination":"b","attempt":1,' +
  '"state":"precopy","step":"converging","reason":null,"queuedAtMs":6,"order":1,"startedAtMs":7,"endedAtMs":null,' +
  '"token":4,"migrateSent":true,"progress":{"pass":2,"remainingBytes":1000,"transferredBytes":5000,"totalBytes":6000,' +
  '"rateBytesPerSec":100,"dirtyRateBytesPerSec":10,"grantBytesPerSec":100,"share":0.8,"etaMs":null,' +
  '"decision":"share 0.80"},"account":{"atMs":8,"gotCpuMs":1,"frozenDemandCores":null,"demandCores":1,"observedMs":1,' +
  '"shareMs":1},"figures":{"totalMs":0,"downtimeMs":0,"transferredBytes":5000,"minShare":0.8,"meanShare":0.9,' +
  '"harmCpuMs":3},"relaxed":[]}';

async function keptBefore(): Promise<Records> {
  const clock = new VirtualClock();
  const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
  await cells.compareAndSet('index', 0, INDEX);
  await cells.compareAndSet('operation:op-1', 0, OPERATION);
  await cells.compareAndSet('move:op-1-1-1', 0, MOVE);
  return new Records(cells);
}
const fence = { token: 9, assertHeld: () => undefined };

describe('records of an earlier version', () => {
  it('an operation is read, with the order in which that version let requirements give way', async () => {
    const records = await keptBefore();
    const kept = await records.operation('op-1');
    expect(kept?.request).toEqual({
      ...JSON.parse(REQUEST),
      policy: { ...JSON.parse(POLICY), precedence: ['minCpu', 'maxBandwidth', 'maxTime'] },
      overrides: {},
      nonMigratable: 'block',
      shutdownTimeoutMs: 120_000,
    });
    expect(kept?.tasks[0]?.treatment).toBeNull();
    expect(kept).toMatchObject({ proposal: null, approvedAtMs: null });
    expect((await records.move('op-1-1-1'))?.kind).toBe('migration');
    expect(await records.recentOperations(10)).toEqual([kept]);
  });

  it('a request whose operation has no record yet is read from the index', async () => {
    const clock = new VirtualClock();
    const cells = new MemoryCellStore(clock, new MemoryWakeups(clock));
    await cells.compareAndSet('index', 0, INDEX);
    expect((await new Records(cells).operation('op-1'))?.request.policy.controller).toBe('rfc2011');
  });

  it('a migration under way is read and written: nothing was predicted, nothing seen of its guest', async () => {
    const records = await keptBefore();
    const move = await records.move('op-1-1-1');
    expect(await records.moves(['op-1-1-1'])).toEqual([move]);
    if (move === null) throw new Error('no move');
    expect(move).toMatchObject({ predicted: null, evidence: [], progress: { prediction: null, share: 0.8 } });
    await records.saveMove(fence, { ...move, state: 'verifying' });
    expect(await records.move('op-1-1-1')).toMatchObject({ state: 'verifying', token: 9 });
  });

  it('others are created beside it, and it is ended', async () => {
    const records = await keptBefore();
    const other = { id: 'op-2', request: evacuate('c'), createdAtMs: 9, idempotencyKey: null };
    expect(await records.create(other)).toEqual({ id: 'op-2', acceptance: 'created' });
    const operation = await records.operation('op-1');
    if (operation === null) throw new Error('no operation');
    await records.saveOperation(fence, { ...operation, state: 'done' });
    expect(await records.activeOperations()).toEqual(['op-2']);
    expect((await records.operation('op-1'))?.state).toBe('done');
  });
});

describe('the key of a request that an earlier version kept', () => {
  const asked = (request = evacuate('a')) => ({ id: 'op-2', request, createdAtMs: 9, idempotencyKey: 'night' });
  const repeated = { id: 'op-1', acceptance: 'repeated' };

  it('the same request again is the same operation, though the defaults are others now', async () => {
    const records = await keptBefore();
    expect(await records.create(asked())).toEqual(repeated);
    expect(await records.create(asked(initialRecord('op-1', JSON.parse(REQUEST), 5).request))).toEqual(repeated);
  });

  it('another request is still refused', async () => {
    const records = await keptBefore();
    const refused = [
      evacuate('b'),
      evacuate('a', { aggression: 0.9 }),
      evacuate('a', { atDeadline: 'postCopy' }),
      evacuate('a', {}, 1_000),
      { ...evacuate('a'), overrides: { 'db-1': evacuate('a').policy } },
      balance([{ vm: 'db-1', to: 'b' }]),
    ];
    for (const request of refused) {
      await expect(records.create(asked(request))).rejects.toMatchObject({ code: 'idempotencyConflict' });
    }
  });
});

it('with a request of this version its precedence and controller count, the order of its keys does not', async () => {
  const clock = new VirtualClock();
  const records = new Records(new MemoryCellStore(clock, new MemoryWakeups(clock)));
  const asked = (request = evacuate('a')) => ({ id: 'op-1', request, createdAtMs: 1, idempotencyKey: 'night' });
  await records.create(asked());
  const { overrides, ...rest } = evacuate('a');
  expect(await records.create(asked({ overrides, ...rest }))).toMatchObject({ acceptance: 'repeated' });
  const others = [
    evacuate('a', { controller: 'rfc2011' }),
    evacuate('a', { precedence: ['minCpu', 'maxTime', 'maxBandwidth'] }),
  ];
  for (const request of others) {
    await expect(records.create(asked(request))).rejects.toMatchObject({ code: 'idempotencyConflict' });
  }
});
