/** Laws of the simulation, over random fleets, commands and faults. A failure prints its seed and the shrunk sequence. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Command, State } from '../../../src/hypervisors/simulated/model.ts';
import { stateSchema } from '../../../src/hypervisors/simulated/model.ts';
import { countersAt } from '../../../src/hypervisors/simulated/passes.ts';
import { advance, apply, initialState } from '../../../src/hypervisors/simulated/step.ts';
import { guestCpuOf } from '../../../src/hypervisors/simulated/views.ts';
import { fleetOf, frozen, host, MIB, type VmInput } from './fleets.ts';

const HOSTS = ['a', 'b', 'c'];
const VMS = ['v1', 'v2', 'v3'];

const vmInput = (name: string): fc.Arbitrary<VmInput> =>
  fc
    .record({
      memory: fc.integer({ min: 1, max: 700 }).map((mib) => mib * MIB),
      dirtyRate: fc.integer({ min: 0, max: 200 * MIB }),
      workingSet: fc.integer({ min: 1, max: 128 }).map((mib) => mib * MIB),
      cpuUse: fc.integer({ min: 0, max: 4 }).map((quarters) => quarters / 4),
      phases: fc.option(
        fc.array(
          fc.record({
            duration: fc.integer({ min: 1, max: 20_000 }),
            dirtyRate: fc.integer({ min: 0, max: 200 * MIB }),
            cpuUse: fc.constantFrom(0, 0.3, 1),
          }),
          { minLength: 1, maxLength: 3 },
        ),
        { nil: undefined },
      ),
      state: fc.constantFrom('running' as const, 'running' as const, 'paused' as const, 'shutOff' as const),
    })
    .map(({ phases, ...rest }) => ({ name, cpus: 2, ...rest, ...(phases === undefined ? {} : { phases }) }));

const vm = fc.constantFrom(...VMS);
const at = fc.constantFrom(...HOSTS);
const token = fc.integer({ min: 1, max: 3 });
const target = { token, vm, source: at, destination: at, migrationId: fc.constant('m') };
const bandwidth = fc.constantFrom(0, 5_000_011, 40_000_003, 150 * MIB);

const prepare = fc.record({ kind: fc.constant('prepareDestination' as const), ...target });
const start = fc.record({
  kind: fc.constant('startMigration' as const),
  ...target,
  bandwidthBytesPerSec: bandwidth,
  downtimeLimitMs: fc.constantFrom(0, 300, 2_000),
  postCopy: fc.boolean(),
});
const fault = fc.oneof(
  fc.record({
    kind: fc.constant('linkCut' as const),
    from: at,
    to: at,
    durationMs: fc.integer({ min: 1, max: 30_000 }),
  }),
  fc.record({ kind: fc.constant('hostDies' as const), host: at }),
  fc.record({ kind: fc.constant('hypervisorError' as const), vm }),
  fc.record({ kind: fc.constant('stuckProgress' as const), vm, durationMs: fc.integer({ min: 1, max: 30_000 }) }),
  fc.record({ kind: fc.constant('vmDies' as const), vm, host: at }),
  fc.record({ kind: fc.constant('foreignMigration' as const), vm, to: at }),
);
const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 4, arbitrary: prepare },
  { weight: 4, arbitrary: start },
  fc.record({ kind: fc.constant('setBandwidth' as const), token, vm, source: at, bytesPerSec: bandwidth }),
  fc.record({
    kind: fc.constant('setDowntimeLimit' as const),
    token,
    vm,
    source: at,
    downtimeLimitMs: fc.constantFrom(0, 1_000),
  }),
  fc.record({ kind: fc.constant('cancelMigration' as const), token, vm, source: at }),
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('beginPostCopy' as const), token, vm, source: at }) },
  fc.record({ kind: fc.constant('recoverPostCopy' as const), token, vm, source: at, destination: at }),
  fc.record({ kind: fc.constant('discardIncoming' as const), token, vm, destination: at }),
  fc.record({ kind: fc.constant('retire' as const), token, vm, source: at }),
  fc.record({
    kind: fc.constant('setShare' as const),
    token,
    vm,
    host: at,
    share: fc.constantFrom(0, 0.05, 0.5, 1),
    validForMs: fc.integer({ min: 1, max: 5_000 }),
  }),
  fc.record({ kind: fc.constant('releaseShare' as const), token, vm, host: at }),
  fc.record({ kind: fc.constant('fault' as const), fault }),
);

/** Most sequences of single random commands are refused; a whole move, well formed, reaches the deeper states. */
const move: fc.Arbitrary<Command[]> = fc
  .record({ vm, source: at, destination: at, token, bandwidthBytesPerSec: bandwidth, postCopy: fc.boolean() })
  .map(({ bandwidthBytesPerSec, postCopy, ...where }) => [
    { kind: 'prepareDestination', ...where, migrationId: 'm' },
    { kind: 'startMigration', ...where, migrationId: 'm', bandwidthBytesPerSec, downtimeLimitMs: 300, postCopy },
  ]);

