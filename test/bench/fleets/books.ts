/** What emptying hosts has cost in a simulated fleet, counted at the fleet itself, whoever does it. */
import { type LowerBound, makespanLowerBound } from '../../../src/bandwidth/lower-bound.ts';
import { networkOf } from '../../../src/bandwidth/resources.ts';
import type { Fleet } from '../../../src/domain/fleet.ts';
import { POLICY_PRESETS } from '../../../src/domain/policy.ts';
import { demandMs } from '../../../src/hypervisors/simulated/guest.ts';
import type { SimulationLog } from '../../../src/hypervisors/simulated/log.ts';
import { gotCpuMsAt } from '../../../src/hypervisors/simulated/migrations.ts';
import type { Copy, Guest, State } from '../../../src/hypervisors/simulated/model.ts';
import type { SimulatedFleet } from '../../../src/hypervisors/simulated/simulated-fleet.ts';
import { occupantsOf, roomOf } from '../../../src/planning/snapshot.ts';

export interface Emptied {
  /** Every guest runs elsewhere, once. */
  readonly done: boolean;
  /** From the request to the end of the last migration. */
  readonly makespanMs: number;
  /** CPU time that the guests would have used and did not get. */
  readonly harmCpuMs: number;
  readonly longestDowntimeMs: number;
  readonly sentBytes: number;
}

/** A guest's time at its source. */
interface Left {
  readonly destination: string;
  readonly gotCpuMs: number;
  readonly endedAtMs: number;
  readonly downtimeMs: number;
  readonly sentBytes: number;
}

/** Of one emptying. */
export class Books {
  readonly #fleet: SimulatedFleet;
  readonly #hosts: readonly string[];
  #from: State | null = null;
  #homes: ReadonlyMap<string, string> = new Map();
  readonly #left = new Map<string, Left>();

  constructor(fleet: SimulatedFleet, hosts: readonly string[]) {
    this.#fleet = fleet;
    this.#hosts = hosts;
  }

  /** Call when it is asked for. */
  async open(): Promise<void> {
    const state = await this.#fleet.view();
    this.#from = state;
    this.#homes = new Map(this.#hosts.flatMap((host) => running(state, host).map((vm) => [vm, host])));
  }

  /** The guests to be moved, and where they are. */
  get homes(): ReadonlyMap<string, string> {
    return this.#homes;
  }

  /** Where everyone went. */
  get destinations(): ReadonlyMap<string, string> {
    return new Map([...this.#left].map(([vm, { destination }]) => [vm, destination]));
  }

  /** What is left of a guest at its source is looked at before it goes. */
  watch(log: SimulationLog): SimulationLog {
    return {
      readSince: (index) => log.readSince(index),
      compact: (state) => log.compact(state),
      append: async (command, since) => {
        if (command.kind === 'retire') this.#note(await this.#fleet.view(), command.source, command.vm);
        return log.append(command, since);
      },
    };
  }

  #note(state: State, host: string, vm: string): void {
    const copy = state.hosts[host]?.copies[vm];
    const ended = copy?.lastOutgoing;
    if (copy === undefined || ended?.status !== 'completed' || this.#homes.get(vm) !== host) return;
    this.#left.set(vm, {
      destination: ended.destination,
      gotCpuMs: gotCpuMsAt(state, vm, copy, state.nowMs),
      endedAtMs: ended.endedAtMs,
      downtimeMs: ended.downtimeMs ?? 0,
      sentBytes: ended.transferredBytes,
    });
  }

