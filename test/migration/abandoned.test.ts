/** What moves left that ended unseen goes when the host answers again, or when a person has confirmed that it is down. */
import { describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import type { Hypervisor, MigrationSample } from '../../src/hypervisors/hypervisor.ts';
import { balance, evacuate, host, vm, World } from '../support/world.ts';

/** Hosts that do not answer. */
class Silence {
  readonly hosts = new Set<string>();
  /** This one falls silent in the moment in which a migration is to start, which fails. */
  atStart: string | null = null;
  /** And this one when a migration is seen to have completed. */
  atEnd: string | null = null;

  /** Everything is asked of the host that stands first, or of the one that a target names. */
  readonly over = (real: Hypervisor): Hypervisor =>
    new Proxy(real, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (typeof value !== 'function') return value;
        if (key === 'statusChange') return value.bind(target);
        return async (...args: unknown[]): Promise<unknown> => {
          if (key === 'startMigration' && this.atStart !== null) {
            this.hosts.add(this.atStart);
            throw new HostevacError('hypervisorRefused', 'not now');
          }
          const asked = args.find((arg): arg is string => typeof arg === 'string') ?? hostOfTarget(key, args[1]);
          if (this.hosts.has(asked)) throw new HostevacError('hostUnreachable', `host ${asked} does not answer`);
          const answer: unknown = await Reflect.apply(value, target, args);
          const completed = key === 'sample' && (answer as MigrationSample | null)?.status === 'completed';
          if (completed && this.atEnd !== null) this.hosts.add(this.atEnd);
          return answer;
        };
      },
    });
}

function hostOfTarget(key: string | symbol, target: unknown): string {
  const { source, destination } = target as { source: string; destination: string };
  return key === 'prepareDestination' ? destination : source;
}

async function setUp(hosts = ['a', 'b']) {
  const silence = new Silence();
  const [first = 'a', ...others] = hosts;
  const world = new World({
    hosts: [host(first, [vm('v1', { memory: '16GiB' })]), ...others.map((name) => host(name))],
  });
  await world.crew({ hypervisor: silence.over });
  return { world, silence };
}

async function nothingLeft(world: World): Promise<void> {
  await world.clock.runUntil(async () => Object.keys((await world.abandoned.read()).moves).length === 0, 300_000);
  await bandwidthFree(world);
}

async function bandwidthFree(world: World): Promise<void> {
  await world.clock.runUntil(
    async () => (await world.budget.use()).every(({ egress, ingress }) => egress.counted + ingress.counted === 0),
    300_000,
  );
}

const listed = async (world: World): Promise<number> => Object.keys((await world.abandoned.read()).moves).length;

describe('a host that falls silent and answers again', () => {
  it('a destination with a waiting copy: that is discarded', async () => {
    const { world, silence } = await setUp();
    silence.atStart = 'b';
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
    await world.ended(id);
    expect(await listed(world)).toBe(1);
    expect(await world.copies('v1')).toEqual(['a:running', 'b:incoming']);
    await world.clock.runUntil(() => world.clock.now() > 1_400_000, 600_000);
    expect(await listed(world)).toBe(1);
    silence.hosts.clear();
    await nothingLeft(world);
    expect(await world.copies('v1')).toEqual(['a:running']);
  });

  it('a source that goes on sending: its migration is ended, the bandwidth given back only then', async () => {
    const { world, silence } = await setUp();
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
    await world.reaches(id, 'v1', 'precopy');
    // So slow that it would go on for hours.
    await world.simulated.inject({ kind: 'stuckProgress', vm: 'v1', durationMs: 600_000 });
    silence.hosts.add('a');
    await world.ended(id);
    expect(await listed(world)).toBe(1);
    const counted = (await world.budget.use()).find((use) => use.host === 'a')?.egress.counted;
    expect(counted).toBeGreaterThan(0);
    expect((await world.simulated.view()).migrations).toHaveLength(1);
    silence.hosts.clear();
    await nothingLeft(world);
    expect((await world.simulated.view()).migrations).toHaveLength(0);
    expect(await world.copies('v1')).toEqual(['a:running']);
  });

  it('a destination at which the VM has arrived: its rest at the source is retired', async () => {
    const { world, silence } = await setUp();
    silence.atEnd = 'b';
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
    expect(await world.ended(id)).toMatchObject({ state: 'failed' });
    expect(await world.copies('v1')).toEqual(['a:postMigrate', 'b:running']);
    silence.atEnd = null;
    silence.hosts.clear();
    await nothingLeft(world);
    expect(await world.copies('v1')).toEqual(['b:running']);
  });

  it('is left alone while an operation has the VM', async () => {
    const { world, silence } = await setUp(['a', 'b', 'c']);
    silence.atStart = 'b';
    await world.ended(await world.request(balance([{ vm: 'v1', to: 'b' }])));
    silence.atStart = null;
    const next = await world.request(evacuate('a'));
    await world.reaches(next, 'v1', 'precopy');
    silence.hosts.clear();
    await world.clock.runUntil(async () => {
      const state = (await world.move(next, 'v1'))?.state;
      if (state !== 'done') expect(await listed(world)).toBe(1);
      return state === 'done';
    }, 600_000);
    await nothingLeft(world);
    expect(await world.copies('v1')).toHaveLength(1);
    expect(await world.ended(next)).toMatchObject({ state: 'done' });
  });
});

describe('a host that never answers again', () => {
  it('source: what its VM holds is given back once it is confirmed to be down, not before', async () => {
    const { world } = await setUp();
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }]));
    await world.reaches(id, 'v1', 'precopy');
    await world.simulated.inject({ kind: 'hostDies', host: 'a' });
    await world.ended(id);
    await world.clock.runUntil(() => world.clock.now() > 1_600_000, 900_000);
    expect((await world.budget.use()).find((use) => use.host === 'b')?.ingress.counted).toBeGreaterThan(0);
    await world.abandoned.confirmDown('a', 'an operator', world.clock.now());
    await nothingLeft(world);
  });

  it('destination of a post-copy: the wait for it ends, and its loss is told', async () => {
    const { world } = await setUp();
    const policy = { atDeadline: 'postCopy', maxTimeMs: 6_000 } as const;
    const id = await world.request(balance([{ vm: 'v1', to: 'b' }], policy));
    await world.reaches(id, 'v1', 'postcopy');
    await world.clock.runUntil(async () => (await world.copies('v1')).includes('b:running'), 60_000);
    await world.simulated.inject({ kind: 'hostDies', host: 'b' });
    await world.clock.runUntil(() => world.clock.now() > 1_900_000, 1_200_000);
    expect((await world.operation(id)).endedAtMs).toBeNull();
    await world.abandoned.confirmDown('b', 'an operator', world.clock.now());
    await world.ended(id);
    expect((await world.move(id, 'v1'))?.reason?.code).toBe('memoryLost');
  });

  it('is down no more when it answers', async () => {
    const { world, silence } = await setUp();
    silence.hosts.add('b');
    await world.abandoned.confirmDown('b', 'an operator', world.clock.now());
    await world.clock.runUntil(() => world.clock.now() > 1_060_000, 120_000);
    expect(await world.abandoned.isDown('b')).toBe(true);
    silence.hosts.clear();
    await world.clock.runUntil(async () => !(await world.abandoned.isDown('b')), 120_000);
  });
});
