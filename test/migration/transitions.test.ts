/**
 * The state table of a migration, taken transition by transition: each story here is one that happens to real fleets.
 * The last test fails when the table has a transition that no story takes; so they all live in this file.
 */
import { describe, expect, it } from 'vitest';
import { HostevacError } from '../../src/domain/errors.ts';
import { type MoveRecord, newTask, type OperationRecord } from '../../src/domain/operation.ts';
import type { Policy } from '../../src/domain/policy.ts';
import type { Hypervisor, Sighting } from '../../src/hypervisors/hypervisor.ts';
import type { SimulatedFleet } from '../../src/hypervisors/simulated/simulated-fleet.ts';
import { FINAL_STEPS, follow, migrationSteps, TRANSITIONS } from '../../src/migration/states.ts';
import { newMove } from '../../src/operations/standing.ts';
import type { Throttle } from '../../src/throttling/throttle.ts';
import { type Crew, type CrewOptions, evacuate, host, TAKEN, vm, World } from '../support/world.ts';

/** Changes single methods of a hypervisor; everything else is the real one. */
function but(changes: (real: Hypervisor) => Partial<Hypervisor>): (real: Hypervisor) => Hypervisor {
  return (real) => {
    const changed = changes(real);
    return new Proxy(real, {
      get: (target, key) => {
        const value: unknown = Reflect.get(changed, key) ?? Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
}

/** True the first time. */
function once(): () => boolean {
  let used = false;
  return () => {
    const first = !used;
    used = true;
    return first;
  };
}

interface Story {
  readonly world: World;
  readonly crew: Crew;
  readonly id: string;
}

/** One VM `v1` of 16 GiB on `a`, hosts `b` and `c` to go to; its evacuation has been asked for. */
async function story(
  options: CrewOptions | ((world: () => World, crew: () => Crew) => CrewOptions) = {},
  request = evacuate('a'),
  hosts = [host('a', [vm('v1', { memory: '16GiB' })]), host('b'), host('c')],
): Promise<Story> {
  const world = new World({ hosts });
  let crew: Crew | undefined;
  const given =
    typeof options === 'function'
      ? options(
          () => world,
          () => crew as Crew,
        )
      : options;
  crew = await world.crew(given);
  const id = await world.request(request);
  return { world, crew, id };
}

/** The killed process's jobs come back, as stalled ones do. */
async function redeliver({ world, id }: Story): Promise<void> {
  const moves = await world.moves(id);
  world.delivery.deliverAgain('operations', id);
  for (const move of moves) world.delivery.deliverAgain(`moves ${move.source}`, move.id);
}

/** Stopped in its tracks by `pause --now`: the move has begun and waits in `admitting`. */
async function waitsAgain({ world, id }: Story): Promise<MoveRecord> {
  await world.reaches(id, 'v1', 'precopy');
  await world.records.setControl(id, { pause: true, pauseNow: true });
  return world.reaches(id, 'v1', 'admitting');
}

async function expectMoved({ world, id }: Story): Promise<OperationRecord> {
  const record = await world.ended(id);
  expect(record).toMatchObject({ state: 'done' });
  expect(await world.copies('v1')).toHaveLength(1);
  expect((await world.copies('v1'))[0]).toMatch(/^[bc]:running$/);
  return record;
}

/** A failed or cancelled attempt leaves the VM running and unthrottled at its source and nothing anywhere else. */
async function expectAtHome({ world }: Story): Promise<void> {
  expect(await world.copies('v1')).toEqual(['a:running']);
  expect((await world.simulated.view()).throttled).toEqual({});
}

const causes = (world: World): string[] => world.transitions.map(({ from, cause }) => `${from} ${cause}`);
const inject = (world: World, fault: Parameters<SimulatedFleet['inject']>[0]): Promise<void> =>
  world.simulated.inject(fault);
const unreachable = (name: string): never => {
  throw new HostevacError('hostUnreachable', `host ${name} does not answer`);
};

describe('a migration that goes well', () => {
  it('is reconciled, admitted, copied, switched over and verified', async () => {
    const told = await story();
    await expectMoved(told);
    expect(causes(told.world)).toEqual([
      'reconciling neverStarted',
      'admitting granted',
      'preparing started',
      expect.stringMatching(/^precopy (finished|switchingOver)$/),
      ...(causes(told.world).includes('switchover finished') ? ['switchover finished'] : []),
      'verifying verified',
    ]);
    const move = await told.world.move(told.id, 'v1');
    expect(move?.figures.totalMs).toBeGreaterThan(16_000);
    expect(move?.figures.downtimeMs).toBeGreaterThan(0);
    expect(move?.figures.downtimeMs).toBeLessThanOrEqual(300 + 40);
  });

  it('may be believed finished a moment too early having been seen', async () => {
    const told = await story({
      hypervisor: but((real) => ({
        sample: async (...args) => {
          const sample = await real.sample(...args);
          return sample?.status === 'switchover' ? { ...sample, status: 'completed' } : sample;
        },
      })),
    });
    // The sightings decide, not the status, and they are looked at until they agree.
    await expectMoved(told);
    expect(causes(told.world)).toContain('precopy finished');
  });

  it('is looked at again from the start when what it is said to have done turns out not to be so', async () => {
    const first = once();
    const told = await story({
      hypervisor: but((real) => ({
        sample: async (...args) => {
          const sample = await real.sample(...args);
          return sample?.status === 'active' && first() ? { ...sample, status: 'completed' } : sample;
        },
      })),
    });
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['verifying notFinished', 'reconciling runningOurs']));
    expect((await told.world.simulated.view()).starts).toEqual({ v1: 1 });
  });

  it('may be seen while it switches over', async () => {
    const told = await story((world) => ({
      hypervisor: but((real) => ({
        // Every look comes at an interesting moment: right when the guest stands still.
        sample: async (...args) => {
          const before = await real.sample(...args);
          if (before?.status !== 'active' || before.remainingBytes > 2 ** 30) return before;
          for (let i = 0; i < 2_000; i += 1) {
            const sample = await real.sample(...args);
            if (sample?.status !== 'active') return sample;
            await world().clock.sleep(5);
          }
          return before;
        },
      })),
    }));
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['precopy switchingOver', 'switchover finished']));
  });
});

describe('a successor', () => {
  it('adopts a running migration, it does not start it again', async () => {
    const told = await story();
    await told.world.reaches(told.id, 'v1', 'precopy');
    told.crew.kill();
    await told.world.crew();
    await redeliver(told);
    await expectMoved(told);
    expect(causes(told.world)).toContain('reconciling runningOurs');
    expect((await told.world.simulated.view()).starts).toEqual({ v1: 1 });
  });

  it('goes on with one that is switching over', async () => {
    const told = await story((_, crew) => ({
      hypervisor: but((real) => ({
        sample: async (...args) => {
          const sample = await real.sample(...args);
          if (sample?.status === 'switchover') crew().kill();
          return sample;
        },
      })),
      // A slow link makes the switchover long enough to be looked at.
    }));
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await world.clock
      .runUntil(async () => (await world.hypervisor.sample('a', 'v1'))?.status === 'switchover', 60_000)
      .catch(() => undefined);
    told.crew.kill();
    await world.crew({
      hypervisor: but((real) => ({
        look: async (name, vmName) => {
          const seen = await real.look(name, vmName);
          if (name === 'a' && first() && seen.present) {
            return {
              ...seen,
              state: 'paused',
              outgoing: {
                status: 'switchover',
                destination: null,
                migrationId: (await world.move(id, 'v1'))?.id ?? '',
              },
            };
          }
          return name !== 'a' && holding && seen.present ? { ...seen, state: 'incoming' } : seen;
        },
      })),
    });
    const first = once();
    let holding = true;
    await redeliver(told);
    await world.clock.runUntil(() => causes(world).includes('reconciling switchingOver'), 60_000);
    holding = false;
    await expectMoved(told);
  });

  it('finds one that has finished meanwhile, and only verifies it', async () => {
    const told = await story();
    await told.world.reaches(told.id, 'v1', 'precopy');
    told.crew.kill();
    await told.world.clock.advance(120_000);
    await told.world.crew();
    await redeliver(told);
    await expectMoved(told);
    expect(causes(told.world)).toContain('reconciling finished');
  });

  it('removes the waiting copy of one that died between preparing and starting, and starts it then', async () => {
    const told = await story((_, crew) => ({
      hypervisor: but(() => ({
        startMigration: () => {
          crew().kill();
          return new Promise(() => undefined);
        },
      })),
    }));
    await told.world.reaches(told.id, 'v1', 'preparing');
    await told.world.clock.advance(1_000);
    await told.world.crew();
    await redeliver(told);
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['reconciling leftovers', 'cleaning cleanToStart']));
  });

  it('does not begin what was cancelled while nobody drove it', async () => {
    const told = await story();
    const { world, id } = told;
    await waitsAgain(told);
    told.crew.kill();
    await world.records.setControl(id, { cancel: true, pause: false, pauseNow: false });
    await world.crew();
    await redeliver(told);
    expect(await world.ended(id)).toMatchObject({ state: 'cancelled' });
    expect(causes(world)).toContain('reconciling cancel');
    await expectAtHome(told);
  });
});