  /** Call when all is over. */
  async close(): Promise<Emptied> {
    const [from, state] = [this.#from, await this.#fleet.view()];
    if (from === null) throw new Error('the books were never opened');
    const left = [...this.#left.values()];
    const whole = [...this.#homes.keys()].every((vm) => {
      const copies = Object.entries(state.hosts).flatMap(([host, { copies }]) =>
        copies[vm] === undefined ? [] : [{ host, state: copies[vm].state }],
      );
      const [only, ...more] = copies;
      return only?.state === 'running' && !this.#hosts.includes(only.host) && more.length === 0;
    });
    const longest = (of: (one: Left) => number): number => left.reduce((most, one) => Math.max(most, of(one)), 0);
    return {
      done: whole && left.length === this.#homes.size,
      makespanMs: longest(({ endedAtMs }) => endedAtMs) - from.nowMs,
      harmCpuMs: [...this.#homes].reduce((sum, [vm, home]) => sum + this.#harmOf(vm, home, { from, state }), 0),
      longestDowntimeMs: longest(({ downtimeMs }) => downtimeMs),
      sentBytes: left.reduce((sum, { sentBytes }) => sum + sentBytes, 0),
    };
  }

  #harmOf(vm: string, home: string, { from, state }: { readonly from: State; readonly state: State }): number {
    const guest = state.guests[vm];
    const left = this.#left.get(vm);
    if (guest === undefined || left === undefined) return 0;
    const [before, after] = [from.hosts[home]?.copies[vm], state.hosts[left.destination]?.copies[vm]];
    const had = (at: State, copy: Copy | undefined): number =>
      copy === undefined ? 0 : gotCpuMsAt(at, vm, copy, at.nowMs);
    const got = left.gotCpuMs - had(from, before) + had(state, after);
    return demandMs(guest, from.nowMs, state.nowMs) - got;
  }
}

/** What must be sent of a guest over a link of so many bytes/s. */
type Cost = (guest: Guest, bytesPerSec: number) => number;

/** Every page that is in use. */
export const pagesOnce: Cost = ({ touchedBytes }) => touchedBytes;

/** What pre-copy sends of it at the least if it is held at the policy's floor from the first byte on. */
export const heldAtFloor: Cost = ({ touchedBytes, phases }, bytesPerSec) => {
  const [{ dirtyRateBytesPerSec = 0, workingSetBytes = 0 } = {}] = phases;
  const { minCpuShare, maxStallMs } = POLICY_PRESETS.maintenance;
  const perByte = (dirtyRateBytesPerSec * minCpuShare) / bytesPerSec;
  const inOneStall = (bytesPerSec * maxStallMs) / 1_000;
  let sum = touchedBytes;
  for (let left = touchedBytes; left > inOneStall; sum += left) left = Math.min(workingSetBytes, left * perByte);
  return sum;
};

/** No order of moves, no destinations and no rates are quicker. */
export function boundOf(fleet: Fleet, state: State, hosts: readonly string[], cost: Cost): LowerBound {
  const egress = new Map(fleet.hosts.map((host) => [host.name, host.egress]));
  const transfers = hosts.flatMap((source) =>
    running(state, source).map((vm) => {
      const guest = state.guests[vm];
      return { source, destination: null, bytes: guest === undefined ? 0 : cost(guest, egress.get(source) ?? 1) };
    }),
  );
  const roomBytes = Object.fromEntries(
    fleet.hosts.map((host) => {
      const vms = Object.keys(state.hosts[host.name]?.copies ?? {}).map((name) => ({
        name,
        memoryBytes: state.guests[name]?.memoryBytes ?? 0,
        cpus: state.guests[name]?.cpus ?? 0,
        state: 'running' as const,
      }));
      const bare = {
        name: host.name,
        cpus: host.cpus,
        memoryBytes: host.memory,
        cordoned: false,
        vms,
        reservations: [],
        unusable: null,
      };
      return [host.name, Math.max(0, roomOf(bare, occupantsOf(bare), fleet.reserve).memoryBytes)];
    }),
  );
  return makespanLowerBound(transfers, networkOf(fleet), { closed: new Set(hosts), roomBytes });
}

function running(state: State, host: string): string[] {
  return Object.entries(state.hosts[host]?.copies ?? {}).flatMap(([vm, copy]) =>
    copy.state === 'running' ? [vm] : [],
  );
}
