/** Evacuations end to end in virtual time: what an operator asked for, and what they get. */
import { describe, expect, it } from 'vitest';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

const GIB = 2 ** 30;

describe('an evacuation', () => {
  it('empties the host: every VM runs exactly once, elsewhere', async () => {
    const world = new World({ hosts: [host('a', [vm('v1'), vm('v2'), vm('v3')]), host('b'), host('c')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'done', reason: null });
    for (const name of ['v1', 'v2', 'v3']) {
      const copies = await world.copies(name);
      expect(copies).toHaveLength(1);
      expect(copies[0]).toMatch(/^[bc]:running$/);
    }
    expect((await world.hypervisor.inventory('a')).vms).toEqual([]);
    expect((await world.simulated.view()).overbooked.count).toBe(0);
    for (const { egress, ingress } of await world.budget.use())
      expect([egress.counted, ingress.counted]).toEqual([0, 0]);
    const claims = await world.claims.read();
    expect([claims.vms, claims.reservations]).toEqual([{}, {}]);
    expect(claims.cordons['a']).toEqual({ operator: true, operations: [] });
    expect(world.delivery.errors).toEqual([]);
  });

  it('of an empty host is done at once', async () => {
    const world = new World({ hosts: [host('a'), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    expect(await world.ended(id, 10_000)).toMatchObject({ state: 'done', tasks: [] });
  });

  it('gives full rate to few: with one link, one VM after the other', async () => {
    const world = new World({ hosts: [host('a', [vm('v1'), vm('v2')]), host('b'), host('c')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.ended(id);
    const [first, second] = (await world.moves(id)).sort((x, y) => (x.startedAtMs ?? 0) - (y.startedAtMs ?? 0));
    const firstEnds = (first?.startedAtMs ?? 0) + (first?.figures.totalMs ?? 0);
    // It connects while the first one ends, and is sent in earnest at once when that has ended.
    expect(second?.startedAtMs).toBeLessThan(firstEnds);
    const begins = (second?.startedAtMs ?? 0) + (second?.headStartMs ?? 0);
    expect(begins).toBeGreaterThanOrEqual(firstEnds);
    expect(begins).toBeLessThan(firstEnds + 100);
  });

  it('redoes a move whose destination dies elsewhere, while its siblings go on', async () => {
    const world = new World({
      hosts: [
        host('a', [vm('big', { memory: '16GiB' }), vm('v2'), vm('v3')], { egress: '4GiB/s' }),
        host('b', [], { memory: '32GiB' }),
        host('c', [], { memory: '48GiB' }),
      ],
    });
    await world.crew();
    const id = await world.request(evacuate('a'));
    const move = await world.reaches(id, 'big', 'precopy');
    await world.simulated.inject({ kind: 'hostDies', host: move.destination });
    const record = await world.ended(id);
    expect(record.state).toBe('done');
    const attempts = (await world.moves(id)).filter((one) => one.vm === 'big');
    expect(attempts).toHaveLength(2);
    expect(attempts[1]?.destination).not.toBe(move.destination);
    expect(attempts[1]?.queuedAtMs).toBeLessThan((attempts[0]?.endedAtMs ?? 0) + 2_000);
    expect(await world.copies('v2')).toHaveLength(1);
  });

  it('moves what it can and says of each VM why it stayed', async () => {
    const world = new World({
      hosts: [
        host('a', [vm('small'), vm('huge', { memory: '60GiB' }), vm('stays')]),
        host('b', [], { memory: '32GiB' }),
      ],
      rules: [{ pinned: ['stays'] }],
    });
    await world.crew();
    const id = await world.request(evacuate('a'));
    const record = await world.ended(id);
    expect(record.state).toBe('partial');
    const reasons = new Map(record.tasks.map((task) => [task.vm, task.reason?.message ?? null]));
    expect(reasons.get('small')).toBeNull();
    expect(reasons.get('huge')).toMatch(/b: .*memory short/);
    expect(reasons.get('stays')).toMatch(/pinned/);
  });

  it('picks up a VM that appeared on the host meanwhile', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.reaches(id, 'v1', 'precopy');
    const [a] = world.fleet.hosts;
    const spec = a?.driver === 'simulated' ? a.simulated.vms[0] : undefined;
    if (spec === undefined) throw new Error('no spec');
    await world.simulated.inject({
      kind: 'vmAppears',
      host: 'a',
      spec: { ...spec, name: 'late', memory: GIB, touched: GIB },
    });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect(await world.copies('late')).toEqual(['b:running']);
  });

  it('is kept while no worker runs, says so, and is carried out when one starts', async () => {
    const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
    const id = await world.request(evacuate('a'));
    await world.crew({ hosts: [] });
    await world.clock.advance(60_000);
    expect((await world.operation(id)).waitingFor.join()).toMatch(/no worker serves a .*hostevac worker --hosts a/);
    await world.crew({ operations: false });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('is carried to its end by a successor when its process is killed, without starting a migration twice', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' }), vm('v2')]), host('b')] });
    const first = await world.crew();
    const id = await world.request(evacuate('a'));
    await world.reaches(id, 'v1', 'precopy');
    first.kill();
    await world.crew();
    for (const [queue, items] of Object.entries({
      operations: [id],
      'moves a': (await world.moves(id)).map((one) => one.id),
    })) {
      for (const item of items) world.delivery.deliverAgain(queue, item);
    }
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    const view = await world.simulated.view();
    expect(world.transitions.some(({ cause }) => cause === 'runningOurs')).toBe(true);
    expect(view.starts).toEqual({ v1: 1, v2: 1 });
  });

  it('stops when cancelled: what has moved stays moved, what has not stays at home and unthrottled', async () => {
    const world = new World({ hosts: [host('a', [vm('v1'), vm('v2'), vm('v3')]), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.clock.runUntil(async () => (await world.moves(id)).some((move) => move.state === 'done'), 60_000);
    await world.records.setControl(id, { cancel: true });
    const before = world.clock.now();
    await world.delivery.wakeOperation(id);
    const record = await world.ended(id);
    expect(world.clock.now() - before).toBeLessThan(3_000);
    expect(record.state).toBe('cancelled');
    expect(record.tasks.map((task) => task.state).sort()).toEqual(['cancelled', 'cancelled', 'done']);
    for (const task of record.tasks) {
      expect(await world.copies(task.vm)).toEqual([task.state === 'done' ? 'b:running' : 'a:running']);
    }
    expect((await world.claims.read()).cordons).toEqual({});
  });

  it('pauses: running moves finish, no new one starts until it is resumed', async () => {
    const world = new World({ hosts: [host('a', [vm('v1'), vm('v2'), vm('v3')]), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.clock.runUntil(async () => (await world.moves(id)).some((move) => move.step === 'precopy'), 60_000);
    await world.records.setControl(id, { pause: true });
    await world.delivery.wakeOperation(id);
    await world.clock.advance(60_000);
    expect((await world.operation(id)).state).toBe('paused');
    expect((await world.moves(id)).map((move) => move.state).sort()).toEqual(['done', 'queued', 'queued']);
    await world.records.setControl(id, { pause: false });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('that is paused at once cancels running moves and starts them again when resumed', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.reaches(id, 'v1', 'precopy');
    await world.records.setControl(id, { pause: true, pauseNow: true });
    await world.clock.advance(30_000);
    expect(await world.copies('v1')).toEqual(['a:running']);
    expect((await world.operation(id)).state).toBe('paused');
    await world.records.setControl(id, { pause: false, pauseNow: false });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect(await world.copies('v1')).toEqual(['b:running']);
  });

  it('ends at its deadline with that as the reason', async () => {
    const world = new World({
      hosts: [host('a', [vm('v1', { memory: '16GiB' }), vm('v2', { memory: '16GiB' })]), host('b')],
    });
    await world.crew();
    const id = await world.request(evacuate('a', {}, 20_000));
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'partial', reason: { code: 'deadlineExceeded' } });
    expect(record.tasks.map((task) => task.state).sort()).toEqual(['done', 'failed']);
  });
});

describe('an evacuation whose host cannot be seen', () => {
  it('ends at its deadline as failed, never as done, when no worker came in time', async () => {
    const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
    const id = await world.request(evacuate('a', {}, 60_000));
    await world.clock.advance(120_000);
    await world.crew();
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'failed', reason: { code: 'deadlineExceeded' } });
    expect((await world.claims.read()).cordons).toEqual({});
    expect(await world.copies('v1')).toEqual(['a:running']);
  });

  it('ends with that as the reason when the host itself stays silent, and claims nothing about its VMs', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
    await world.crew();
    const id = await world.request(evacuate('a'));
    await world.reaches(id, 'v1', 'precopy');
    await world.simulated.inject({ kind: 'hostDies', host: 'a' });
    const record = await world.ended(id, 1_200_000);
    expect(record.state).toBe('failed');
    expect(record.tasks[0]?.reason?.code).toBe('hostUnreachable');
  });

  it('does not lose patience over a time in which nobody looked', async () => {
    const world = new World({ hosts: [host('a', [vm('v1')]), host('b')] });
    const first = await world.crew({ hosts: [] });
    const id = await world.request(evacuate('a'));
    await world.clock.advance(5_000);
    first.kill();
    await world.clock.advance(600_000);
    await world.crew();
    world.delivery.deliverAgain('operations', id);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });
});

describe('two evacuations at once', () => {
  it('never overcommit a destination that fits only one of a pair; the other says why it is blocked', async () => {
    const world = new World({
      hosts: [
        host('a', [vm('v1', { memory: '20GiB' })]),
        host('b', [vm('v2', { memory: '20GiB' })]),
        host('c', [], { memory: '32GiB' }),
      ],
    });
    await world.crew();
    const ids = [await world.request(evacuate('a')), await world.request(evacuate('b'))];
    await world.clock.advance(3_000);
    const waiting = (await Promise.all(ids.map((id) => world.operation(id)))).flatMap((record) => record.waitingFor);
    expect(waiting.join()).toMatch(/memory short.*waits for operation op-/);
    const records = [await world.ended(ids[0] ?? ''), await world.ended(ids[1] ?? '')];
    expect(records.map((record) => record.state).sort()).toEqual(['blocked', 'done']);
    expect(records.flatMap((record) => record.tasks.map((task) => task.reason?.message ?? '')).join()).toMatch(
      /c: .*memory short/,
    );
    const there = (await world.hypervisor.inventory('c')).vms;
    expect(there.reduce((sum, one) => sum + one.memoryBytes, 0)).toBeLessThanOrEqual(32 * GIB);
  });
});

describe('two evacuations of hosts that send as fast as others take', () => {
  it('go to different hosts: what one operation sends where is known to the other', async () => {
    const full = (name: string) => host(name, [vm(`${name}-1`), vm(`${name}-2`)]);
    // By fit alone all four would go to the smallest.
    const world = new World({ hosts: [full('a'), full('b'), host('c', [], { memory: '32GiB' }), host('d')] });
    await world.crew();
    const ids: string[] = [];
    for (const name of ['a', 'b']) {
      await world.claims.cordon(name, 'operator');
      ids.push(await world.request(evacuate(name)));
    }
    const destinations = [];
    for (const id of ids) {
      expect(await world.ended(id)).toMatchObject({ state: 'done' });
      destinations.push([...new Set((await world.moves(id)).map(({ destination }) => destination))]);
    }
    expect(destinations.flat().sort()).toEqual(['c', 'd']);
    expect((await world.claims.read()).reservations).toEqual({});
  });
});

describe('explicit moves', () => {
  it('move a VM where it was asked to go', async () => {
    const world = new World({ hosts: [host('a', [vm('v1')]), host('b'), host('c')] });
    await world.crew();
    const id = await world.request(balance([{ vm: 'v1', to: 'c' }]));
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect(await world.copies('v1')).toEqual(['c:running']);
  });

  it('to a host that is too small are blocked, with figures', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '20GiB' })]), host('b', [], { memory: '8GiB' })] });
    await world.crew();
    await world.clock.advance(1_000);
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
    const record = await world.ended(id);
    expect(record.state).toBe('blocked');
    expect(record.tasks[0]?.reason).toMatchObject({ code: 'destinationTooSmall' });
    expect(record.tasks[0]?.reason?.message).toMatch(/20GiB/);
    expect(await world.copies('v1')).toEqual(['a:running']);
  });

  it('swap two VMs between hosts that have room for one more only', async () => {
    const world = new World({
      hosts: [
        host('a', [vm('v1', { memory: '20GiB' })], { memory: '48GiB' }),
        host('b', [vm('v2', { memory: '20GiB' })], { memory: '32GiB' }),
      ],
    });
    await world.crew();
    const id = await world.request(
      balance([
        { vm: 'v1', to: 'b' },
        { vm: 'v2', to: 'a' },
      ]),
    );
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect([await world.copies('v1'), await world.copies('v2')]).toEqual([['b:running'], ['a:running']]);
  });
});