/** And one that goes on in post-copy at once, over a link that may break. */
const postCopyMove: fc.Arbitrary<Command[]> = fc
  .record({ vm, source: at, destination: at, token, durationMs: fc.option(fc.integer({ min: 1, max: 30_000 })) })
  .map(({ durationMs, ...where }): Command[] => [
    { kind: 'prepareDestination', ...where, migrationId: 'm' },
    {
      kind: 'startMigration',
      ...where,
      migrationId: 'm',
      bandwidthBytesPerSec: 40_000_003,
      downtimeLimitMs: 300,
      postCopy: true,
    },
    { kind: 'beginPostCopy', token: where.token, vm: where.vm, source: where.source },
    ...(durationMs === null
      ? []
      : [
          {
            kind: 'fault' as const,
            fault: { kind: 'linkCut' as const, from: where.source, to: where.destination, durationMs },
          },
        ]),
  ]);

const script = fc.array(
  fc.record({
    waitMs: fc.integer({ min: 0, max: 8_000 }),
    commands: fc.oneof(
      move,
      postCopyMove,
      command.map((one) => [one]),
    ),
  }),
  { maxLength: 25 },
);
const fleet = fc
  .record({
    vms: fc.tuple(...VMS.map(vmInput)),
    spread: fc.array(at, { minLength: 3, maxLength: 3 }),
    seed: fc.nat(100),
  })
  .map(({ vms, spread, seed }) =>
    fleetOf(
      HOSTS.map((name) =>
        host(
          name,
          vms.filter((_, index) => spread[index] === name),
          { memory: '1GiB' },
        ),
      ),
      { simulation: { seed } },
    ),
  );

type Script = readonly { readonly waitMs: number; readonly commands: readonly Command[] }[];

/** Plays the script and waits for `tailMs`; `stops` are further instants at which somebody looks. Calls `see` with every state on the way. */
function play(
  from: State,
  steps: Script,
  stops: readonly number[] = [],
  see: (state: State) => void = () => undefined,
  tailMs = 60_000,
): State {
  let state = frozen(from);
  let clockMs = 0;
  const next = (to: State) => {
    state = frozen(to);
    see(state);
  };
  const lookUntil = (toMs: number) => {
    for (const stop of stops) if (stop > state.nowMs && stop < toMs) next(advance(state, stop));
  };
  for (const { waitMs, commands } of steps) {
    clockMs += waitMs;
    lookUntil(clockMs);
    for (const one of commands) next(apply(state, { index: state.index + 1, atMs: clockMs, command: one }).state);
  }
  lookUntil(clockMs + tailMs);
  next(advance(state, clockMs + tailMs));
  return state;
}

/** Not `fc.double`: half of those are almost 0. */
const stops = fc
  .array(
    fc.nat(120_000_000).map((us) => us / 1_000),
    { maxLength: 60 },
  )
  .map((all) => all.sort((x, y) => x - y));

