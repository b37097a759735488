/** Evacuations of hosts with VMs that cannot be migrated: blocked, skipped, or shut down (decision 0035). */
import { describe, expect, it } from 'vitest';
import { NON_MIGRATABLE_LABEL, type NonMigratable } from '../../src/domain/non-migratable.ts';
import type { OperationRecord, OperationResult } from '../../src/domain/operation.ts';
import { readFleet } from '../../src/operations/fleet-view.ts';
import { preview } from '../../src/operations/preview.ts';
import { operationResult } from '../../src/operations/result.ts';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

const WHY = 'a host device is attached';
type Over = Parameters<typeof vm>[1];

function gpu(name: string, over: Over = {}): ReturnType<typeof vm> {
  return vm(name, { notMigratable: WHY, ...over });
}

function labelled(text: string): Over {
  return { labels: { [NON_MIGRATABLE_LABEL]: text } } as Over;
}

async function fleet(...vms: ReturnType<typeof vm>[]): Promise<World> {
  const world = new World({ hosts: [host('a', vms), host('b')] });
  await world.crew();
  return world;
}

const asked = (nonMigratable: NonMigratable, shutdownTimeoutMs = 120_000, deadlineMs: number | null = null) =>
  evacuate('a', {}, deadlineMs, { nonMigratable, shutdownTimeoutMs });

async function resultOf(world: World, record: OperationRecord): Promise<OperationResult> {
  const last = await world.records.moves(record.tasks.flatMap((task) => task.moveIds.at(-1) ?? []));
  return operationResult(
    record,
    last.filter((move) => move !== null),
    world.clock.now(),
  );
}

async function carriedOut(world: World, request: Parameters<World['request']>[0]): Promise<OperationResult> {
  const id = await world.request(request);
  return resultOf(world, await world.ended(id));
}

/** How often a guest was asked. */
async function askings(world: World): Promise<number> {
  const { history } = await world.simulated.view();
  return history.filter(({ command }) => command.kind === 'shutdown').length;
}

