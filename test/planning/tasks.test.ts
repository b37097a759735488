import { describe, expect, test } from 'vitest';
import { tasksForMoves } from '../../src/planning/balancing.ts';
import { type InventoriedVm, tasksForEvacuation } from '../../src/planning/evacuation.ts';
import { firstOrderMs, inStartOrder } from '../../src/planning/schedule.ts';
import { GIB, vm } from './snapshots.ts';

function seen(
  name: string,
  state: InventoriedVm['state'] = 'running',
  notMigratable: string | null = null,
): InventoriedVm {
  return { ...vm(name, 4, 2, state), notMigratable, touchedBytes: 3 * GIB };
}

describe('what leaves a host for it to be empty', () => {
  test('running and paused VMs move, shut-off ones are listed, copies in transit are left to their migrations', () => {
    const vms = [
      seen('run'),
      seen('pause', 'paused'),
      seen('off', 'shutOff'),
      seen('in', 'incoming'),
      seen('out', 'postMigrate'),
    ];
    const { tasks, blocked, shutOff } = tasksForEvacuation({ host: 'a', vms });
    expect(tasks).toEqual([
      { vm: 'pause', source: 'a', memoryBytes: 4 * GIB, cpus: 2, touchedBytes: 3 * GIB, wanted: null, avoid: [] },
      { vm: 'run', source: 'a', memoryBytes: 4 * GIB, cpus: 2, touchedBytes: 3 * GIB, wanted: null, avoid: [] },
    ]);
    expect(blocked).toEqual([]);
    expect(shutOff).toEqual(['off']);
  });

  test("a VM that cannot be migrated is blocked with the hypervisor's reason, the others go", () => {
    const { tasks, blocked } = tasksForEvacuation({
      host: 'a',
      vms: [seen('gpu', 'running', 'a host device is attached'), seen('web')],
    });
    expect(tasks.map((task) => task.vm)).toEqual(['web']);
    expect(blocked).toEqual([
      {
        vm: 'gpu',
        reason: { code: 'hypervisorRefused', message: 'gpu cannot be migrated: a host device is attached' },
      },
    ]);
  });
});

describe('explicit moves', () => {
  const hosts = [
    { host: 'a', vms: [seen('one'), seen('off', 'shutOff'), seen('gpu', 'running', 'a host device is attached')] },
    { host: 'b', vms: [seen('two'), seen('one', 'incoming')] },
    { host: 'c', vms: [seen('gone', 'postMigrate'), seen('both')] },
    { host: 'd', vms: [seen('gone', 'incoming'), seen('both')] },
  ];
  const ask = (...moves: [vm: string, to: string][]) =>
    tasksForMoves({ moves: moves.map(([name, to]) => ({ vm: name, to })), hosts });

  test('a VM moves from where it runs to where it is wanted', () => {
    expect(ask(['one', 'c']).tasks).toEqual([
      { vm: 'one', source: 'a', memoryBytes: 4 * GIB, cpus: 2, touchedBytes: 3 * GIB, wanted: 'c', avoid: [] },
    ]);
  });

  test('a VM that is there already is done', () => {
    expect(ask(['two', 'b'])).toMatchObject({ tasks: [], done: [{ vm: 'two', host: 'b' }], blocked: [], faults: [] });
  });

  test('everything that cannot be meant is told at once, with its place in the request', () => {
    const { faults, tasks } = ask(['one', 'c'], ['none', 'b'], ['two', 'z'], ['one', 'd']);
    expect(tasks.map((task) => task.vm)).toEqual(['one']);
    expect(faults.map(({ reason, problem }) => [reason.code, problem.path, problem.value])).toEqual([
      ['unknownVm', 'moves[1].vm', 'none'],
      ['unknownHost', 'moves[2].to', 'z'],
      ['badInput', 'moves[3].vm', 'one'],
    ]);
    expect(faults[2]?.problem.message).toContain('moves[0]');
  });

  test.each([
    ['off', 'noDestination', 'off is shut off on a; only running or paused VMs are moved'],
    ['gpu', 'hypervisorRefused', 'gpu cannot be migrated: a host device is attached'],
    [
      'gone',
      'foreignMigration',
      'gone is being migrated now (postMigrate on c, incoming on d); ask again when it has ended',
    ],
    ['both', 'foreignMigration', 'both is seen running on c and d: a migration of it may have just ended; ask again'],
  ])('%s is blocked with its reason', (name, code, message) => {
    expect(ask([name, 'b'])).toMatchObject({
      tasks: [],
      faults: [],
      blocked: [{ vm: name, reason: { code, message } }],
    });
  });

  test('a VM that nobody has reported may be on a host that has not: nobody calls it unknown', () => {
    const { blocked, faults } = tasksForMoves({
      moves: [{ vm: 'none', to: 'b' }],
      hosts: [...hosts, { host: 'e', vms: null }],
    });
    expect(faults).toEqual([]);
    expect(blocked[0]?.reason).toEqual({
      code: 'hostUnreachable',
      message: 'none is not on any host that has reported; start a worker for e',
    });
  });
});

describe('schedule', () => {
  test('the longest move starts first, equal ones by name', () => {
    const moves = [
      { vm: 'c', touchedBytes: 1 },
      { vm: 'b', touchedBytes: 1 },
      { vm: 'a', touchedBytes: 9 },
    ];
    expect(inStartOrder(moves).map((move) => move.vm)).toEqual(['a', 'b', 'c']);
    expect(moves.map((move) => move.vm)).toEqual(['c', 'b', 'a']);
  });

  test('the first guess of a move is its bytes over its rate; without a rate nobody can tell', () => {
    expect(firstOrderMs(400, 100)).toBe(4_000);
    expect(firstOrderMs(400, 0)).toBeNull();
  });
});
