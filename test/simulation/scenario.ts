/**
 * What happens in one simulated life of a fleet, from a seed: hosts and guests, which processes serve them, what is asked
 * for, and what goes wrong when. Pure; carrying it out is simulation.ts.
 */
import type { NonMigratable } from '../../src/domain/non-migratable.ts';
import type { InjectedFault } from '../../src/hypervisors/simulated/model.ts';
import { type FleetInput, host, vm } from '../support/world.ts';
import { withApproval } from './approval.ts';
import { Random } from './random.ts';
import { withUnmovable } from './unmovable.ts';

export type Act =
  | { readonly kind: 'evacuate'; readonly host: string; readonly terms: Terms }
  | { readonly kind: 'balance'; readonly moves: readonly { vm: string; to: string }[]; readonly terms: Terms }
  /** Of the operations asked for so far, by number. */
  | { readonly kind: 'cancel' | 'pause' | 'pauseNow' | 'resume' | 'approve'; readonly operation: number }
  /** Of the processes started so far, by number. */
  | { readonly kind: 'close'; readonly process: number }
  /** What it asked for in the last moments before may arrive late. */
  | { readonly kind: 'kill'; readonly process: number; readonly badWiresMs: number }
  | { readonly kind: 'stop'; readonly process: number; readonly badWiresMs: number; readonly forMs: number }
  | { readonly kind: 'start'; readonly hosts: readonly string[] }
  | { readonly kind: 'storeAway'; readonly forMs: number }
  /** A failover to a replica that lags: what was written in the last `ms` is gone. */
  | { readonly kind: 'lostWrites'; readonly ms: number }
  | { readonly kind: 'hostSilent'; readonly host: string; readonly forMs: number }
  /** A person lowers what a resource may carry, for a while, again and again. */
  | {
      readonly kind: 'capacity';
      readonly resource: { readonly kind: 'egress' | 'ingress'; readonly host: string };
      readonly part: number;
      readonly forMs: number;
      readonly times: number;
    }
  /** Answers of store and fleet get lost, and come late. */
  | { readonly kind: 'badWires'; readonly process: number; readonly forMs: number; readonly only?: 'fleet' }
  | { readonly kind: 'deliverAgain' }
  | { readonly kind: 'fault'; readonly fault: InjectedFault };

export interface Terms {
  readonly maxTimeMs: number;
  readonly deadlineMs: number | null;
  readonly atDeadline: 'abort' | 'postCopy' | 'forceComplete';
  readonly controller: 'leastHarm' | 'rfc2011';
  readonly minCpuShare: number;
  readonly nonMigratable?: NonMigratable;
  readonly approveFirst?: boolean;
}

export interface Planned {
  readonly atMs: number;
  readonly act: Act;
}

export interface Scenario {
  readonly seed: number;
  readonly fleet: FleetInput;
  /** Hosts of each process that runs from the beginning; all of them take turns of operations. */
  readonly processes: readonly (readonly string[])[];
  readonly acts: readonly Planned[];
  /** VMs whose label and requests together let them be shut down. */
  readonly mayShutDown: ReadonlySet<string>;
}

/** Faults and requests come within that; then all is well again. */
export const TROUBLE_MS = 90_000;

/**
 * Some lives have a plot, for what comes together too rarely by chance. `crowded`: two hosts empty into one that could take
 * more than either sends, and what one of them gives up, again and again, the other may use. `haunted`: a host that is hard
 * to empty, and who does it dies while what it says comes late, so that it arrives after another has taken over.
 */
type Plot = 'crowded' | 'haunted' | 'none';
const PLOTS: readonly Plot[] = ['crowded', 'haunted', ...Array<'none'>(8).fill('none')];

/** The model-based controller costs most of a run's time and has its own tests; it takes part now and then. */
const LEAST_HARM = 0.002;