describe('a VM that cannot be migrated', () => {
  it('is blocked with the reason of the hypervisor, where nothing else is asked for', async () => {
    const world = await fleet(vm('web'), gpu('gpu'));
    const result = await carriedOut(world, evacuate('a'));
    expect(result).toMatchObject({ state: 'partial', empty: false, shutdowns: [], skipped: [] });
    expect(result.blocked).toEqual([{ vm: 'gpu', reason: `gpu cannot be migrated: ${WHY}` }]);
    expect(await world.copies('gpu')).toEqual(['a:running']);
  });

  it('is skipped: then the operation is done, the host is not empty, and both are said', async () => {
    const world = await fleet(vm('web'), gpu('gpu'));
    const result = await carriedOut(world, asked('skip'));
    expect(result).toMatchObject({ state: 'done', empty: false, blocked: [], shutdowns: [] });
    expect(result.skipped).toEqual([{ vm: 'gpu', reason: expect.stringContaining(WHY) }]);
    expect(result.moves.map(({ vm: name }) => name)).toEqual(['web']);
    expect(await world.copies('gpu')).toEqual(['a:running']);
    expect(await world.claims.isCordoned('a')).toBe(true);
  });

  it('is shut down last, when the others have left, and then the host is empty', async () => {
    const world = await fleet(vm('web', { memory: '16GiB' }), gpu('gpu'), vm('off', { state: 'shutOff' }));
    const id = await world.request(asked('shutdown'));
    await world.reaches(id, 'web', 'precopy');
    expect((await world.operation(id)).waitingFor).toEqual(['gpu is shut down when the others have left']);
    expect(await askings(world)).toBe(0);
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'done', empty: true });
    const result = await resultOf(world, record);
    expect(result).toMatchObject({ state: 'done', empty: true, blocked: [], skipped: [] });
    expect(result.shutdowns).toMatchObject([{ vm: 'gpu', host: 'a', state: 'shutOff', attempts: 1, reason: null }]);
    expect(result.shutdowns[0]?.tookMs).toBeGreaterThan(2_000);
    expect(await world.copies('gpu')).toEqual(['a:shutOff']);
    const [web, off] = [await world.move(id, 'web'), await world.move(id, 'gpu')];
    expect(off?.askedAtMs).toBeGreaterThanOrEqual(web?.endedAtMs ?? Number.POSITIVE_INFINITY);
    const claims = await world.claims.read();
    expect([claims.vms, claims.reservations]).toEqual([{}, {}]);
  });

  it('whose guest does not listen is blocked when its time is over, and left running', async () => {
    const world = await fleet(vm('web'), gpu('gpu', { ignoresShutdown: true }));
    const id = await world.request(asked('shutdown', 30_000));
    const record = await world.ended(id);
    const result = await resultOf(world, record);
    expect(result).toMatchObject({ state: 'partial', empty: false });
    expect(result.blocked).toEqual([{ vm: 'gpu', reason: expect.stringMatching(/did not shut down within 30s/) }]);
    expect(record.tasks.find((task) => task.vm === 'gpu')?.reason?.code).toBe('shutdownTimedOut');
    expect(await world.copies('gpu')).toEqual(['a:running']);
    expect(await askings(world)).toBe(1);
    const move = await world.move(id, 'gpu');
    expect((move?.endedAtMs ?? 0) - (move?.askedAtMs ?? 0)).toBeGreaterThanOrEqual(30_000);
    expect((move?.endedAtMs ?? 0) - (move?.askedAtMs ?? 0)).toBeLessThan(32_000);
  });

  it('that is paused is not asked: its guest would shut down when somebody resumes it', async () => {
    const world = await fleet(gpu('gpu', { state: 'paused' }));
    const result = await carriedOut(world, asked('shutdown'));
    expect(result).toMatchObject({ state: 'blocked', blocked: [{ reason: expect.stringMatching(/it is paused/) }] });
    expect(await askings(world)).toBe(0);
  });

  it('stays refused where somebody named its move, whatever its label says', async () => {
    const world = await fleet(gpu('gpu', labelled('shutdown')), gpu('other', labelled('skip')));
    await world.clock.advance(1_000);
    const moves = [
      { vm: 'gpu', to: 'b' },
      { vm: 'other', to: 'b' },
    ];
    const result = await carriedOut(world, balance(moves));
    expect(result).toMatchObject({ state: 'blocked', skipped: [], shutdowns: [], empty: null });
    expect(result.blocked.map(({ vm: name }) => name).sort()).toEqual(['gpu', 'other']);
    expect(await askings(world)).toBe(0);
  });
});

describe('labels', () => {
  it('block and skip come before a request that shuts down, shutdown needs one that does', async () => {
    const world = await fleet(
      gpu('blocks', labelled('block')),
      gpu('skips', labelled('skip')),
      gpu('agrees', labelled('shutdown')),
      gpu('silent'),
    );
    const result = await carriedOut(world, asked('label'));
    expect(result.blocked.map(({ vm: name }) => name).sort()).toEqual(['blocks', 'silent']);
    expect(result.skipped.map(({ vm: name }) => name)).toEqual(['skips']);
    expect(result.shutdowns.map(({ vm: name, state }) => [name, state])).toEqual([['agrees', 'shutOff']]);
    expect(result).toMatchObject({ state: 'partial', empty: false });
  });

  it('one that was set after the plan is seen before the guest is asked', async () => {
    const world = new World({ hosts: [host('a', [gpu('gpu')]), host('b')] });
    await world.crew({
      onEvent: async ({ kind }) => {
        if (kind !== 'move.asking') return;
        await world.simulated.inject({ kind: 'vmChanges', vm: 'gpu', labels: { [NON_MIGRATABLE_LABEL]: 'skip' } });
      },
    });
    const id = await world.request(asked('shutdown'));
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'done', empty: false });
    expect((await resultOf(world, record)).skipped).toMatchObject([{ vm: 'gpu' }]);
    expect((await world.move(id, 'gpu'))?.reason?.code).toBe('changedSincePlanned');
    expect(await askings(world)).toBe(0);
    expect(await world.copies('gpu')).toEqual(['a:running']);
  });

  it('one that is none of the three keeps the VM from being touched, and says so', async () => {
    const world = await fleet(gpu('gpu'));
    await world.simulated.inject({ kind: 'vmChanges', vm: 'gpu', labels: { [NON_MIGRATABLE_LABEL]: 'shutdwon' } });
    await world.clock.advance(3_000);
    const result = await carriedOut(world, asked('skip'));
    expect(result).toMatchObject({ state: 'blocked', blocked: [{ reason: expect.stringMatching(/"shutdwon"/) }] });
  });
});