describe('what contradicts itself', () => {
  it('two running copies: everything stops, nothing is touched, and it is said loudly', async () => {
    const told = await story();
    const { world, id } = told;
    const { destination } = await waitsAgain(told);
    told.crew.kill();
    await inject(world, { kind: 'doubleRunning', vm: 'v1', host: destination });
    await world.records.setControl(id, { pause: false, pauseNow: false });
    await world.crew();
    await redeliver(told);
    const record = await world.ended(id);
    expect(record.reason).toMatchObject({ code: 'vmDoubled' });
    expect(record.reason?.message).toMatch(/TWO RUNNING COPIES.*a has it running.*has it running/);
    expect(causes(world)).toContain('reconciling contradiction');
    expect(await world.copies('v1')).toEqual(['a:running', `${destination}:running`]);
  });

  it('two running copies that are seen before anything is planned are not moved at all', async () => {
    const world = new World({ hosts: [host('a', [vm('v1'), vm('v2')]), host('b'), host('c')] });
    await inject(world, { kind: 'doubleRunning', vm: 'v1', host: 'b' });
    await world.crew();
    const record = await world.ended(await world.request(evacuate('a')));
    expect(record).toMatchObject({ state: 'partial', reason: { code: 'vmDoubled' } });
    expect(await world.copies('v1')).toEqual(['a:running', 'b:running']);
  });

  it("somebody else's migration is left alone", async () => {
    const told = await story({ hosts: [] });
    await inject(told.world, { kind: 'foreignMigration', vm: 'v1', to: 'c' });
    await told.world.crew({ operations: false });
    await told.world.clock.runUntil(() => causes(told.world).includes('reconciling refused'), 30_000);
    expect((await told.world.move(told.id, 'v1'))?.reason?.code).toBe('foreignMigration');
    expect((await told.world.hypervisor.sample('a', 'v1'))?.status).toBe('active');
  });

  it("nor is somebody else's migration ended that began while our own attempt was cleaned up", async () => {
    const told = await story((world) => ({
      onEvent: async ({ kind, moveId }) => {
        const move = await world().records.move(moveId ?? '');
        const to = move?.destination === 'b' ? 'c' : 'b';
        if (kind === 'move.cleaning') await inject(world(), { kind: 'foreignMigration', vm: 'v1', to });
      },
    }));
    await told.world.reaches(told.id, 'v1', 'precopy');
    await inject(told.world, { kind: 'hypervisorError', vm: 'v1' });
    await told.world.clock.runUntil(() => causes(told.world).includes('cleaning cleanAfterFailure'), 60_000);
    expect((await told.world.hypervisor.sample('a', 'v1'))?.status).toBe('active');
    expect((await told.world.move(told.id, 'v1'))?.reason?.code).toBe('foreignMigration');
  });

  it('a copy that vanished after the switchover is reported as missing', async () => {
    const told = await story((world) => ({
      onEvent: async ({ kind, moveId }) => {
        const move = await world().records.move(moveId ?? '');
        if (kind === 'move.verifying')
          await inject(world(), { kind: 'vmDies', vm: 'v1', host: move?.destination ?? '' });
      },
    }));
    const record = await told.world.ended(told.id);
    expect(record.reason).toMatchObject({ code: 'vmMissing' });
    expect(causes(told.world)).toContain('verifying contradiction');
    // The source's memory is all that is left of it: it stays.
    expect(await told.world.copies('v1')).toEqual(['a:postMigrate']);
  });

  it('a VM that dies at its source while its attempt is cleaned up is reported, and nothing is claimed', async () => {
    const told = await story((world) => ({
      onEvent: async ({ kind }) => {
        if (kind === 'move.cleaning') await inject(world(), { kind: 'vmDies', vm: 'v1', host: 'a' });
      },
    }));
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await inject(world, { kind: 'hypervisorError', vm: 'v1' });
    const record = await world.ended(id);
    expect(causes(world)).toContain('cleaning contradiction');
    expect(record.tasks[0]?.reason).toMatchObject({ code: 'sourceDied' });
  });
});

describe('a migration that waits before its switchover for the last word', () => {
  /** A hypervisor that waits with every migration, and what it was told. */
  function waiting(lookAtDestination: (real: Hypervisor, host: string, vmName: string) => Promise<Sighting>) {
    const said: string[] = [];
    let waits = true;
    const hypervisor = but((real) => ({
      sample: async (...args) => {
        const sample = await real.sample(...args);
        return waits && sample?.status === 'active' ? { ...sample, status: 'preSwitchover' } : sample;
      },
      look: async (name, vmName) => (name === 'a' ? real.look(name, vmName) : lookAtDestination(real, name, vmName)),
      finishMigration: async () => {
        said.push('finish');
        waits = false;
      },
      cancelMigration: async (...args) => {
        said.push('cancel');
        waits = false;
        await real.cancelMigration(...args);
      },
    }));
    return { said, hypervisor };
  }

  it('gets it when its destination is as it should be', async () => {
    const { said, hypervisor } = waiting((real, name, vmName) => real.look(name, vmName));
    const told = await story({ hypervisor });
    await expectMoved(told);
    expect(said).toEqual(['finish']);
  });

  it('is called off when its destination says nothing, before the guest has stood still for long', async () => {
    const hangs = once();
    const { said, hypervisor } = waiting((real, name, vmName) =>
      said.length === 0 && sampledOnce() && hangs() ? new Promise(() => undefined) : real.look(name, vmName),
    );
    let looks = 0;
    // The first look at the destination is reconciliation's.
    const sampledOnce = (): boolean => {
      looks += 1;
      return looks > 1;
    };
    const told = await story({ hypervisor });
    await told.world.clock.runUntil(() => said.length > 0, 60_000);
    expect(said).not.toContain('finish');
    await expectMoved(told);
    expect((await told.world.moves(told.id))[0]).toMatchObject({
      state: 'failed',
      reason: { code: 'destinationDied' },
    });
  });

  it('is called off when a copy runs at its destination, and that is told as what it is', async () => {
    const told = await story((world) => ({
      ...waiting(async (real, name, vmName) => {
        const seen = await real.look(name, vmName);
        const home = await real.look('a', vmName);
        // From when it was started on, somebody has a copy running there.
        return home.present && causes(world()).includes('preparing started') ? { ...home, outgoing: null } : seen;
      }),
    }));
    const record = await told.world.ended(told.id);
    expect(record.reason).toMatchObject({ code: 'vmDoubled' });
  });
});