export function scenarioOf(seed: number): Scenario {
  const random = new Random(seed, 'scenario');
  const plot = random.one(PLOTS);
  const names = ['a', 'b', 'c', 'd'].slice(0, random.whole(plot === 'crowded' ? 3 : 2, 4));
  const guests = Array.from({ length: random.whole(plot === 'crowded' ? 2 : 1, 5) }, (_, index) => `v${index + 1}`);
  const homes = new Map(guests.map((guest) => [guest, random.happens(0.7) ? 'a' : random.one(names)]));
  const rate = () => `${random.whole(50, 400)}MiB/s`;
  const hasLink = random.happens(0.3);
  for (const [index, guest] of guests.entries()) {
    if (plot === 'haunted') homes.set(guest, 'a');
    if (plot === 'crowded') homes.set(guest, index % 2 === 0 ? 'a' : 'c');
  }
  const rates = RATES[plot];
  const fleet: FleetInput = {
    hosts: names.map((name) => {
      const here = guests.filter((guest) => homes.get(guest) === name).map((guest) => guestOf(guest, plot, random));
      const links = hasLink && random.happens(0.7) ? { links: ['rack'] } : {};
      return host(name, here, { egress: rate(), ingress: rate(), ...rates[name], ...links });
    }),
    ...(hasLink ? { links: [{ name: 'rack', capacity: rate(), uplink: seed % 2 === 1 }] } : {}),
    simulation: { seed },
  };
  const processes = random.happens(0.5) ? [names] : names.map((name) => [name]);
  if (plot === 'crowded') processes.splice(0, processes.length, ...names.map((name) => [name]));
  // Somebody is there to take over at once.
  if (plot === 'haunted') processes.splice(0, processes.length, names, names);
  if (random.happens(0.4)) processes.push(names);
  const acts = actsOf(random, plot, { names, guests, homes, processes: processes.length });
  const scenario = { seed, fleet, processes, acts, mayShutDown: new Set<string>() };
  return plot === 'none' ? withApproval(withUnmovable(scenario)) : scenario;
}

const RATES: Readonly<Record<Plot, Readonly<Record<string, { readonly egress?: string; readonly ingress?: string }>>>> =
  {
    crowded: { a: { egress: '150MiB/s' }, b: { ingress: '250MiB/s' }, c: { egress: '200MiB/s' } },
    haunted: { a: { egress: '100MiB/s' } },
    none: {},
  };

/** Small ones are soon so far that they must be throttled. */
const MEMORY_MIB = { crowded: [1_024, 3_072], haunted: [256, 640], none: [128, 3_072] } as const;

function guestOf(name: string, plot: Plot, random: Random) {
  const hot = plot === 'haunted' || random.happens(0.4);
  const [least, most] = MEMORY_MIB[plot];
  const memoryMib = Math.round(random.skewed(least, most));
  return vm(name, {
    memory: `${memoryMib}MiB`,
    dirtyRate: `${hot ? random.whole(plot === 'haunted' ? 400 : 100, 800) : random.whole(0, 40)}MiB/s`,
    workingSet: `${Math.max(1, Math.round(memoryMib * random.between(plot === 'haunted' ? 0.4 : 0.02, 0.6)))}MiB`,
    cpuUse: random.between(0.1, 1),
  });
}

interface Cast {
  readonly names: readonly string[];
  readonly guests: readonly string[];
  readonly homes: ReadonlyMap<string, string>;
  readonly processes: number;
}

function actsOf(random: Random, plot: Plot, cast: Cast): Planned[] {
  const { names, guests, homes } = cast;
  const movesOf = (home: string) =>
    guests.filter((guest) => homes.get(guest) === home).map((guest) => ({ vm: guest, to: 'b' }));
  const first: Act =
    plot === 'crowded'
      ? { kind: 'balance', moves: movesOf('a'), terms: terms(random) }
      : { kind: 'evacuate', host: 'a', terms: { ...terms(random), ...(plot === 'haunted' ? HARD : {}) } };
  const acts: Planned[] = [{ atMs: random.whole(0, 3_000), act: first }];
  if (plot === 'crowded') {
    const second: Act = { kind: 'balance', moves: movesOf('c'), terms: terms(random) };
    acts.push({ atMs: random.whole(5_000, 8_000), act: second });
    const squeezed = { part: random.between(0.2, 0.5), forMs: random.whole(1_000, 4_000), times: 10 };
    const resource = { kind: 'egress', host: 'a' } as const;
    const atMs = random.whole(9_000, 12_000);
    acts.push({ atMs, act: { kind: 'capacity', resource, ...squeezed } });
    // Who is to give up something is heard late.
    acts.push({ atMs, act: { kind: 'badWires', process: 0, forMs: 30_000, only: 'fleet' } });
  }
  let operations = acts.length;
  let processes = cast.processes;
  if (plot === 'haunted') {
    const firstMs = random.whole(8_000, 20_000);
    // Whichever of the two drives the first migration.
    for (const process of [0, 1]) {
      const atMs = firstMs + process * 20_000;
      // One that is asked to end lifts its throttle: an order that counts whenever it arrives.
      const asked = random.happens(0.3);
      acts.push({ atMs: atMs - 4_000, act: { kind: 'badWires', process, forMs: 9_000, only: 'fleet' } });
      acts.push({ atMs, act: asked ? { kind: 'close', process } : { kind: 'kill', process, badWiresMs: 0 } });
      acts.push({ atMs: atMs + 10_000, act: { kind: 'start', hosts: names } });
      processes += 1;
    }
  }
  /** Most of it while the first migrations run. */
  const at = (): number => Math.round(random.skewed(1_000, TROUBLE_MS));
  for (let left = random.whole(0, 2); left > 0; left -= 1) {
    const guest = random.one(guests);
    const to = random.one(names.filter((name) => name !== homes.get(guest)));
    acts.push({ atMs: at(), act: { kind: 'balance', moves: [{ vm: guest, to }], terms: terms(random) } });
    operations += 1;
  }
  if (random.happens(0.2)) {
    acts.push({ atMs: at(), act: { kind: 'evacuate', host: random.one(names), terms: terms(random) } });
    operations += 1;
  }
  for (let left = random.whole(0, 8); left > 0; left -= 1) {
    const act = troubleOf(random, { ...cast, operations, processes });
    const atMs = at();
    acts.push({ atMs, act });
    // What was killed comes back some time, as a supervisor would do it.
    if (act.kind === 'kill' || act.kind === 'close') {
      acts.push({ atMs: atMs + random.whole(500, 30_000), act: { kind: 'start', hosts: names } });
      processes += 1;
    }
    if (act.kind === 'pause' || act.kind === 'pauseNow')
      acts.push({ atMs: atMs + random.whole(500, 30_000), act: { kind: 'resume', operation: act.operation } });
  }
  return acts.sort((one, other) => one.atMs - other.atMs);
}

