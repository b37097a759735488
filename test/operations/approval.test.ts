/** Operations that wait for approval, on a simulated fleet in virtual time. */
import { describe, expect, it } from 'vitest';
import { approvalOf, type OperationRecord, type Proposal } from '../../src/domain/operation.ts';
import { approve, cancel, pause, resume } from '../../src/operations/control.ts';
import { isCordoned } from '../../src/store/claims.ts';
import { balance, evacuate, type FleetInput, host, vm, World } from '../support/world.ts';

const fleet = (): FleetInput => ({
  hosts: [host('a', [vm('web-1'), vm('web-2')]), host('b', []), host('c', [])],
});
const careful = (name = 'a', deadlineMs: number | null = null) =>
  evacuate(name, {}, deadlineMs, { approveFirst: true });

const balanceFirst = (deadlineMs: number) => ({
  ...balance([{ vm: 'web-1', to: 'b' }]),
  deadlineMs,
  approveFirst: true,
});

async function waits(world: World, id: string): Promise<Proposal> {
  await world.clock.runUntil(async () => (await world.operation(id)).state === 'awaitingApproval', 60_000);
  return proposalOf(await world.operation(id));
}

function proposalOf({ proposal }: OperationRecord): Proposal {
  if (proposal === null) throw new Error('nothing is proposed');
  return proposal;
}

/** Until something else is proposed. */
async function changes(world: World, id: string, from: Proposal): Promise<Proposal> {
  await world.clock.runUntil(async () => proposalOf(await world.operation(id)).hash !== from.hash, 60_000);
  return proposalOf(await world.operation(id));
}

const kinds = async (world: World, id: string): Promise<string[]> =>
  (await world.told(id))
    .map(({ kind }) => kind)
    .filter((kind) => kind.startsWith('operation.') && kind !== 'operation.waiting');
const destinations = ({ moves }: Proposal): Record<string, string> =>
  Object.fromEntries(moves.map(({ vm: name, destination }) => [name, destination]));

describe('an evacuation that is to be approved first', () => {
  it('shows its plan, and cordons, claims and moves nothing however long it waits', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    expect(proposal.moves.map((move) => [move.vm, move.source])).toEqual([
      ['web-1', 'a'],
      ['web-2', 'a'],
    ]);
    expect(proposal.moves.every(({ why }) => /best fit of/.test(why))).toBe(true);
    await world.clock.advance(3_600_000);
    const record = await world.operation(id);
    expect(record).toMatchObject({ state: 'awaitingApproval', round: 0, proposal, approvedAtMs: null });
    expect(record.waitingFor).toEqual([`approval of plan ${proposal.hash}; \`hostevac approve ${id}\` lets it begin`]);
    expect(await world.claims.read()).toMatchObject({ vms: {}, reservations: {}, cordons: {} });
    expect([await world.copies('web-1'), await world.copies('web-2')]).toEqual([['a:running'], ['a:running']]);
    expect(await kinds(world, id)).toEqual(['operation.planning', 'operation.awaitingApproval']);
  });

  it('does what was approved, and ends as any other', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    await world.clock.advance(600_000);
    const approvedMs = world.clock.now();
    const outcome = await approve(world, id, proposal.hash);
    expect(outcome).toEqual({ changed: true, message: `${id} is approved (plan ${proposal.hash}) and begins` });
    await world.reaches(id, 'web-1', 'precopy');
    expect(isCordoned(await world.claims.read(), 'a')).toBe(true);
    const record = await world.ended(id);
    expect(record).toMatchObject({ state: 'done', empty: true, proposal: null });
    // What it took does not count the time in which it waited for a person.
    expect(record.startedAtMs).toBeGreaterThanOrEqual(approvedMs);
    for (const { vm: name, destination } of proposal.moves)
      expect(await world.copies(name)).toEqual([`${destination}:running`]);
    expect(await kinds(world, id)).toEqual([
      'operation.planning',
      'operation.awaitingApproval',
      'operation.approved',
      'operation.running',
      'operation.done',
    ]);
  });

  it('what is approved without a hash is what stands; a second approval and one too late change nothing', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    expect(await approve(world, id, null)).toMatchObject({
      changed: false,
      message: expect.stringMatching(/no plan to approve yet/),
    });
    await waits(world, id);
    expect((await approve(world, id, null)).changed).toBe(true);
    expect(await approve(world, id, null)).toEqual({ changed: false, message: `${id} has been approved already` });
    await world.reaches(id, 'web-1', 'precopy');
    expect(await approve(world, id, null)).toEqual({ changed: false, message: `${id} has been approved already` });
    await world.ended(id);
    expect(await approve(world, id, null)).toEqual({ changed: false, message: `${id} has already ended: done` });
  });

  it('one that need not be approved says so, and goes on', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(evacuate('a'));
    expect(await approve(world, id, null)).toMatchObject({
      changed: false,
      message: expect.stringMatching(/does not wait for approval: it was not asked for/),
    });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('a cancel, and a deadline, end it where everything still is', async () => {
    const world = new World(fleet());
    await world.crew();
    const cancelled = await world.request(careful());
    await waits(world, cancelled);
    await cancel(world, cancelled);
    expect(await world.ended(cancelled)).toMatchObject({ state: 'cancelled', proposal: null });
    const late = await world.request(careful('a', 60_000));
    await waits(world, late);
    expect(await world.ended(late)).toMatchObject({ state: 'failed', reason: { code: 'deadlineExceeded' } });
    expect(await world.claims.read()).toMatchObject({ vms: {}, reservations: {}, cordons: {} });
    expect([await world.copies('web-1'), await world.copies('web-2')]).toEqual([['a:running'], ['a:running']]);
  });

  it('while it is paused an approval is kept; it begins when it is resumed', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    await waits(world, id);
    await pause(world, id, false);
    await world.clock.runUntil(async () => (await world.operation(id)).state === 'paused', 60_000);
    expect((await approve(world, id, null)).message).toMatch(/begins when it is resumed/);
    await world.clock.advance(60_000);
    expect(await world.operation(id)).toMatchObject({ state: 'paused', round: 0 });
    await resume(world, id);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('an empty host waits too: approving it cordons it, a deadline does not', async () => {
    const world = new World(fleet());
    await world.crew();
    const late = await world.request(careful('b', 30_000));
    expect(await waits(world, late)).toMatchObject({ moves: [], blocked: [] });
    expect(await world.ended(late)).toMatchObject({ state: 'failed', reason: { code: 'deadlineExceeded' } });
    expect(isCordoned(await world.claims.read(), 'b')).toBe(false);
    const id = await world.request(careful('b'));
    await waits(world, id);
    await approve(world, id, null);
    expect(await world.ended(id)).toMatchObject({ state: 'done', empty: true });
    expect(isCordoned(await world.claims.read(), 'b')).toBe(true);
  });

  it('a process that dies between claiming and noting it leaves that to the next, which goes on', async () => {
    const world = new World(fleet());
    const first = await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    first.kill();
    // As it would be left: claimed and cordoned, and not in its record.
    await world.claims.cordon('a', id);
    const [one] = proposal.moves;
    const item = { moveId: `${id}-1-1`, vm: one?.vm ?? '', host: 'b', memoryBytes: 2 ** 32, cpus: 2 };
    await world.claims.claim(id, [item]);
    await approve(world, id, null);
    await world.crew();
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });
});