describe('hosts that do not answer', () => {
  it('a source that stays silent ends the attempt and claims nothing about the VM', async () => {
    const told = await story({ hypervisor: but(() => ({ look: async (name) => unreachable(name) })) });
    await told.world.clock.runUntil(() => causes(told.world).includes('reconciling unreachable'), 300_000);
    expect((await told.world.move(told.id, 'v1'))?.reason?.code).toBe('hostUnreachable');
    await expectAtHome(told);
  });

  it('a destination that dies right after the switchover: nobody infers what became of the VM', async () => {
    const told = await story((world) => ({
      onEvent: async ({ kind, moveId }) => {
        if (kind !== 'move.verifying') return;
        const move = await world().records.move(moveId ?? '');
        await inject(world(), { kind: 'hostDies', host: move?.destination ?? '' });
      },
    }));
    await told.world.clock.runUntil(() => causes(told.world).includes('verifying unreachable'), 300_000);
    expect((await told.world.move(told.id, 'v1'))?.reason?.code).toBe('hostUnreachable');
    expect(await told.world.copies('v1')).toEqual(['a:postMigrate']);
  });

  it('a destination that was silent when its VM arrived: the next evacuation finds it there and tidies the source', async () => {
    let silent = '';
    const first = once();
    const told = await story((world) => ({
      hypervisor: but((real) => ({
        look: (name, vmName) => (name === silent ? unreachable(name) : real.look(name, vmName)),
      })),
      onEvent: async ({ kind, moveId }) => {
        if (kind === 'move.verifying' && first())
          silent = (await world().records.move(moveId ?? ''))?.destination ?? '';
      },
    }));
    const { world, id } = told;
    await world.clock.runUntil(() => causes(world).includes('verifying unreachable'), 300_000);
    await world.records.setControl(id, { cancel: true });
    await world.delivery.wakeOperation(id);
    await world.ended(id);
    expect(await world.copies('v1')).toEqual(['a:postMigrate', `${silent}:running`]);
    const place = silent;
    silent = '';
    const again = await world.request(evacuate('a'));
    expect(await world.ended(again)).toMatchObject({ state: 'done', tasks: [{ vm: 'v1', state: 'done' }] });
    expect(await world.copies('v1')).toEqual([`${place}:running`]);
    expect((await world.move(again, 'v1'))?.startedAtMs).toBeNull();
  });

  it('a source that was silent for a while has a migration of an earlier move: it is ended or adopted, never foreign', async () => {
    let silent = false;
    const told = await story({
      hypervisor: but((real) => ({
        look: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.look(name, vmName)),
        sample: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.sample(name, vmName)),
      })),
    });
    const { world, id } = told;
    // So slow that it is still running when the host is seen again.
    await world.reaches(id, 'v1', 'precopy');
    await world.hypervisor.setBandwidth({ token: 1_000, assertHeld: () => undefined }, 'a', 'v1', 1024);
    silent = true;
    await world.clock.runUntil(() => causes(world).includes('reconciling unreachable'), 300_000);
    silent = false;
    await expectMoved(told);
    const codes = (await world.moves(id)).map((move) => move.reason?.code ?? move.state);
    expect(codes).toEqual(['hostUnreachable', 'done']);
  });

  it('a source whose guests cannot be throttled: nothing moves, or it moves unthrottled, as the policy says', async () => {
    const reason = { code: 'throttleUnavailable', message: 'a: no cpu controller' } as const;
    const refusing = new HostevacError(reason.code, reason.message);
    const throttle = (real: Throttle): Throttle => ({
      unavailable: async () => reason,
      set: () => Promise.reject(refusing),
      release: async () => undefined,
      guestCpu: (target) => real.guestCpu(target),
    });
    const required = await story({ throttle });
    expect(await required.world.ended(required.id)).toMatchObject({ state: 'failed', tasks: [{ reason }] });
    expect(causes(required.world)).toEqual(['reconciling neverStarted', 'admitting refused']);
    const optional = await story({ throttle }, evacuate('a', { throttling: 'optional' }));
    await expectMoved(optional);
    const move = await optional.world.move(optional.id, 'v1');
    expect(move).toMatchObject({
      relaxed: [{ requirement: 'throttling', why: reason.message }],
      figures: { minShare: 1 },
    });
  });

  it('a guard that fails on the way ends the attempt instead of hoping', async () => {
    const request = evacuate('a', { aggression: 1 });
    const hot = vm('v1', { memory: '16GiB', dirtyRate: '2GiB/s', workingSet: '8GiB', cpuUse: 1 });
    const world = new World({ hosts: [host('a', [hot]), host('b')] });
    await world.crew({
      throttle: (real) => ({
        unavailable: (name) => real.unavailable(name),
        set: () => Promise.reject(new HostevacError('throttleUnavailable', 'the journal cannot be written')),
        release: (...args) => real.release(...args),
        guestCpu: (target) => real.guestCpu(target),
      }),
    });
    const id = await world.request(request);
    expect(await world.ended(id)).toMatchObject({
      tasks: [{ state: 'failed', reason: { code: 'throttleUnavailable' } }],
    });
    expect(await world.copies('v1')).toEqual(['a:running']);
  });

  it('where the driver takes no token, a process that was stopped past its lease is ended before its successor acts', async () => {
    const hypervisor = but(() => ({ fencing: 'process' as const }));
    const told = await story({ hypervisor });
    const { world, id, crew } = told;
    await world.reaches(id, 'v1', 'precopy');
    crew.freeze();
    await world.crew({ hypervisor });
    await redeliver(told);
    await world.ended(id);
    expect(world.endedProcesses).toEqual([crew.owner.id]);
    await expectMoved(told);
    expect(causes(world).filter((cause) => cause === 'preparing started')).toHaveLength(1);
  });

  it('a source that falls silent while it is being cleaned keeps its grant counted', async () => {
    let silent = false;
    const told = await story({
      hypervisor: but((real) => ({
        look: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.look(name, vmName)),
        sample: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.sample(name, vmName)),
      })),
      onEvent: ({ kind }) => {
        if (kind === 'move.cleaning') silent = true;
      },
    });
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await inject(world, { kind: 'hypervisorError', vm: 'v1' });
    await world.clock.runUntil(() => causes(world).includes('cleaning unreachable'), 300_000);
    const use = (await world.budget.use()).find((one) => one.host === 'a');
    expect(use?.egress.counted).toBeGreaterThan(0);
    silent = false;
    await expectMoved(told);
  });

  it('a source that is back and has sent all holds no bandwidth, though its destination never answers', async () => {
    let silent = false;
    const ask = <T>(name: string, answer: () => Promise<T>): Promise<T> =>
      silent && name === 'a'
        ? Promise.reject(new HostevacError('hostUnreachable', `host ${name} is silent`))
        : answer();
    const told = await story((world) => ({
      hypervisor: but((real) => ({
        look: (name, vmName) => ask(name, () => real.look(name, vmName)),
        sample: (name, vmName) => ask(name, () => real.sample(name, vmName)),
        inventory: (name) => ask(name, () => real.inventory(name)),
      })),
      onEvent: async ({ kind, moveId }) => {
        if (kind !== 'move.verifying') return;
        silent = true;
        const destination = (await world().records.move(moveId ?? ''))?.destination;
        await inject(world(), { kind: 'hostDies', host: destination ?? '' });
      },
    }));
    const { world, id } = told;
    const counted = async () => (await world.budget.use()).find(({ host: name }) => name === 'a')?.egress.counted;
    await world.clock.runUntil(() => causes(world).includes('verifying unreachable'), 300_000);
    await world.ended(id);
    expect(await counted()).toBeGreaterThan(0);
    silent = false;
    await world.clock.runUntil(async () => (await counted()) === 0, 300_000);
  });

  it('a hypervisor that knows nothing of the migration any more is asked from the start', async () => {
    const first = once();
    const told = await story({
      hypervisor: but((real) => ({ sample: (...args) => (first() ? Promise.resolve(null) : real.sample(...args)) })),
    });
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['precopy lostSight', 'reconciling runningOurs']));
    expect((await told.world.simulated.view()).starts).toEqual({ v1: 1 });
  });
});

