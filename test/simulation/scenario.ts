/**
 * What happens in one simulated life of a fleet, from a seed: hosts and guests, which processes serve them, what is asked
 * for, and what goes wrong when. Pure; carrying it out is simulation.ts.
 */
import type { InjectedFault } from '../../src/hypervisors/simulated/model.ts';
import { type FleetInput, host, vm } from '../support/world.ts';
import { Random } from './random.ts';

export type Act =
  | { readonly kind: 'evacuate'; readonly host: string; readonly terms: Terms }
  | { readonly kind: 'balance'; readonly moves: readonly { vm: string; to: string }[]; readonly terms: Terms }
  /** Of the operations asked for so far, by number. */
  | { readonly kind: 'cancel' | 'pause' | 'pauseNow' | 'resume'; readonly operation: number }
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
  | { readonly kind: 'badWires'; readonly process: number; readonly forMs: number }
  | { readonly kind: 'deliverAgain' }
  | { readonly kind: 'fault'; readonly fault: InjectedFault };

export interface Terms {
  readonly maxTimeMs: number;
  readonly deadlineMs: number | null;
  readonly atDeadline: 'abort' | 'postCopy' | 'forceComplete';
  readonly controller: 'leastHarm' | 'rfc2011';
  readonly minCpuShare: number;
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
}

/** Faults and requests come within that; then all is well again. */
export const TROUBLE_MS = 90_000;

/** The model-based controller costs most of a run's time and has its own tests; it takes part now and then. */
const LEAST_HARM = 0.002;

export function scenarioOf(seed: number): Scenario {
  const random = new Random(seed, 'scenario');
  const names = ['a', 'b', 'c', 'd'].slice(0, random.whole(2, 4));
  const guests = Array.from({ length: random.whole(1, 5) }, (_, index) => `v${index + 1}`);
  const homes = new Map(guests.map((guest) => [guest, random.happens(0.7) ? 'a' : random.one(names)]));
  const rate = () => `${random.whole(50, 400)}MiB/s`;
  const hasLink = random.happens(0.3);
  const fleet: FleetInput = {
    hosts: names.map((name) => {
      const here = guests.filter((guest) => homes.get(guest) === name).map((guest) => guestOf(guest, random));
      const links = hasLink && random.happens(0.7) ? { links: ['rack'] } : {};
      return host(name, here, { egress: rate(), ingress: rate(), ...links });
    }),
    ...(hasLink ? { links: [{ name: 'rack', capacity: rate() }] } : {}),
    simulation: { seed },
  };
  const processes = random.happens(0.5) ? [names] : names.map((name) => [name]);
  if (random.happens(0.4)) processes.push(names);
  const acts = actsOf(random, { names, guests, homes, processes: processes.length });
  return { seed, fleet, processes, acts };
}

function guestOf(name: string, random: Random) {
  const hot = random.happens(0.4);
  const memoryMib = Math.round(random.skewed(128, 3_072));
  return vm(name, {
    memory: `${memoryMib}MiB`,
    dirtyRate: `${hot ? random.whole(100, 800) : random.whole(0, 40)}MiB/s`,
    workingSet: `${Math.max(1, Math.round(memoryMib * random.between(0.02, 0.6)))}MiB`,
    cpuUse: random.between(0.1, 1),
  });
}

interface Cast {
  readonly names: readonly string[];
  readonly guests: readonly string[];
  readonly homes: ReadonlyMap<string, string>;
  readonly processes: number;
}

function actsOf(random: Random, cast: Cast): Planned[] {
  const { names, guests, homes } = cast;
  const acts: Planned[] = [
    { atMs: random.whole(0, 3_000), act: { kind: 'evacuate', host: 'a', terms: terms(random) } },
  ];
  let operations = 1;
  let processes = cast.processes;
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