/** So that it is throttled for as long as it is tried. */
const HARD: Partial<Terms> = { maxTimeMs: 50_000, deadlineMs: null, atDeadline: 'abort', minCpuShare: 0.3 };

function terms(random: Random): Terms {
  return {
    maxTimeMs: random.happens(0.3) ? random.whole(5_000, 40_000) : 200_000,
    deadlineMs: random.happens(0.15) ? random.whole(5_000, 120_000) : null,
    atDeadline: random.one(['abort', 'abort', 'postCopy', 'forceComplete'] as const),
    controller: random.happens(LEAST_HARM) ? 'leastHarm' : 'rfc2011',
    minCpuShare: random.one([0, 0.05, 0.1, 0.3]),
  };
}

function troubleOf(random: Random, cast: Cast & { readonly operations: number }): Act {
  const { names, guests } = cast;
  const process = random.whole(0, cast.processes - 1);
  const operation = random.whole(0, cast.operations - 1);
  const forMs = Math.round(random.skewed(200, 40_000));
  const name = random.one(names);
  const other = random.one(names.filter((one) => one !== name));
  const kinds: readonly (() => Act)[] = [
    () => ({ kind: 'kill', process, badWiresMs: 0 }),
    () => ({ kind: 'kill', process, badWiresMs: random.whole(200, 3_000) }),
    () => ({ kind: 'stop', process, badWiresMs: 0, forMs }),
    () => ({ kind: 'stop', process, badWiresMs: random.whole(200, 3_000), forMs }),
    () => ({ kind: 'close', process }),
    () => ({ kind: 'storeAway', forMs }),
    () => ({ kind: 'hostSilent', host: name, forMs }),
    () => ({ kind: 'badWires', process, forMs }),
    () => ({ kind: 'badWires', process, forMs }),
    () => ({ kind: 'deliverAgain' }),
    () => ({
      kind: 'capacity',
      resource: { kind: random.one(['egress', 'ingress'] as const), host: name },
      part: random.between(0.1, 0.9),
      forMs,
      times: forMs < 3_000 ? 10 : 1,
    }),
    () => ({ kind: random.one(['cancel', 'pause', 'pauseNow'] as const), operation }),
    () => ({ kind: 'fault', fault: { kind: 'linkCut', from: name, to: other, durationMs: forMs } }),
    () => ({ kind: 'fault', fault: { kind: 'hypervisorError', vm: random.one(guests) } }),
    () => ({ kind: 'fault', fault: { kind: 'hostDies', host: name } }),
    () => ({ kind: 'lostWrites', ms: Math.round(random.skewed(50, 3_000)) }),
    () => ({ kind: 'fault', fault: { kind: 'stuckProgress', vm: random.one(guests), durationMs: forMs } }),
  ];
  return random.one(kinds)();
}