describe('an attempt that breaks', () => {
  it('before its turn, because the operation ran out of time', async () => {
    const told = await story({}, evacuate('a', {}, 60_000));
    const { world, id } = told;
    await waitsAgain(told);
    const record = await world.ended(id);
    expect(record.reason).toMatchObject({ code: 'deadlineExceeded' });
    expect(causes(world)).toContain('admitting refused');
    await expectAtHome(told);
  });

  it('while waiting, by a cancel', async () => {
    const told = await story();
    const { world, id } = told;
    await waitsAgain(told);
    expect(causes(world)).toEqual(expect.arrayContaining(['precopy requeue', 'cleaning cleanToStart']));
    await world.records.setControl(id, { cancel: true });
    expect(await world.ended(id)).toMatchObject({ state: 'cancelled' });
    expect(causes(world)).toContain('admitting cancel');
    await expectAtHome(told);
  });

  it('because the destination refuses its copy, and goes elsewhere', async () => {
    const refused = new Set<string>();
    const told = await story({
      hypervisor: but((real) => ({
        prepareDestination: (fence, target) => {
          if (refused.size > 0 && !refused.has(target.destination)) return real.prepareDestination(fence, target);
          refused.add(target.destination);
          throw new HostevacError('hypervisorRefused', 'no such machine type');
        },
      })),
    });
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['preparing broken', 'cleaning cleanAfterFailure']));
  });

  it('because the link is cut: failed within 15 s, the VM at home and unthrottled, redone elsewhere', async () => {
    const told = await story();
    const { world, id } = told;
    const move = await world.reaches(id, 'v1', 'precopy');
    const cutAt = world.clock.now();
    await inject(world, { kind: 'linkCut', from: 'a', to: move.destination, durationMs: 600_000 });
    await world.clock.runUntil(async () => (await world.records.move(move.id))?.state === 'failed', 30_000);
    expect(world.clock.now() - cutAt).toBeLessThan(15_000);
    expect((await world.hypervisor.look('a', 'v1')).present).toBe(true);
    expect(causes(world)).toContain('precopy broken');
    await expectMoved(told);
  });

  it('because nothing moves any more though the hypervisor sees nothing wrong', async () => {
    const told = await story();
    await told.world.reaches(told.id, 'v1', 'precopy');
    await inject(told.world, { kind: 'stuckProgress', vm: 'v1', durationMs: 20_000 });
    await expectMoved(told);
    const moves = await told.world.moves(told.id);
    expect(moves[0]?.reason?.code).toBe('migrationStuck');
  });

  it('because it does not converge in its time: aborted, not tried again', async () => {
    const world = new World({
      hosts: [
        host('a', [vm('v1', { memory: '16GiB', dirtyRate: '4GiB/s', workingSet: '8GiB' })]),
        host('b'),
        host('c'),
      ],
    });
    const crew = await world.crew();
    const id = await world.request(evacuate('a', { aggression: 0, maxTimeMs: 60_000, controller: 'rfc2011' }));
    const told = { world, crew, id };
    const record = await world.ended(id);
    expect(record.state).toBe('failed');
    expect(record.tasks[0]?.reason?.code).toBe('maxTimeExceeded');
    expect(record.tasks[0]?.moveIds).toHaveLength(1);
    expect(causes(world)).toContain('precopy gaveUp');
    await expectAtHome(told);
  });

  it('because it is cancelled while it copies', async () => {
    const told = await story();
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await world.records.setControl(id, { cancel: true });
    expect(await world.ended(id, 5_000)).toMatchObject({ state: 'cancelled' });
    expect(causes(world)).toEqual(expect.arrayContaining(['precopy cancel', 'cleaning cleanAfterCancel']));
    await expectAtHome(told);
  });

  it('though it had been given up: what finished anyway is done, not undone', async () => {
    const first = once();
    const told = await story((world) => ({
      hypervisor: but((real) => ({
        sample: async (...args) => {
          const sample = await real.sample(...args);
          const nearlyThere = sample?.status === 'active' && sample.remainingBytes < 1.5 * 2 ** 30;
          return nearlyThere && first() ? { ...sample, status: 'failed' } : sample;
        },
        // The order comes too late: the last byte was sent while it was on its way.
        cancelMigration: async (fence, source, vmName) => {
          while ((await world().copies(vmName)).some((copy) => /^a:(running|paused)$/.test(copy))) {
            await world().clock.sleep(50);
          }
          await real.cancelMigration(fence, source, vmName);
        },
      })),
    }));
    await expectMoved(told);
    expect(told.world.delivery.errors).toEqual([]);
    expect(causes(told.world)).toContain('cleaning finished');
  });
});

describe('while switching over', () => {
  /** Shows `statuses` in turn instead of what is true, from the first switchover (or the last bytes) on. */
  function showing(statuses: readonly ('switchover' | 'active' | 'failed' | null)[]): CrewOptions {
    let next = 0;
    return {
      hypervisor: but((real) => ({
        sample: async (...args) => {
          const sample = await real.sample(...args);
          const status = statuses[next];
          if (sample?.status !== 'active' || sample.pass > 1 || status === undefined) return sample;
          next += 1;
          return status === null ? null : { ...sample, status };
        },
      })),
    };
  }

  it('a guest that resumes at its source is copied on', async () => {
    const told = await story(showing(['switchover', 'switchover', 'active']));
    await expectMoved(told);
    expect(causes(told.world)).toContain('switchover resumed');
  });

  it('a failure leaves it at home, and it is tried again', async () => {
    const told = await story(showing(['switchover', 'failed']));
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['switchover broken', 'cleaning cleanAfterFailure']));
  });

  it('losing sight of it means looking at both ends again', async () => {
    const told = await story(showing(['switchover', null]));
    await expectMoved(told);
    expect(causes(told.world)).toContain('switchover lostSight');
    expect((await told.world.simulated.view()).starts).toEqual({ v1: 1 });
  });
});

