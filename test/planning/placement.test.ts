import { describe, expect, test } from 'vitest';
import { place, type Unplaced } from '../../src/planning/placement.ts';
import { host, input, reserved, task, vm } from './snapshots.ts';

/** The only VM that found no place. */
function only(unplaced: readonly Unplaced[]): Unplaced {
  expect(unplaced).toHaveLength(1);
  const [first] = unplaced;
  if (first === undefined) throw new Error('nothing was unplaced');
  return first;
}

describe('choosing a host', () => {
  test('a VM goes where it leaves least, so that the large hole stays for a large VM', () => {
    const { placed } = place(
      input({ hosts: [host('a', 64, 32), host('b', 64, 32), host('c', 16, 8)], tasks: [task('web-1', 8, 4)] }),
    );
    expect(placed).toEqual([
      { vm: 'web-1', source: 'a', destination: 'c', why: 'best fit of 2 hosts; leaves 8GiB and 4 cpus free' },
    ]);
  });

  test('memory and CPUs both count: a host with room for one of them is no fit', () => {
    const { placed } = place(
      input({ hosts: [host('b', 64, 2), host('c', 4, 32), host('d', 9, 5)], tasks: [task('web-1', 8, 4)] }),
    );
    expect(placed[0]?.destination).toBe('d');
  });

  test('of equal hosts the first by name is taken, and the source never', () => {
    const hosts = [host('c', 16, 8), host('a', 16, 8), host('b', 16, 8)];
    expect(place(input({ hosts, tasks: [task('web-1', 8, 4)] })).placed[0]?.destination).toBe('b');
  });

  test('a reservation whose VM has already come counts once', () => {
    const crowded = host('b', 16, 8, {
      vms: [vm('db', 8, 4, 'incoming')],
      reservations: [reserved('db', 8, 4, 'op-2')],
    });
    expect(place(input({ hosts: [crowded], tasks: [task('web-1', 8, 4)] })).placed).toHaveLength(1);
  });

  test('shut-off VMs take no room; paused ones and copies that have left or not come yet do', () => {
    const holds = (state: 'shutOff' | 'paused' | 'incoming' | 'postMigrate'): boolean =>
      place(input({ hosts: [host('b', 16, 8, { vms: [vm('x', 9, 1, state)] })], tasks: [task('web-1', 8, 4)] })).placed
        .length === 0;
    expect([holds('shutOff'), holds('paused'), holds('incoming'), holds('postMigrate')]).toEqual([
      false,
      true,
      true,
      true,
    ]);
  });

  test('a host that failed is used again only when no other fits', () => {
    const tasks = [task('web-1', 8, 4, { avoid: ['b'] })];
    expect(place(input({ hosts: [host('b', 8, 4), host('c', 64, 32)], tasks })).placed[0]?.destination).toBe('c');
    const again = place(input({ hosts: [host('b', 8, 4), host('c', 4, 4)], tasks })).placed[0];
    expect(again?.destination).toBe('b');
    expect(again?.why).toContain('failed before, but no other host fits');
  });

  test('a copy that is being received here is the VM itself, and needs no second hole', () => {
    const hosts = [host('b', 8, 4, { vms: [vm('web-1', 8, 4, 'incoming')] })];
    const rules = [{ antiAffinity: ['web-1', 'web-2'] }];
    expect(place(input({ hosts, rules, tasks: [task('web-1', 8, 4)] })).placed).toHaveLength(1);
  });

  test('a host that has a VM of that name is no destination', () => {
    const hosts = [host('b', 64, 32, { vms: [vm('web-1', 1, 1, 'shutOff')] })];
    expect(only(place(input({ hosts, tasks: [task('web-1', 8, 4)] })).unplaced).reason.message).toContain(
      'b: a VM of that name is there (shutOff)',
    );
  });

  test('where best fit by size strands a VM, another order of packing is found', () => {
    // Largest first: both fives go where they leave least (c, then b), and of the fours one is stranded: 3 and 7 are left,
    // then 3 and 3. It fits as 4 + 4 on c and 5 + 5 on b.
    const hosts = [host('b', 12, 99), host('c', 8, 99)];
    const tasks = [task('w', 5, 1), task('x', 5, 1), task('y', 4, 1), task('z', 4, 1)];
    expect(place(input({ hosts, tasks })).unplaced).toEqual([]);
  });

  test('where the VM with most CPUs must choose first, it does', () => {
    const hosts = [host('b', 5, 10), host('c', 12, 9)];
    const tasks = [task('wide', 5, 4), task('middle', 4, 4), task('slim', 2, 6)];
    expect(place(input({ hosts, tasks })).unplaced).toEqual([]);
  });

  test('a VM that may go to one host only is placed before one that may go anywhere', () => {
    const hosts = [host('b', 8, 8), host('c', 16, 16)];
    const tasks = [task('large', 8, 8), task('small', 1, 1, { wanted: 'b' })];
    const { placed, unplaced } = place(input({ hosts, tasks }));
    expect(unplaced).toEqual([]);
    expect(placed.map((one) => [one.vm, one.destination])).toEqual([
      ['large', 'c'],
      ['small', 'b'],
    ]);
  });

  test('a VM named twice is moved once', () => {
    const twice = [task('web-1', 1, 1), task('web-1', 2, 2, { wanted: 'c' })];
    const plan = place(input({ hosts: [host('b', 64, 64), host('c', 64, 64)], tasks: twice }));
    expect(plan.placed).toHaveLength(1);
    expect(only(plan.unplaced).reason.code).toBe('badInput');
    expect(place(input({ hosts: [host('b', 64, 64), host('c', 64, 64)], tasks: twice.toReversed() }))).toEqual(plan);
  });
});