describe('laws of the simulation', () => {
  test('looking on the way changes nothing: one step or many give the same state, bit for bit', () => {
    fc.assert(
      fc.property(fleet, script, stops, fc.integer({ min: 1, max: 4_000 }), (spec, steps, looks, tailMs) => {
        const seen = play(initialState(spec), steps, looks, () => undefined, tailMs);
        expect(seen).toEqual(play(initialState(spec), steps, [], () => undefined, tailMs));
      }),
      { numRuns: 200 },
    );
  });

  test('a state that went through JSON goes on as if it had not', () => {
    fc.assert(
      fc.property(fleet, script, script, (spec, first, second) => {
        const kept = play(initialState(spec), first);
        const read = stateSchema.parse(JSON.parse(JSON.stringify(kept)));
        expect(read).toEqual(kept);
        const later = second.map((step) => ({ ...step, waitMs: step.waitMs + 200_000 }));
        expect(play(read, later)).toEqual(play(kept, later));
      }),
      { numRuns: 100 },
    );
  });

  test('no VM runs twice, whatever is commanded and breaks', () => {
    fc.assert(
      fc.property(fleet, script, stops, (spec, steps, looks) => {
        play(initialState(spec), steps, looks, (state) => {
          for (const name of VMS) {
            const alive = HOSTS.filter((at) =>
              ['running', 'paused'].includes(state.hosts[at]?.copies[name]?.state ?? ''),
            );
            expect(alive.length).toBeLessThanOrEqual(1);
          }
        });
      }),
      { numRuns: 150 },
    );
  });

  test('a VM is lost only with the host or the copy that it ran on', () => {
    const harmless = script.map((steps) =>
      steps.map((step) => ({
        ...step,
        commands: step.commands.filter(
          (one) => one.kind !== 'fault' || !['hostDies', 'vmDies'].includes(one.fault.kind),
        ),
      })),
    );
    fc.assert(
      fc.property(fleet, harmless, stops, (spec, steps, looks) => {
        play(initialState(spec), steps, looks, (state) => {
          for (const name of VMS) {
            const copies = HOSTS.map((at) => state.hosts[at]?.copies[name]?.state);
            expect(copies.filter((one) => one === 'running' || one === 'paused' || one === 'shutOff')).toHaveLength(1);
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('unique bytes dirtied never exceed the working set, nor bytes sent what there is to send', () => {
    fc.assert(
      fc.property(fleet, script, stops, (spec, steps, looks) => {
        play(initialState(spec), steps, looks, (state) => {
          for (const migration of state.migrations) {
            const guest = state.guests[migration.vm];
            const most = Math.max(...(guest?.phases.map((phase) => phase.workingSetBytes) ?? []));
            const { dirtiedBytes, sentBytes } = countersAt(migration, state.nowMs);
            expect(dirtiedBytes).toBeGreaterThanOrEqual(0);
            expect(dirtiedBytes).toBeLessThanOrEqual(most);
            expect(sentBytes).toBeLessThanOrEqual(migration.passBytes);
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('rates on a NIC never sum to more than it carries', () => {
    fc.assert(
      fc.property(fleet, script, stops, (spec, steps, looks) => {
        play(initialState(spec), steps, looks, (state) => {
          for (const end of ['source', 'destination'] as const) {
            for (const name of HOSTS) {
              const ours = state.migrations.filter((migration) => migration[end] === name);
              const sum = ours.reduce((total, migration) => total + migration.rateBytesPerSec, 0);
              expect(sum).toBeLessThanOrEqual(100 * MIB * (1 + 1e-9));
            }
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('a host that began with room is never made to hold more memory than it has', () => {
    // A stranger's migration asks nobody.
    const ours = script.map((steps) =>
      steps.map((step) => ({
        ...step,
        commands: step.commands.filter((one) => one.kind !== 'fault' || one.fault.kind !== 'foreignMigration'),
      })),
    );
    fc.assert(
      fc.property(fleet, ours, (spec, steps) => {
        const crowded = HOSTS.filter((name) => heldMemory(initialState(spec), name) > 1_024 * MIB);
        play(initialState(spec), steps, [], (state) => {
          for (const name of HOSTS) {
            if (!crowded.includes(name)) expect(heldMemory(state, name)).toBeLessThanOrEqual(1_024 * MIB);
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('a guest never gets more CPU than it wants, and its counter never falls', () => {
    fc.assert(
      fc.property(fleet, script, stops, (spec, steps, looks) => {
        const before = new Map<string, number>();
        play(initialState(spec), steps, looks, (state) => {
          for (const name of HOSTS) {
            for (const vm of Object.keys(state.hosts[name]?.copies ?? {})) {
              const { gotCpuMs } = guestCpuOf(state, name, vm);
              expect(gotCpuMs).toBeLessThanOrEqual(2 * state.nowMs + 1e-6);
              const key = `${name} ${vm}`;
              const copy = state.hosts[name]?.copies[vm];
              if (copy?.state === 'running') expect(gotCpuMs).toBeGreaterThanOrEqual((before.get(key) ?? 0) - 1e-6);
              before.set(key, copy?.state === 'running' ? gotCpuMs : 0);
            }
          }
        });
      }),
      { numRuns: 100 },
    );
  });

  test('the random scripts do reach what the laws are about', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fleet, script, (spec, steps) => {
        play(initialState(spec), steps, [], (state) => {
          for (const migration of state.migrations) {
            seen.add(migration.stage);
            if (migration.arrival?.paused) seen.add('paused in post-copy');
          }
          for (const at of Object.values(state.hosts)) {
            for (const copy of Object.values(at.copies)) seen.add(copy.lastOutgoing?.status ?? copy.state);
          }
        });
      }),
      { numRuns: 1_000, seed: 1 },
    );
    const wanted = [
      'precopy',
      'postCopy',
      'paused in post-copy',
      'completed',
      'failed',
      'cancelled',
      'running',
      'paused',
      'shutOff',
      'incoming',
    ];
    expect([...seen]).toEqual(expect.arrayContaining(wanted));
  });

  test('another seed is another run, the same seed the same', () => {
    const run = (seed: number) => {
      const guest: VmInput = {
        name: 'v1',
        memory: '64MiB',
        cpus: 1,
        dirtyRate: '30MiB/s',
        workingSet: '64MiB',
        cpuUse: 1,
      };
      const spec = fleetOf([host('a', [guest]), host('b')], { simulation: { seed } });
      const where = { token: 1, vm: 'v1', source: 'a', destination: 'b', migrationId: 'm' };
      const end = play(initialState(spec), [
        {
          waitMs: 0,
          commands: [
            { kind: 'prepareDestination', ...where },
            { kind: 'startMigration', ...where, bandwidthBytesPerSec: 40 * MIB, downtimeLimitMs: 300, postCopy: false },
          ],
        },
      ]);
      return end.hosts['a']?.copies['v1']?.lastOutgoing;
    };
    expect(run(1)).toEqual(run(1));
    expect(run(1)?.endedAtMs).not.toBe(run(2)?.endedAtMs);
  });
});

/** Shut-off copies hold none. */
function heldMemory(state: State, name: string): number {
  return Object.entries(state.hosts[name]?.copies ?? {})
    .filter(([, copy]) => copy.state !== 'shutOff')
    .reduce((sum, [vm]) => sum + (state.guests[vm]?.memoryBytes ?? 0), 0);
}