describe('a migration that goes on in post-copy', () => {
  /** 8 GiB that it writes faster than the link carries; its policy switches it to post-copy after half a minute. */
  async function postCopyStory(
    options: CrewOptions | ((world: () => World, crew: () => Crew) => CrewOptions) = {},
    over: Partial<Policy> = IN_TIME,
    deadlineMs: number | null = null,
  ): Promise<Story> {
    const hot = vm('v1', { memory: '16GiB', dirtyRate: '4GiB/s', workingSet: '8GiB', cpuUse: 1 });
    return story(options, evacuate('a', over, deadlineMs), [host('a', [hot]), host('b')]);
  }
  const IN_TIME: Partial<Policy> = {
    atDeadline: 'postCopy',
    maxTimeMs: 30_000,
    minCpuShare: 0.9,
    aggression: 0,
    precedence: ['minCpu', 'maxBandwidth', 'maxTime'],
  };
  /** Long enough for the controller to go on in pre-copy. */
  const NO_HURRY: Partial<Policy> = { atDeadline: 'postCopy' };
  const statusAt = async (world: World) => (await world.hypervisor.sample('a', 'v1'))?.status;
  const goesOver = (world: World) => world.clock.runUntil(async () => (await statusAt(world)) === 'postCopy', 120_000);
  /** By somebody at the hypervisor itself, who needs no lease. */
  async function beginsByHand(world: World): Promise<void> {
    const token = (await world.simulated.view()).tokens['v1'] ?? 0;
    await world.hypervisor.beginPostCopy({ token, assertHeld: () => undefined }, 'a', 'v1');
  }

  it('moves a guest that does not converge, with a short standstill, and books what it waited for pages', async () => {
    const told = await postCopyStory();
    const { world, id } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    expect(await world.copies('v1')).toEqual(['a:postMigrate', 'b:running']);
    expect(await world.move(id, 'v1')).toMatchObject({
      state: 'postcopy',
      step: 'postcopy',
      reason: expect.anything(),
    });
    // It still draws on the path, and is held back nowhere.
    expect((await world.budget.use()).find((one) => one.host === 'a')?.egress.counted).toBeGreaterThan(0);
    expect((await world.simulated.view()).throttled).toEqual({});
    await expectMoved(told);
    expect(causes(world)).toEqual(expect.arrayContaining(['precopy postCopy', 'postcopy finished']));
    const figures = (await world.move(id, 'v1'))?.figures;
    expect(figures?.downtimeMs).toBeGreaterThan(30);
    expect(figures?.downtimeMs).toBeLessThan(100);
    // Two CPUs: about 45% of 8 s, and what it was held back before.
    expect(figures?.harmCpuMs).toBeGreaterThan(5_000);
    expect(figures?.harmCpuMs).toBeLessThan(16_000);
    expect((await world.budget.use()).find((one) => one.host === 'a')?.egress.counted).toBe(0);
  });

  it('is adopted by a successor, which finishes it', async () => {
    const told = await postCopyStory();
    await goesOver(told.world);
    told.crew.kill();
    await told.world.crew();
    await redeliver(told);
    await expectMoved(told);
    expect(causes(told.world)).toContain('reconciling inPostCopy');
  });

  it('is not ended by a cancel, a pause or the deadline, and says why', async () => {
    const told = await postCopyStory();
    const { world, id } = told;
    await goesOver(world);
    await world.records.setControl(id, { pause: true, pauseNow: true });
    await world.clock.advance(1_500);
    expect((await world.move(id, 'v1'))?.reason?.message).toMatch(/was to be paused now.*cannot be called off/);
    await world.records.setControl(id, { cancel: true });
    await world.clock.advance(1_500);
    expect((await world.move(id, 'v1'))?.reason?.message).toMatch(/was cancelled, but it is in post-copy/);
    await world.ended(id);
    expect(await world.copies('v1')).toEqual(['b:running']);
    expect(await world.move(id, 'v1')).toMatchObject({ state: 'done', reason: null });
    expect((await world.told(id)).filter(({ kind }) => kind === 'move.notCalledOff')).toHaveLength(2);
    const late = await postCopyStory({}, IN_TIME, 24_000);
    await goesOver(late.world);
    await late.world.clock.runUntil(async () => {
      return /deadline has passed, but it is in post-copy/.test(
        (await late.world.move(late.id, 'v1'))?.reason?.message ?? '',
      );
    }, 60_000);
    await late.world.clock.runUntil(async () => (await late.world.move(late.id, 'v1'))?.step === 'done', 60_000);
  });

  it('whose link is cut for long is recovered when it is back, however often that fails before', async () => {
    const told = await postCopyStory();
    const { world, id } = told;
    await goesOver(world);
    await inject(world, { kind: 'linkCut', from: 'a', to: 'b', durationMs: 1_800_000 });
    await world.clock.advance(1_700_000);
    const move = await world.move(id, 'v1');
    expect(move).toMatchObject({ step: 'postcopy', reason: { code: 'linkFailed' } });
    expect(move?.reason?.message).toMatch(/connection from a to b is broken; both ends were told to connect anew/);
    // At most twice a minute.
    expect((await world.told(id)).filter(({ kind }) => kind === 'move.recovering').length).toBeLessThan(65);
    await expectMoved(told);
  });

  it('over a connection that is silently dead is recovered though both ends think that it is whole', async () => {
    const recovered: number[] = [];
    const told = await postCopyStory((world) => ({
      hypervisor: but((real) => ({
        recoverPostCopy: async (...args) => {
          recovered.push(world().clock.now());
          await real.recoverPostCopy(...args);
        },
      })),
    }));
    const { world } = told;
    await goesOver(world);
    const stuckAt = world.clock.now();
    await inject(world, { kind: 'stuckProgress', vm: 'v1', durationMs: 60_000 });
    await expectMoved(told);
    expect((recovered[0] ?? 0) - stuckAt).toBeGreaterThanOrEqual(10_000);
    expect((recovered[0] ?? 0) - stuckAt).toBeLessThan(13_000);
    expect(await world.copies('v1')).toEqual(['b:running']);
  });

  it('whose hosts do not answer for an hour is waited for, also by a successor', async () => {
    let silent = false;
    const options: CrewOptions = {
      hypervisor: but((real) => ({
        look: async (name, vmName) => (silent ? unreachable(name) : real.look(name, vmName)),
        sample: async (name, vmName) => (silent ? unreachable(name) : real.sample(name, vmName)),
      })),
    };
    const told = await postCopyStory(options);
    const { world, id } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    silent = true;
    await world.clock.advance(3_600_000);
    expect(await world.move(id, 'v1')).toMatchObject({ step: 'postcopy', reason: { code: 'hostUnreachable' } });
    told.crew.kill();
    await world.crew(options);
    await redeliver(told);
    await world.clock.advance(3_600_000);
    expect(await world.move(id, 'v1')).toMatchObject({ step: 'postcopy', reason: { code: 'hostUnreachable' } });
    silent = false;
    await expectMoved(told);
    expect(await world.moves(id)).toHaveLength(1);
  });

  it('that was just asked for when its worker died is waited for, too, while no host answers', async () => {
    let silent = false;
    const silenced = but((real) => ({
      look: async (name, vmName) => (silent ? unreachable(name) : real.look(name, vmName)),
      sample: async (name, vmName) => (silent ? unreachable(name) : real.sample(name, vmName)),
    }));
    const told = await postCopyStory((_, crew) => ({
      hypervisor: but((real) => ({
        beginPostCopy: async (...args) => {
          await real.beginPostCopy(...args);
          silent = true;
          crew().kill();
        },
      })),
    }));
    const { world, id } = told;
    await world.clock.runUntil(() => silent, 120_000);
    expect(await world.move(id, 'v1')).not.toMatchObject({ account: { arriving: true } });
    await world.crew({ hypervisor: silenced });
    await redeliver(told);
    await world.clock.advance(3_600_000);
    expect(await world.move(id, 'v1')).toMatchObject({ state: 'postcopy', reason: { code: 'hostUnreachable' } });
    silent = false;
    await expectMoved(told);
    expect(await world.moves(id)).toHaveLength(1);
  });

  it('that went over before anybody knew what the guest gets of its CPUs is noted all the same', async () => {
    let started = false;
    const told = await postCopyStory((_, crew) => ({
      hypervisor: but((real) => ({
        startMigration: async (...args) => {
          await real.startMigration(...args);
          started = true;
          crew().kill();
        },
      })),
    }));
    const { world, id } = told;
    await world.clock.runUntil(() => started, 60_000);
    await world.clock.advance(20_000);
    await beginsByHand(world);
    await world.clock.advance(500);
    expect(await statusAt(world)).toBe('postCopy');
    expect(await world.move(id, 'v1')).toMatchObject({ account: null });
    await world.crew();
    await redeliver(told);
    await world.reaches(id, 'v1', 'postcopy');
    await world.clock.advance(1_500);
    expect(await world.move(id, 'v1')).toMatchObject({ account: { arriving: true }, figures: { harmCpuMs: 0 } });
    await expectMoved(told);
    expect((await world.move(id, 'v1'))?.figures.harmCpuMs).toBe(0);
  });

  it('that has arrived is done though its source never answers again', async () => {
    let silent = false;
    const options: CrewOptions = {
      hypervisor: but((real) => ({
        look: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.look(name, vmName)),
        sample: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.sample(name, vmName)),
      })),
    };
    const told = await postCopyStory(options);
    const { world, id } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    silent = true;
    const arriving = async (): Promise<boolean> => {
      const there = await world.hypervisor.look('b', 'v1');
      return there.present && there.arriving;
    };
    expect(await arriving()).toBe(true);
    await world.clock.runUntil(async () => !(await arriving()), 60_000);
    // A source that is back soon could still be tidied: it is waited for a while.
    await world.clock.advance(30_000);
    expect(await world.move(id, 'v1')).toMatchObject({ step: 'verifying' });
    await world.reaches(id, 'v1', 'done', 60_000);
    expect(await world.copies('v1')).toEqual(['a:postMigrate', 'b:running']);
  });

  it('whose source is back a while after all has arrived has it tidied', async () => {
    let silent = false;
    const told = await postCopyStory({
      hypervisor: but((real) => ({
        look: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.look(name, vmName)),
        sample: async (name, vmName) => (silent && name === 'a' ? unreachable(name) : real.sample(name, vmName)),
      })),
    });
    const { world, id } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    silent = true;
    await world.reaches(id, 'v1', 'verifying', 60_000);
    await world.clock.advance(20_000);
    silent = false;
    await expectMoved(told);
  });

  it('whose destination hangs keeps its lease, and is connected anew before anything else is asked there', async () => {
    let hangs = false;
    const asked: string[] = [];
    const hang = async (world: World, what: string): Promise<never> => {
      asked.push(what);
      await world.clock.sleepReal(6_000);
      return unreachable('b');
    };
    const told = await postCopyStory((world) => ({
      hypervisor: but((real) => ({
        look: (name, vmName) => (hangs && name === 'b' ? hang(world(), 'look') : real.look(name, vmName)),
        recoverPostCopy: async (...args) => {
          asked.push('recover');
          await real.recoverPostCopy(...args);
        },
      })),
      throttle: (real) =>
        new Proxy(real, {
          get: (target, key) => {
            if (key === 'guestCpu' && hangs) return () => hang(world(), 'cpu');
            const value: unknown = Reflect.get(target, key, target);
            return typeof value === 'function' ? value.bind(target) : value;
          },
        }),
    }));
    const { world } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    await inject(world, { kind: 'linkCut', from: 'a', to: 'b', durationMs: 60_000 });
    hangs = true;
    await world.clock.advance(60_000);
    hangs = false;
    expect(asked.slice(0, 3)).toEqual(['look', 'recover', 'cpu']);
    await expectMoved(told);
    expect(causes(world).filter((cause) => cause.startsWith('postcopy'))).toEqual(['postcopy finished']);
  });

  it('is throttled no more, and keeps to what the budget gives it', async () => {
    const given: number[] = [];
    let over = false;
    const told = await postCopyStory(
      {
        hypervisor: but((real) => ({
          setBandwidth: async (...args) => {
            if (over) given.push(args[3]);
            await real.setBandwidth(...args);
          },
        })),
      },
      { ...NO_HURRY, aggression: 1 },
    );
    const { world } = told;
    const throttled = async () => Object.keys((await world.simulated.view()).throttled).length;
    await world.clock.runUntil(async () => (await throttled()) > 0, 300_000);
    await beginsByHand(world);
    over = true;
    await goesOver(world);
    // Sooner than it would lift itself.
    await world.clock.advance(1_100);
    expect(await throttled()).toBe(0);
    await expectMoved(told);
    expect(given).toEqual([2 ** 30]);
  });

  it.each([
    ['a', /SOURCE WAS LOST.*a does not have it; b has it running, waiting for memory/],
    ['b', /DESTINATION WAS LOST.*a has it postMigrate, migration postCopyPaused; b does not have it/],
  ])('whose copy at %s dies has lost memory: what was seen is said, and nothing is touched', async (end, words) => {
    const told = await postCopyStory();
    const { world, id } = told;
    await goesOver(world);
    await world.clock.advance(1_500);
    await inject(world, { kind: 'vmDies', vm: 'v1', host: end });
    const before = await world.copies('v1');
    const record = await world.ended(id);
    expect(record.reason).toMatchObject({ code: 'memoryLost', message: expect.stringMatching(words) });
    expect(causes(world)).toContain('postcopy contradiction');
    expect(await world.copies('v1')).toEqual(before);
    expect((await world.budget.use()).find((one) => one.host === 'a')?.egress.counted).toBe(0);
  });

  it('that somebody else began is followed, not undone', async () => {
    const told = await postCopyStory({}, NO_HURRY);
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await world.clock.advance(5_000);
    await beginsByHand(world);
    await expectMoved(told);
    expect(causes(world)).toContain('precopy inPostCopy');
  });

  it('that began while it switched over is followed', async () => {
    const first = once();
    const told = await postCopyStory(
      {
        hypervisor: but((real) => ({
          sample: async (...args) => {
            const sample = await real.sample(...args);
            return sample?.status === 'postCopy' && first() ? { ...sample, status: 'switchover' } : sample;
          },
        })),
      },
      NO_HURRY,
    );
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await world.clock.advance(5_000);
    await beginsByHand(world);
    await expectMoved(told);
    expect(causes(world)).toContain('switchover inPostCopy');
  });

  it('that began while it was to be cleaned up is followed', async () => {
    const told = await postCopyStory(
      (world) => ({
        hypervisor: but((real) => ({
          cancelMigration: async (...args) => {
            await beginsByHand(world());
            await real.cancelMigration(...args);
          },
        })),
      }),
      NO_HURRY,
    );
    const { world, id } = told;
    await world.reaches(id, 'v1', 'precopy');
    await world.clock.advance(5_000);
    await world.records.setControl(id, { cancel: true });
    await world.ended(id);
    expect(causes(world)).toContain('cleaning inPostCopy');
    expect(await world.copies('v1')).toEqual(['b:running']);
  });

  /** Waits before the guest goes over, as a hypervisor with a last word does; `look` at its destination. */
  function waiting(look: (real: Hypervisor, name: string, vmName: string) => Promise<Sighting>) {
    const said: string[] = [];
    const hypervisor = but((real) => {
      let waits = false;
      return {
        beginPostCopy: async () => {
          waits = true;
        },
        sample: async (...args) => {
          const sample = await real.sample(...args);
          return waits && sample?.status === 'active' ? { ...sample, status: 'preSwitchover' } : sample;
        },
        look: (name, vmName) => (waits && name === 'b' ? look(real, name, vmName) : real.look(name, vmName)),
        finishMigration: async (held, source, vmName) => {
          said.push('finish');
          waits = false;
          await real.beginPostCopy(held, source, vmName);
        },
        cancelMigration: async (...args) => {
          said.push('cancel');
          waits = false;
          await real.cancelMigration(...args);
        },
      };
    });
    return { said, hypervisor };
  }

  it('gets its last word before the guest goes over', async () => {
    const { said, hypervisor } = waiting((real, name, vmName) => real.look(name, vmName));
    await expectMoved(await postCopyStory({ hypervisor }));
    expect(said).toEqual(['finish']);
  });

  it('that cannot be begun ends the attempt, and is not asked for again and again', async () => {
    let asked = 0;
    const told = await postCopyStory({
      hypervisor: but((real) => ({
        beginPostCopy: async (...args) => {
          asked += 1;
          if (asked === 1) throw new HostevacError('hypervisorRefused', 'was not started for post-copy');
          await real.beginPostCopy(...args);
        },
      })),
    });
    await expectMoved(told);
    expect(asked).toBe(2);
    expect((await told.world.moves(told.id)).map(({ state }) => state)).toEqual(['failed', 'done']);
  });

  it('is called off where its destination has lost the copy: nothing had gone over', async () => {
    const { said, hypervisor } = waiting(async () => ({ present: false }));
    const told = await postCopyStory({ hypervisor });
    await told.world.clock.runUntil(() => causes(told.world).includes('postcopy broken'), 120_000);
    expect(said[0]).toBe('cancel');
    expect(said).not.toContain('finish');
    expect(await told.world.copies('v1')).toContain('a:running');
  });

  it('is still called off by a cancel that comes before the guest goes over', async () => {
    const { said, hypervisor } = waiting((real, name, vmName) => real.look(name, vmName));
    const told = await postCopyStory((world) => ({
      hypervisor,
      onEvent: async ({ kind, operationId }) => {
        if (kind === 'move.postcopy') await world().records.setControl(operationId, { cancel: true });
      },
    }));
    expect(await told.world.ended(told.id)).toMatchObject({ state: 'cancelled' });
    expect(causes(told.world)).toContain('postcopy cancel');
    expect(said).toEqual(['cancel']);
    await expectAtHome(told);
  });

  it('that does not begin is looked at from the start', async () => {
    const first = once();
    const told = await postCopyStory({
      hypervisor: but((real) => ({
        beginPostCopy: async (...args) => {
          if (!first()) await real.beginPostCopy(...args);
        },
      })),
    });
    await expectMoved(told);
    expect(causes(told.world)).toEqual(expect.arrayContaining(['postcopy lostSight', 'precopy postCopy']));
  });
});