describe('what changes while an evacuation goes on', () => {
  it.each(['block', 'skip', 'shutdown'] as const)('with %s: a VM that can be migrated by now is moved', async (how) => {
    const world = await fleet(vm('web', { memory: '16GiB' }), gpu('gpu'));
    const id = await world.request(asked(how));
    await world.reaches(id, 'web', 'precopy');
    await world.simulated.inject({ kind: 'vmChanges', vm: 'gpu', notMigratable: null });
    expect(await world.ended(id)).toMatchObject({ state: 'done', empty: true });
    expect(await world.copies('gpu')).toEqual(['b:running']);
    expect(await askings(world)).toBe(0);
  });

  it('a VM that can be migrated no more is looked at again by what was asked for', async () => {
    const world = new World({ hosts: [host('a', [vm('web'), vm('gpu')]), host('b')] });
    await world.crew({
      onEvent: async ({ kind, vm: name }) => {
        if (kind !== 'move.admitting' || name !== 'gpu') return;
        await world.simulated.inject({ kind: 'vmChanges', vm: 'gpu', notMigratable: WHY });
      },
    });
    const id = await world.request(asked('skip'));
    const result = await resultOf(world, await world.ended(id));
    expect(result).toMatchObject({ state: 'done', empty: false, skipped: [{ vm: 'gpu' }] });
    expect(await world.copies('gpu')).toEqual(['a:running']);
  });

  it('a VM that can be migrated by now, and has nowhere to go, is blocked once and for all', async () => {
    const world = new World({
      hosts: [host('a', [vm('big', { memory: '16GiB' }), gpu('gpu', { memory: '8GiB' })]), host('b')],
    });
    await world.crew();
    const id = await world.request(asked('shutdown'));
    await world.reaches(id, 'big', 'precopy');
    await world.simulated.inject({ kind: 'hostDies', host: 'b' });
    await world.simulated.inject({ kind: 'vmChanges', vm: 'gpu', notMigratable: null });
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'failed', empty: false });
    expect(record.tasks.find((task) => task.vm === 'gpu')).toMatchObject({ state: 'blocked', treatment: null });
    expect(await world.copies('gpu')).toEqual(['a:running']);
  });

  it('a VM that was shut down and runs again is not shut down twice', async () => {
    const world = await fleet(gpu('one'), gpu('two', { ignoresShutdown: true }));
    const id = await world.request(asked('shutdown'));
    await world.clock.runUntil(async () => (await world.move(id, 'one'))?.step === 'shutOff', 60_000);
    await world.simulated.inject({ kind: 'vmChanges', vm: 'one', start: true });
    const result = await resultOf(world, await world.ended(id));
    expect(result.blocked.find(({ vm: name }) => name === 'one')?.reason).toMatch(/somebody has started it/);
    expect(await world.copies('one')).toEqual(['a:running']);
    expect(await askings(world)).toBe(2);
  });
});

