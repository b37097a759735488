/** Small simulated fleets for tests, and a way to drive the pure step as a log would. No assertions here. */
import type { z } from 'zod';
import type { Reason } from '../../../src/domain/errors.ts';
import { type Fleet, fleetSchema } from '../../../src/domain/fleet.ts';
import type { Command, GuestCommand, InjectedFault, State } from '../../../src/hypervisors/simulated/model.ts';
import { advance, apply, initialState } from '../../../src/hypervisors/simulated/step.ts';

export const MIB = 2 ** 20;

type FleetInput = z.input<typeof fleetSchema>;
type HostInput = Extract<FleetInput['hosts'][number], { driver: 'simulated' }>;
export type VmInput = HostInput['simulated']['vms'][number];

/** The guest of the measurements: 256 MiB, of which it writes 64 MiB over and over, 164 MiB/s, one vCPU that never idles. */
export const REFERENCE_GUEST: VmInput = {
  name: 'ref',
  memory: '256MiB',
  touched: '64MiB',
  cpus: 1,
  dirtyRate: '164MiB/s',
  workingSet: '64MiB',
  cpuUse: 1,
};

export function host(name: string, vms: VmInput[] = [], more: Partial<HostInput> = {}): HostInput {
  return {
    name,
    driver: 'simulated',
    migrationAddress: '127.0.0.1',
    egress: '100MiB/s',
    ingress: '100MiB/s',
    cpus: 8,
    memory: '4GiB',
    simulated: { vms },
    ...more,
  };
}

export function fleetOf(hosts: HostInput[], more: Partial<FleetInput> = {}): Fleet {
  return fleetSchema.parse({ hosts, ...more });
}

type Targeted<C> = C extends unknown ? Omit<C, 'token'> & { token?: number } : never;

/** A fleet in pure time: commands land at the time it stands at. Keeps every state frozen, so that a change of one shows. */
export class PureFleet {
  state: State;

  constructor(fleet: Fleet) {
    this.state = frozen(initialState(fleet));
  }

  at(ms: number): this {
    this.state = frozen(advance(this.state, ms));
    return this;
  }

  later(ms: number): this {
    return this.at(this.state.nowMs + ms);
  }

  /** Null, or why it was refused. */
  command(command: Command): Reason | null {
    const { state, refusal } = apply(this.state, { index: this.state.index + 1, atMs: this.state.nowMs, command });
    this.state = frozen(state);
    return refusal;
  }

  does(command: Targeted<GuestCommand>): Reason | null {
    return this.command({ token: 1, ...command });
  }

  fault(fault: InjectedFault): Reason | null {
    return this.command({ kind: 'fault', fault });
  }

  /** Prepares and starts; throws where either is refused. */
  migrate(
    vm: string,
    source: string,
    destination: string,
    { bandwidthBytesPerSec = 40 * MIB, downtimeLimitMs = 300, migrationId = 'm1', postCopy = false } = {},
  ): void {
    const target = { vm, source, destination, migrationId };
    const refusal =
      this.does({ kind: 'prepareDestination', ...target }) ??
      this.does({ kind: 'startMigration', ...target, bandwidthBytesPerSec, downtimeLimitMs, postCopy });
    if (refusal !== null) throw new Error(refusal.message);
  }

  throttle(vm: string, host: string, share: number, validForMs = 1e9): void {
    const refusal = this.does({ kind: 'setShare', vm, host, share, validForMs });
    if (refusal !== null) throw new Error(refusal.message);
  }
}

/** Frozen to its depths; what is frozen already was frozen to its depths before. */
export function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const part of Object.values(value)) frozen(part);
  }
  return value;
}

/** What `hypervisor-behaviour.ts` asks for. */
export const BEHAVIOUR_FLEET: Fleet = fleetOf(
  [
    host(
      'a',
      [
        { name: 'quick', memory: '60MiB', cpus: 2, dirtyRate: 0, workingSet: '1MiB', cpuUse: 0.3 },
        { ...REFERENCE_GUEST, name: 'endless' },
        { name: 'huge', memory: '6GiB', cpus: 1, dirtyRate: 0, workingSet: '1MiB', cpuUse: 1 },
      ],
      { memory: '8GiB' },
    ),
    host('b'),
    host('c'),
  ],
  { simulation: { speed: 20 } },
);

/** What `throttle-behaviour.ts` asks for. */
export const THROTTLE_FLEET: Fleet = fleetOf(
  [host('a', [{ name: 'busy', memory: '1GiB', cpus: 2, dirtyRate: 0, workingSet: '1MiB', cpuUse: 0.5 }])],
  { simulation: { speed: 20 } },
);