describe('when the fleet changes meanwhile', () => {
  it('the plan stands as long as it can be carried out as it is', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    // c has become the better fit.
    const [free] = ['b', 'c'].filter((name) => !Object.values(destinations(proposal)).includes(name));
    await world.claims.claim('op-x', [
      { moveId: 'op-x-1-1', vm: 'other', host: free ?? '', memoryBytes: 8 * 2 ** 30, cpus: 4 },
    ]);
    await world.clock.advance(60_000);
    expect(proposalOf(await world.operation(id))).toEqual(proposal);
    await approve(world, id, proposal.hash);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    for (const { vm: name, destination } of proposal.moves)
      expect(await world.copies(name)).toEqual([`${destination}:running`]);
  });

  it('another plan is shown when it cannot, and an approval of the earlier one changes nothing', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    const [taken = ''] = Object.values(destinations(proposal));
    await world.claims.cordon(taken, 'operator');
    const next = await changes(world, id, proposal);
    expect(Object.values(destinations(next))).not.toContain(taken);
    const outcome = await approve(world, id, proposal.hash);
    expect(outcome.changed).toBe(false);
    expect(outcome.message).toMatch(new RegExp(`another plan by now \\(${next.hash}, not ${proposal.hash}\\)`));
    const [, told] = (await world.told(id)).filter(({ kind }) => kind === 'operation.awaitingApproval');
    expect(told?.message).toMatch(
      /^the fleet has changed: web-1 goes from a to .*; plan .* waits for approval \(2 moves\)/,
    );
    await world.clock.advance(60_000);
    expect(await world.operation(id)).toMatchObject({ state: 'awaitingApproval', round: 0 });
  });

  it('what was approved and cannot be done any more is not done: the next plan waits again and says why', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    const [taken = ''] = Object.values(destinations(proposal));
    // In the same instant: the operation sees both at once.
    await world.claims.cordon(taken, 'operator');
    expect((await approve(world, id, proposal.hash)).changed).toBe(true);
    const next = await changes(world, id, proposal);
    expect((await world.records.control(id)).approved).toBeNull();
    expect(next.number).toBe(proposal.number + 1);
    await world.clock.advance(60_000);
    expect(await world.operation(id)).toMatchObject({ state: 'awaitingApproval', round: 0, approvedAtMs: null });
    expect(await world.claims.read()).toMatchObject({ vms: {}, reservations: {} });
    expect(isCordoned(await world.claims.read(), 'a')).toBe(false);
    const told = (await world.told(id)).findLast(({ kind }) => kind === 'operation.awaitingApproval');
    expect(told?.message).toMatch(
      new RegExp(`^what was approved \\(plan ${proposal.hash}\\) was not begun; the fleet has changed`),
    );
    // The first plan can be carried out again: it was approved before, and is not begun for that.
    await world.claims.uncordon(taken, 'operator');
    await world.clock.advance(60_000);
    expect(proposalOf(await world.operation(id)).hash).toBe(next.hash);
    await approve(world, id, next.hash);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('the same plan that is shown again is approved as another: that is not forgotten with the first', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    const first = await waits(world, id);
    const again = { ...first, number: first.number + 1 };
    await world.records.setControl(id, { approved: approvalOf(again) });
    expect(await world.records.forgetApproval(id, approvalOf(first))).toBe(false);
    // Nor does an approval of one that is not proposed (yet, or any more) begin anything: what is shown is shown anew.
    await world.clock.runUntil(async () => (await world.records.control(id)).approved === null, 60_000);
    expect(proposalOf(await world.operation(id))).toEqual(again);
    expect((await world.operation(id)).approvedAtMs).toBeNull();
    await approve(world, id, first.hash);
    expect((await world.records.control(id)).approved).toBe(approvalOf(again));
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('is refused where the operation is being cancelled, or its deadline has passed', async () => {
    const world = new World(fleet());
    const crew = await world.crew();
    const [cancelled, overdue] = [await world.request(careful()), await world.request(balanceFirst(60_000))];
    for (const id of [cancelled, overdue]) await waits(world, id);
    crew.kill();
    await cancel(world, cancelled);
    expect(await approve(world, cancelled, null)).toEqual({
      changed: false,
      message: `${cancelled} is being cancelled; nothing of it begins`,
    });
    void world.clock.sleep(120_000);
    await world.clock.advance(60_000);
    expect(await approve(world, overdue, null)).toEqual({
      changed: false,
      message: `the deadline of ${overdue} has passed; nothing of it begins: ask for it again`,
    });
  });

  it('a host that is silent for a while changes nothing, and an approval waits for it', async () => {
    const world = new World(fleet());
    const alone = await world.crew({ hosts: ['a'], operations: false });
    await world.crew({ hosts: ['b', 'c'] });
    const id = await world.request(careful());
    const proposal = await waits(world, id);
    alone.kill();
    await world.clock.advance(120_000);
    const record = await world.operation(id);
    expect(record).toMatchObject({ state: 'awaitingApproval', proposal });
    expect(record.waitingFor[0]).toMatch(/no worker serves it/);
    await approve(world, id, null);
    await world.clock.advance(60_000);
    expect(await world.operation(id)).toMatchObject({ state: 'awaitingApproval', round: 0 });
    await world.crew({ hosts: ['a'], operations: false });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
  });

  it('what fails after that is planned again without asking', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request(careful());
    await waits(world, id);
    await approve(world, id, null);
    await world.reaches(id, 'web-1', 'precopy');
    await world.simulated.inject({ kind: 'hypervisorError', vm: 'web-1' });
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect((await world.moves(id)).filter((move) => move.vm === 'web-1').length).toBe(2);
    expect((await kinds(world, id)).filter((kind) => kind === 'operation.awaitingApproval').length).toBe(1);
  });
});