describe('rules', () => {
  const hosts = [host('b', 64, 32, { vms: [vm('web-2', 4, 2)] }), host('c', 64, 32)];

  test('anti-affinity keeps VMs apart, also two of one plan', () => {
    const rules = [{ antiAffinity: ['web-1', 'web-2', 'web-3'] }];
    const { placed, unplaced } = place(input({ hosts, rules, tasks: [task('web-1', 4, 2), task('web-3', 4, 2)] }));
    expect(placed.map((one) => [one.vm, one.destination])).toEqual([['web-1', 'c']]);
    expect(only(unplaced).reason).toEqual({
      code: 'noDestination',
      message: 'no host can take it (needs 4GiB and 2 cpus): b: anti-affinity with web-2; c: anti-affinity with web-1',
    });
  });

  test('a VM on its way to a host keeps its opponent away, and one that is leaving still does', () => {
    const rules = [{ antiAffinity: ['web-1', 'web-2'] }];
    const moving = [
      host('b', 64, 32, { vms: [vm('web-2', 4, 2)] }),
      host('c', 64, 32, { reservations: [reserved('web-2', 4, 2, 'op-2')] }),
    ];
    const { unplaced } = place(input({ hosts: moving, rules, tasks: [task('web-1', 4, 2)] }));
    expect(only(unplaced).reason.message).toContain('b: anti-affinity with web-2; c: anti-affinity with web-2');
    expect(only(unplaced).waitsFor).toEqual(['op-2']);
  });

  test('a pinned VM stays, and the reason names the rule', () => {
    const { unplaced } = place(input({ hosts, rules: [{ pinned: ['db-1'] }], tasks: [task('db-1', 4, 2)] }));
    expect(only(unplaced).reason).toEqual({
      code: 'noDestination',
      message: 'the rule "pinned: [db-1]" keeps it where it is',
    });
  });

  test('a VM pinned to hosts goes to one of them, or says why none can take it', () => {
    const rules = [{ pinned: ['db-1'], hosts: ['a', 'b'] }];
    expect(place(input({ hosts, rules, tasks: [task('db-1', 4, 2)] })).placed[0]?.destination).toBe('b');
    const { unplaced } = place(input({ hosts, rules, tasks: [task('db-1', 62, 2)] }));
    expect(only(unplaced).reason.message).toBe(
      'the rule "pinned: [db-1] to a, b" leaves no host that can take it (needs 62GiB and 2 cpus): b: 2GiB of memory short',
    );
    const alone = [{ pinned: ['db-1'], hosts: ['a'] }];
    expect(only(place(input({ hosts, rules: alone, tasks: [task('db-1', 4, 2)] })).unplaced).reason.message).toBe(
      'the rule "pinned: [db-1] to a" allows only a, where it is',
    );
  });

  test('a pin is stronger than a wish', () => {
    const rules = [{ pinned: ['db-1'], hosts: ['b'] }];
    const { unplaced } = place(input({ hosts, rules, tasks: [task('db-1', 4, 2, { wanted: 'c' })] }));
    expect(only(unplaced).reason.message).toBe('the rule "pinned: [db-1] to b" does not allow c');
  });
});