/** `v1` is next in turn: `v0`, twice as large, has all that goes out of `a`. */
async function behindStory(
  options: CrewOptions | ((world: () => World, crew: () => Crew) => CrewOptions) = {},
  request = evacuate('a'),
): Promise<Story> {
  const vms = [vm('v0', { memory: '32GiB' }), vm('v1', { memory: '16GiB' })];
  return story(options, request, [host('a', vms), host('b')]);
}

describe('a migration that is next in turn', () => {
  it('has its copy waiting before its turn comes, and begins with that', async () => {
    let prepared = 0;
    const told = await behindStory({
      hypervisor: but((real) => ({
        prepareDestination: async (...args) => {
          if (args[1].vm === 'v1') prepared += 1;
          await real.prepareDestination(...args);
        },
      })),
    });
    const { world, id } = told;
    await world.reaches(id, 'v1', 'standby');
    await world.clock.runUntil(async () => (await world.copies('v1')).length === 2, 5_000);
    expect(await world.copies('v1')).toEqual(['a:running', 'b:incoming']);
    expect((await world.move(id, 'v0'))?.step).toMatch(/^p/);
    expect(await world.move(id, 'v1')).toMatchObject({
      state: 'queued',
      reason: { message: expect.stringMatching(/^waits for egress of a: .*held by v0/) },
    });
    await expectMoved(told);
    expect(causes(world)).toEqual(
      expect.arrayContaining(['admitting nextInTurn', 'standby granted', 'preparing started']),
    );
    expect(prepared).toBe(1);
  });

  it('may be cancelled, and leaves no copy', async () => {
    const told = await behindStory();
    const { world, id } = told;
    await world.reaches(id, 'v1', 'standby');
    await world.records.setControl(id, { cancel: true });
    await world.ended(id);
    expect(causes(world)).toEqual(expect.arrayContaining(['standby cancel', 'cleaning cleanAfterCancel']));
    await expectAtHome(told);
  });

  it('may be paused, has no copy meanwhile, and is moved when it goes on', async () => {
    const told = await behindStory();
    const { world, id } = told;
    await world.reaches(id, 'v1', 'standby');
    await world.records.setControl(id, { pause: true });
    await world.reaches(id, 'v1', 'admitting');
    expect(causes(world)).toEqual(expect.arrayContaining(['standby requeue', 'cleaning cleanToStart']));
    await world.clock.advance(300_000);
    expect(await world.copies('v1')).toEqual(['a:running']);
    await world.records.setControl(id, { pause: false });
    await expectMoved(told);
  });

  it('is not begun after the deadline of its operation, and leaves no copy', async () => {
    const told = await behindStory({}, evacuate('a', {}, 20_000));
    await told.world.ended(told.id);
    expect(causes(told.world)).toContain('standby refused');
    await expectAtHome(told);
  });

  it('goes elsewhere, or tries again, where its destination refuses the copy', async () => {
    const first = once();
    const told = await behindStory({
      hypervisor: but((real) => ({
        prepareDestination: async (...args) => {
          if (args[1].vm === 'v1' && first()) throw new HostevacError('hypervisorRefused', 'no room for it');
          await real.prepareDestination(...args);
        },
      })),
    });
    await expectMoved(told);
    expect(causes(told.world)).toContain('standby broken');
  });

  it('leaves no copy where the store has lost the operation meanwhile', async () => {
    const told = await behindStory();
    const { world, id, crew } = told;
    const { id: moveId } = await world.reaches(id, 'v1', 'standby');
    await world.clock.runUntil(async () => (await world.copies('v1')).length === 2, 5_000);
    crew.kill();
    const moves = await world.moves(id);
    for (const key of ['index', 'claims', `operation:${id}`]) {
      await world.cells.compareAndSet(key, (await world.cells.read(key)).version, null);
    }
    await world.crew();
    for (const move of moves) world.delivery.deliverAgain(`moves ${move.source}`, move.id);
    await world.clock.runUntil(async () => (await world.copies('v1')).length === 1, 60_000);
    await expectAtHome(told);
    const [record] = await world.records.moves([moveId]);
    expect(record).toMatchObject({ state: 'failed', reason: { code: 'internal' } });
  });

  it('has the bandwidth of one that has arrived at a host that died then', async () => {
    const told = await behindStory((world) => ({
      onEvent: async ({ kind, vm: name }) => {
        if (kind === 'move.verifying' && name === 'v0') await inject(world(), { kind: 'hostDies', host: 'b' });
      },
    }));
    const { world, id } = told;
    expect(await world.ended(id)).toMatchObject({ state: 'failed' });
    expect((await world.budget.use()).find(({ host: name }) => name === 'a')?.egress.counted).toBe(0);
    expect((await world.copies('v1'))[0]).toBe('a:running');
  });

  it('whose guest is shut off meanwhile is reported as that, and leaves no copy', async () => {
    const told = await behindStory();
    const { world, id } = told;
    await world.reaches(id, 'v1', 'standby');
    await world.clock.runUntil(async () => (await world.copies('v1')).length === 2, 5_000);
    await inject(world, { kind: 'vmDies', vm: 'v1', host: 'a' });
    await world.ended(id);
    expect(await world.copies('v1')).toEqual([]);
    expect(await world.move(id, 'v1')).toMatchObject({ state: 'failed', reason: { code: 'sourceDied' } });
    expect(causes(world).filter((cause) => cause.endsWith('contradiction'))).toEqual([]);
  });

  it('begins anew where its copy has died while it waited', async () => {
    const told = await behindStory();
    const { world, id } = told;
    await world.reaches(id, 'v1', 'standby');
    await world.clock.runUntil(async () => (await world.copies('v1')).length === 2, 5_000);
    await inject(world, { kind: 'vmDies', vm: 'v1', host: 'b' });
    await expectMoved(told);
  });
});