describe('a rebalance that is to be approved first', () => {
  it('waits, and moves what was named when it is approved, from where it is then shown to be', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request({ ...balance([{ vm: 'web-1', to: 'c' }]), approveFirst: true });
    const proposal = await waits(world, id);
    expect(destinations(proposal)).toEqual({ 'web-1': 'c' });
    const other = await world.request(balance([{ vm: 'web-1', to: 'b' }]));
    await world.ended(other);
    const next = await changes(world, id, proposal);
    await world.clock.runUntil(async () => proposalOf(await world.operation(id)).moves[0]?.source === 'b', 60_000);
    expect(next.hash).not.toBe(proposal.hash);
    await approve(world, id, null);
    expect(await world.ended(id)).toMatchObject({ state: 'done' });
    expect(await world.copies('web-1')).toEqual(['c:running']);
  });

  it('with nothing to move there is nothing to approve', async () => {
    const world = new World(fleet());
    await world.crew();
    const id = await world.request({ ...balance([{ vm: 'web-1', to: 'a' }]), approveFirst: true });
    expect((await world.ended(id)).approvedAtMs).toBeNull();
  });
});

it('an approved evacuation of a host that does not answer ends as any other would; before that it waits', async () => {
  const world = new World(fleet());
  await world.crew();
  const id = await world.request(careful());
  const proposal = await waits(world, id);
  await world.simulated.inject({ kind: 'hostDies', host: 'a' });
  await world.clock.advance(600_000);
  expect(await world.operation(id)).toMatchObject({ state: 'awaitingApproval', proposal });
  await approve(world, id, null);
  const record = await world.ended(id, 60_000);
  expect(record).toMatchObject({ state: 'blocked', approvedAtMs: null, reason: { code: 'hostUnreachable' } });
  expect(record.tasks.map(({ state, reason }) => [state, reason?.code])).toEqual([
    ['blocked', 'hostUnreachable'],
    ['blocked', 'hostUnreachable'],
  ]);
});