describe('why a VM is not placed', () => {
  test('each host says what it lacks', () => {
    const hosts = [
      host('a', 64, 32),
      host('b', 16, 8, { vms: [vm('x', 3, 1)] }),
      host('c', 64, 32, { cordoned: true }),
      host('d', 64, 32, { vms: [vm('web-2', 1, 1)] }),
      host('e', 64, 32, { unusable: 'its inventory is 40s old' }),
      host('f', 64, 2),
      host('g', 2, 1),
    ];
    const { unplaced } = place(
      input({ hosts, rules: [{ antiAffinity: ['web-1', 'web-2'] }], tasks: [task('web-1', 16, 4)] }),
    );
    expect(only(unplaced).reason).toEqual({
      code: 'noDestination',
      message:
        'no host can take it (needs 16GiB and 4 cpus): b: 3GiB of memory short; c: cordoned; d: anti-affinity with web-2; ' +
        'e: its inventory is 40s old; f: 2 cpus short; g: 14GiB of memory and 3 cpus short',
    });
    expect(only(unplaced).waitsForHosts).toEqual(['e']);
  });

  test('in a large fleet the hosts beyond the first are counted', () => {
    const hosts = Array.from({ length: 100 }, (_, n) =>
      host(`h${String(n).padStart(3, '0')}`, 1, 8, { cordoned: n >= 90 }),
    );
    const { message } = only(place(input({ hosts, tasks: [task('web-1', 2, 1)] })).unplaced).reason;
    expect(message).toContain('h007: 1GiB of memory short; and 92 more: 82 too little memory, 10 cordoned');
    expect(message).not.toContain('h008');
  });

  test('a fleet without another host says so', () => {
    const { unplaced } = place(input({ hosts: [host('a', 64, 32)], tasks: [task('web-1', 8, 4)] }));
    expect(only(unplaced).reason.message).toBe('no host can take it: the fleet has no other host');
  });

  test('the one host that was asked for is too small: the figures are given', () => {
    const hosts = [host('b', 20, 6, { vms: [vm('x', 16, 4)] }), host('c', 64, 32)];
    const { unplaced, placed } = place(
      input({ hosts, reserve: { memory: 0.05, cpus: 0 }, tasks: [task('web-1', 16, 4, { wanted: 'b' })] }),
    );
    expect(placed).toEqual([]);
    expect(only(unplaced).reason).toEqual({
      code: 'destinationTooSmall',
      message: 'needs 16GiB and 4 cpus; b has 3GiB and 2 cpus free after a reserve of 5% of its memory',
    });
  });

  test.each([
    ['cordoned', { cordoned: true }, 'noDestination', 'b is cordoned; uncordon it to move VMs there'],
    ['unusable', { unusable: 'no worker serves b' }, 'noDestination', 'b cannot be planned on now: no worker serves b'],
    [
      'opposed',
      { vms: [vm('web-2', 1, 1)] },
      'noDestination',
      'b is forbidden by anti-affinity with web-2, which is there',
    ],
  ] as const)('the one host that was asked for is %s', (_what, more, code, message) => {
    const { unplaced } = place(
      input({
        hosts: [host('b', 64, 32, more)],
        rules: [{ antiAffinity: ['web-1', 'web-2'] }],
        tasks: [task('web-1', 8, 4, { wanted: 'b' })],
      }),
    );
    expect(only(unplaced).reason).toEqual({ code, message });
  });

  test('a host that does not exist, and the one where the VM is', () => {
    const hosts = [host('a', 64, 32), host('b', 64, 32)];
    const reason = (wanted: string): string =>
      only(place(input({ hosts, tasks: [task('web-1', 8, 4, { wanted })] })).unplaced).reason.message;
    expect(reason('z')).toBe('web-1: the fleet has no host z');
    expect(reason('a')).toBe('web-1 is on a already');
  });

  test('the reserve stays free, and no rounding takes the last CPU', () => {
    const hosts = [host('b', 100, 100)];
    const fits = (memory: number, cpus: number): boolean =>
      place(input({ hosts, reserve: { memory: 0.05, cpus: 0.55 }, tasks: [task('web-1', memory, cpus)] })).placed
        .length === 1;
    expect([fits(95, 45), fits(96, 1), fits(1, 46)]).toEqual([true, false, false]);
  });
});