describe('a process that has to let go', () => {
  /** How each state is entered, told by its event; `reconciling` by losing sight once. */
  const entered = [
    'admitting',
    'standby',
    'preparing',
    'precopy',
    'switchover',
    'postcopy',
    'verifying',
    'cleaning',
    'reconciling',
  ] as const;
  const storyOf = (step: (typeof entered)[number]) => (step === 'standby' ? behindStory : story);

  function passingThrough(step: (typeof entered)[number]): CrewOptions['hypervisor'] {
    const first = once();
    return but((real) => ({
      sample: async (...args) => {
        const sample = await real.sample(...args);
        if (sample?.status !== 'active' || !first()) return sample;
        if (step === 'reconciling') return null;
        if (step === 'switchover') return { ...sample, status: 'switchover' };
        if (step === 'postcopy') return { ...sample, status: 'postCopy' };
        if (step === 'cleaning') return { ...sample, status: 'failed' };
        return sample;
      },
    }));
  }

  it.each(entered)('because it was stopped for longer than its lease while %s, writes nothing more', async (step) => {
    const first = once();
    const told = await storyOf(step)((world) => ({
      ...wrap(passingThrough(step)),
      // SIGSTOP for 10 s: time passes, this process does nothing.
      onEvent: async ({ kind }) => {
        if (kind === `move.${step}` && first()) await world().clock.sleep(10_000);
      },
    }));
    await expectMoved(told);
    expect(causes(told.world)).toContain(`${step} leaseLost`);
  });

  it.each(entered)('because it shuts down while %s, leaves the migration to whoever comes', async (step) => {
    const first = once();
    const told = await storyOf(step)((_, crew) => ({
      ...wrap(passingThrough(step)),
      onEvent: ({ kind }) => {
        if (kind === `move.${step}` && first()) void crew().close();
      },
    }));
    await told.world.clock.runUntil(() => causes(told.world).includes(`${step} shutdown`), 120_000);
    await told.world.clock.advance(100);
    expect((await told.world.simulated.view()).throttled).toEqual({});
    await told.world.crew();
    await expectMoved(told);
  });

  function wrap(hypervisor: CrewOptions['hypervisor']): CrewOptions {
    return hypervisor === undefined ? {} : { hypervisor };
  }
});