describe('an operation that shuts a VM down', () => {
  const running = async (world: World): Promise<string> => {
    const id = await world.request(asked('shutdown'));
    await world.reaches(id, 'gpu', 'stopping');
    return id;
  };

  it('and is cancelled before its guest was asked leaves it running', async () => {
    const world = await fleet(vm('web', { memory: '16GiB' }), gpu('gpu'));
    const id = await world.request(asked('shutdown'));
    await world.reaches(id, 'web', 'precopy');
    await world.records.setControl(id, { cancel: true });
    await world.delivery.wakeOperation(id);
    expect(await world.ended(id)).toMatchObject({ state: 'cancelled' });
    expect([await world.copies('gpu'), await askings(world)]).toEqual([['a:running'], 0]);
  });

  it('and is cancelled after that says that it is too late, and what came of it', async () => {
    const world = await fleet(gpu('gpu'));
    const id = await running(world);
    await world.records.setControl(id, { cancel: true });
    await world.clock.advance(1_500);
    expect((await world.move(id, 'gpu'))?.reason?.message).toMatch(/cancelled too late/);
    const result = await resultOf(world, await world.ended(id));
    expect(result.shutdowns).toMatchObject([{ vm: 'gpu', state: 'shutOff' }]);
    expect(await world.copies('gpu')).toEqual(['a:shutOff']);
  });

  it('asks nobody while it is paused', async () => {
    const world = new World({ hosts: [host('a', [gpu('gpu')]), host('b')] });
    let isPaused = false;
    await world.crew({
      onEvent: async ({ kind, operationId }) => {
        if (kind !== 'move.asking') return;
        await world.records.setControl(operationId, { pause: true });
        isPaused = true;
      },
    });
    const id = await world.request(asked('shutdown'));
    await world.clock.runUntil(() => isPaused, 60_000);
    await world.clock.advance(60_000);
    expect((await world.move(id, 'gpu'))?.reason?.message).toMatch(/paused/);
    expect([await world.copies('gpu'), await askings(world)]).toEqual([['a:running'], 0]);
    await world.records.setControl(id, { pause: false });
    expect(await world.ended(id)).toMatchObject({ state: 'done', empty: true });
  });

  it('ends at its deadline, and leaves running whoever has not shut down by then', async () => {
    const world = await fleet(gpu('gpu', { ignoresShutdown: true }));
    const id = await world.request(asked('shutdown', 120_000, 20_000));
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'failed', reason: { code: 'deadlineExceeded' } });
    expect(await world.copies('gpu')).toEqual(['a:running']);
    expect(world.clock.now() - record.createdAtMs).toBeLessThan(30_000);
  });

  it('is carried on by a successor when its process is killed: the guest is off by then', async () => {
    const world = new World({ hosts: [host('a', [gpu('gpu')]), host('b')] });
    const first = await world.crew();
    const id = await running(world);
    first.kill();
    await world.clock.advance(30_000);
    await world.crew();
    await redeliver(world, id);
    expect(await world.ended(id)).toMatchObject({ state: 'done', empty: true });
    expect(await askings(world)).toBe(1);
  });

  it('or asks again when it is not', async () => {
    const world = new World({ hosts: [host('a', [gpu('gpu', { ignoresShutdown: true })]), host('b')] });
    const first = await world.crew();
    const id = await running(world);
    first.kill();
    await world.crew();
    await redeliver(world, id);
    expect(await world.ended(id)).toMatchObject({ state: 'blocked', empty: false });
    expect(await askings(world)).toBe(2);
  });

  it('and is not asked again by a successor when the operation was cancelled meanwhile', async () => {
    const world = new World({ hosts: [host('a', [gpu('gpu', { ignoresShutdown: true })]), host('b')] });
    const first = await world.crew();
    const id = await running(world);
    first.kill();
    await world.records.setControl(id, { cancel: true });
    await world.crew();
    await redeliver(world, id);
    const result = await resultOf(world, await world.ended(id));
    expect(result).toMatchObject({ state: 'cancelled', blocked: [{ vm: 'gpu' }] });
    expect([await world.copies('gpu'), await askings(world)]).toEqual([['a:running'], 1]);
  });

  async function redeliver(world: World, id: string): Promise<void> {
    world.delivery.deliverAgain('operations', id);
    for (const move of await world.moves(id)) world.delivery.deliverAgain(`moves ${move.source}`, move.id);
  }
});

describe('a dry run', () => {
  it('says who would be moved, shut down, skipped and blocked, and touches nothing', async () => {
    const world = await fleet(
      vm('web'),
      gpu('silent'),
      gpu('skips', labelled('skip')),
      gpu('blocks', labelled('block')),
    );
    await world.clock.advance(3_000);
    const view = await readFleet({ clock: world.clock, fleet: world.fleet, presence: world.presence });
    const plan = preview(world.fleet, view, await world.claims.read(), asked('shutdown'));
    expect(plan.moves.map(({ vm: name }) => name)).toEqual(['web']);
    expect(plan.shutdowns).toEqual([{ vm: 'silent', host: 'a', why: expect.stringMatching(/the request says/) }]);
    expect(plan.skipped.map(({ vm: name }) => name)).toEqual(['skips']);
    expect(plan.blocked.map(({ vm: name }) => name)).toEqual(['blocks']);
    expect(await askings(world)).toBe(0);
  });
});