describe('waiting', () => {
  const blocked = (...parameters: Parameters<typeof host>[]): Unplaced =>
    only(place(input({ hosts: parameters.map((each) => host(...each)), tasks: [task('web-1', 8, 4)] })).unplaced);

  test("another operation's reservation in the way is named, one that is not is left out", () => {
    const reservations = [reserved('large', 12, 2, 'op-2'), reserved('small', 2, 1, 'op-3')];
    expect(blocked(['b', 16, 8, { reservations }])).toMatchObject({ waitsFor: ['op-2'], waitsForVms: [] });
  });

  test('where waiting cannot help, nobody is named', () => {
    const reservations = [reserved('other', 2, 1, 'op-2')];
    expect(blocked(['b', 7, 8, { reservations }])).toMatchObject({ waitsFor: [], waitsForVms: [], waitsForHosts: [] });
    expect(blocked(['b', 16, 8, { cordoned: true, reservations }]).waitsFor).toEqual([]);
  });

  test('a VM that another operation is moving away makes room where it leaves', () => {
    const b = host('b', 16, 8, { vms: [vm('leaving', 12, 2)] });
    const c = host('c', 12, 2, { reservations: [reserved('leaving', 12, 2, 'op-2')] });
    const { unplaced } = place(input({ hosts: [b, c], tasks: [task('web-1', 8, 4)] }));
    expect(only(unplaced).waitsFor).toEqual(['op-2']);
  });

  test('of two VMs that change places on full hosts, the second waits for the first to leave', () => {
    const hosts = [host('a', 10, 8, { vms: [vm('one', 8, 4)] }), host('b', 20, 8, { vms: [vm('two', 8, 4)] })];
    const tasks = [task('one', 8, 4, { wanted: 'b' }), task('two', 8, 4, { source: 'b', wanted: 'a' })];
    const { placed, unplaced } = place(input({ hosts, tasks, operationId: 'op-1' }));
    expect(placed.map((each) => each.vm)).toEqual(['one']);
    expect(only(unplaced)).toMatchObject({ vm: 'two', waitsFor: [], waitsForVms: ['one'] });
  });

  test("the operation's own reservations are nobody to wait for, its VMs on their way out are", () => {
    const b = host('b', 16, 8, { vms: [vm('leaving', 12, 2)] });
    const c = host('c', 12, 2, { reservations: [reserved('leaving', 12, 2, 'op-1')] });
    const { unplaced } = place(input({ hosts: [b, c], tasks: [task('web-1', 8, 4)], operationId: 'op-1' }));
    expect(only(unplaced)).toMatchObject({ waitsFor: [], waitsForVms: ['leaving'] });
  });
});