describe('a VM that cannot be migrated and is shut down', () => {
  const offStory = (
    options: Parameters<typeof story>[0] = {},
    { deaf = false, timeoutMs = 60_000 }: { deaf?: boolean; timeoutMs?: number } = {},
  ): Promise<Story> =>
    story(options, evacuate('a', {}, null, { nonMigratable: 'shutdown', shutdownTimeoutMs: timeoutMs }), [
      host('a', [vm('v1', { notMigratable: 'a host device is attached', ignoresShutdown: deaf })]),
      host('b'),
    ]);

  async function expectOff({ world, id }: Story): Promise<void> {
    expect(await world.ended(id)).toMatchObject({ state: 'done', empty: true });
    expect(await world.copies('v1')).toEqual(['a:shutOff']);
  }

  it('is looked at, asked and waited for', async () => {
    const told = await offStory();
    await expectOff(told);
    expect(causes(told.world)).toEqual(['reconciling toShutDown', 'asking asked', 'stopping isOff']);
    expect((await told.world.budget.use()).every(({ egress }) => egress.counted === 0)).toBe(true);
  });

  it('and does not is left running', async () => {
    const told = await offStory({}, { deaf: true });
    expect(await told.world.ended(told.id)).toMatchObject({ state: 'blocked', empty: false });
    expect(causes(told.world)).toContain('stopping stillRuns');
    await expectAtHome(told);
  });

  it('is found to be off by the next attempt, and not asked again', async () => {
    const told = await offStory();
    await told.world.reaches(told.id, 'v1', 'stopping');
    told.crew.kill();
    await told.world.clock.advance(30_000);
    await told.world.crew();
    await redeliver(told);
    await expectOff(told);
    expect(causes(told.world)).toContain('reconciling isOff');
  });

  it('is not asked when the operation is cancelled first', async () => {
    const told = await offStory((world) => ({
      onEvent: async ({ kind, operationId }) => {
        if (kind === 'move.asking') await world().records.setControl(operationId, { cancel: true });
      },
    }));
    expect(await told.world.ended(told.id)).toMatchObject({ state: 'cancelled' });
    expect(causes(told.world)).toContain('asking cancel');
    await expectAtHome(told);
  });

  it('is blocked where its hypervisor cannot ask it', async () => {
    const told = await offStory({
      hypervisor: but(() => ({
        shutdown: async () => {
          throw new HostevacError('hypervisorRefused', 'its guest has no ACPI');
        },
      })),
    });
    const record = await told.world.ended(told.id);
    expect(record.tasks[0]).toMatchObject({ state: 'blocked', reason: { message: 'its guest has no ACPI' } });
    expect(causes(told.world)).toContain('asking refused');
    await expectAtHome(told);
  });

  it('is looked at anew after a host that did not answer when it was to be asked', async () => {
    const isFirst = once();
    const told = await offStory({
      hypervisor: but((real) => ({
        shutdown: async (...args) => (isFirst() ? unreachable('a') : real.shutdown(...args)),
      })),
    });
    await expectOff(told);
    expect(causes(told.world)).toContain('asking lostSight');
  });

  it('is looked at anew when nobody can say at its end whether it runs', async () => {
    let from = Number.POSITIVE_INFINITY;
    const told = await offStory(
      (world) => ({
        hypervisor: but((real) => ({
          shutdown: async (...args) => {
            from = Math.min(from, world().clock.now());
            return real.shutdown(...args);
          },
          look: async (...args) => {
            const since = world().clock.now() - from;
            if (since > 10_000 && since < 40_000) unreachable('a');
            return real.look(...args);
          },
        })),
      }),
      { timeoutMs: 20_000, deaf: true },
    );
    expect(await told.world.ended(told.id)).toMatchObject({ state: 'blocked' });
    expect(causes(told.world)).toContain('stopping lostSight');
    await expectAtHome(told);
  });

  it('is left alone when it is not what it was while it is waited for', async () => {
    const told = await offStory({}, { deaf: true });
    await told.world.reaches(told.id, 'v1', 'stopping');
    await inject(told.world, { kind: 'vmDies', vm: 'v1', host: 'a' });
    await told.world.ended(told.id);
    expect(causes(told.world)).toContain('stopping refused');
  });

  const askings = async (world: World): Promise<number> =>
    (await world.simulated.view()).history.filter(({ command }) => command.kind === 'shutdown').length;

  it("is never asked while somebody else's migration of it runs", async () => {
    const told = await offStory((world) => ({
      onEvent: async ({ kind }) => {
        if (kind === 'move.asking') await inject(world(), { kind: 'foreignMigration', vm: 'v1', to: 'b' });
      },
    }));
    await told.world.ended(told.id);
    expect(await told.world.move(told.id, 'v1')).toMatchObject({ reason: { code: 'foreignMigration' } });
    expect(await askings(told.world)).toBe(0);
  });

  it('is asked after a migration that an earlier move of ours has left running was ended', async () => {
    const world = new World({ hosts: [host('a', [vm('v1', { memory: '16GiB' })]), host('b')] });
    const fence = { token: 0, assertHeld: () => undefined };
    const target = { vm: 'v1', source: 'a', destination: 'b', migrationId: 'old-1-1' };
    await world.hypervisor.prepareDestination(fence, target);
    const terms = { bandwidthBytesPerSec: 2 ** 20, downtimeLimitMs: 300, postCopy: false };
    await world.hypervisor.startMigration(fence, { ...target, ...terms });
    const begun = { id: 'old-1-1', destination: 'b', nowMs: world.clock.now() };
    await world.records.createMove(newMove('old', newTask('v1', 'a'), begun));
    await inject(world, { kind: 'vmChanges', vm: 'v1', notMigratable: 'a host device is attached' });
    const crew = await world.crew();
    const id = await world.request(evacuate('a', {}, null, { nonMigratable: 'shutdown' }));
    await expectOff({ world, crew, id });
    const kinds = (await world.simulated.view()).history.map(({ command }) => command.kind);
    expect(kinds.indexOf('cancelMigration')).toBeGreaterThan(0);
    expect(kinds.indexOf('shutdown')).toBeGreaterThan(kinds.indexOf('cancelMigration'));
  });

  const entered = ['asking', 'stopping'] as const;

  it.each(entered)('by a process that was stopped for longer than its lease while %s is carried on', async (step) => {
    const first = once();
    const told = await offStory((world) => ({
      onEvent: async ({ kind }) => {
        if (kind === `move.${step}` && first()) await world().clock.sleep(10_000);
      },
    }));
    await expectOff(told);
    expect(causes(told.world)).toContain(`${step} leaseLost`);
  });

  it.each(entered)('by a process that shuts down while %s is left to whoever comes', async (step) => {
    const first = once();
    const told = await offStory((_, crew) => ({
      onEvent: ({ kind }) => {
        if (kind === `move.${step}` && first()) void crew().close();
      },
    }));
    await told.world.clock.runUntil(() => causes(told.world).includes(`${step} shutdown`), 120_000);
    await told.world.clock.advance(100);
    await told.world.crew();
    await expectOff(told);
  });
});

describe('the table', () => {
  it('has a story for every transition', () => {
    const all = TRANSITIONS.map(([from, cause]) => `${from} ${cause}`);
    expect(all.filter((pair) => !TAKEN.has(pair))).toEqual([]);
  });

  it('leads from every state that is not final to an end', () => {
    for (const step of migrationSteps.filter((one) => !FINAL_STEPS.has(one))) {
      const reached = new Set<string>([step]);
      for (const seen of reached) for (const [from, , to] of TRANSITIONS) if (from === seen) reached.add(to);
      expect([...reached].some((one) => one === 'done')).toBe(true);
      expect(follow(step, 'leaseLost')).toBe('released');
      expect(follow(step, 'shutdown')).toBe('released');
    }
    expect(TRANSITIONS.some(([from]) => FINAL_STEPS.has(from))).toBe(false);
  });
});
