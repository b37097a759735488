/**
 * Placement: a destination for each VM that must move, or the reason why there is none. Pure; the same snapshot gives
 * the same plan whatever the order of its parts. Not here: the order of the moves (schedule.ts), what to move
 * (evacuation.ts, balancing.ts), claiming what was planned (store/claims.ts).
 *
 * The packing is best fit decreasing over memory and CPU: the largest VM first, each to the feasible host on which it
 * leaves least. That keeps large holes for large VMs. vCPUs count one to one against a host's `cpus`. Where the network is
 * known, only hosts count whose links have time for it before the plan would end anyway (what leaves a source takes as
 * long as it takes), of these the ones behind the fewest shared links; and where there is none, the one that delays the
 * end least. Packing is NP-hard, and best fit may strand a VM where another packing holds all; so when it strands one that
 * would fit alone, a bounded number of other orders is tried and the one that places most is taken (TRIALS below). It may
 * still miss a packing that exists; it never makes one that does not hold.
 */
import type { Network } from '../bandwidth/resources.ts';
import type { Reason } from '../domain/errors.ts';
import type { FleetRule } from '../domain/fleet.ts';
import { Bin, type PlacementTask, type RuledTask, withRules } from './bins.ts';
import { BusyLinks, type Load } from './busy-links.ts';
import { pinOf } from './constraints.ts';
import { describe, noHostReason, type Refusal, wantedReason } from './refusal.ts';
import { byName, type PlanningHost, type Reserve, type Size } from './snapshot.ts';
import { type Narrowed, Timing } from './timing.ts';
import { Outlook } from './waiting.ts';

export type { PlacementTask } from './bins.ts';

export interface PlacementInput {
  readonly hosts: readonly PlanningHost[];
  readonly rules: readonly FleetRule[];
  readonly reserve: Reserve;
  readonly tasks: readonly PlacementTask[];
  /** What lies between the hosts, and what is on its way there already; without: nothing is known of it. */
  readonly network?: { readonly links: Network; readonly loads: readonly Load[] };
  /** The planning operation: its own reservations are not "another operation in the way". */
  readonly operationId?: string;
}

export interface Placed {
  readonly vm: string;
  readonly source: string;
  readonly destination: string;
  /** Why there, for people. */
  readonly why: string;
}

export interface Unplaced {
  readonly vm: string;
  readonly reason: Reason;
  /** Other operations whose reservations stand in the way; without them it would fit. Empty: waiting for them is no help. */
  readonly waitsFor: readonly string[];
  /** VMs of this plan or operation that are to leave a host on which it would then fit. */
  readonly waitsForVms: readonly string[];
  /** Hosts that are unusable now and would take it as far as is known. */
  readonly waitsForHosts: readonly string[];
}

/** Both lists are ordered by VM name. */
export interface Placement {
  readonly placed: readonly Placed[];
  readonly unplaced: readonly Unplaced[];
}

/** How often the VMs that a trial stranded are put first and packed again. */
const REPAIR_ROUNDS = 4;

export function place({ hosts, rules, reserve, tasks, network, operationId }: PlacementInput): Placement {
  const base = [...hosts].sort((a, b) => byName(a.name, b.name)).map((host) => Bin.of(host, reserve));
  const { once, again } = withoutRepeats([...tasks].sort(canonically).map((task) => withRules(task, rules)));

  // A plan only takes room, so what does not fit the bare snapshot fits no packing: it must not steer the trials.
  const hopeful = once.filter((task) => base.some((bin) => isCandidate(bin, task) && bin.obstacle(task) === null));
  const best = pack(hopeful, base, network === undefined ? null : new BusyLinks(network.links, network.loads));

  const placed = best.placed.map(({ task, bin, why }) => ({
    vm: task.vm,
    source: task.source,
    destination: bin.host.name,
    why,
  }));
  const placedVms = new Set(placed.map(({ vm }) => vm));
  const outlook = new Outlook(best.bins, placed, operationId ?? null);
  const unplaced = once
    .filter(({ vm }) => !placedVms.has(vm))
    .map((task) => ({
      vm: task.vm,
      reason: reasonFor(task, best.bins, reserve),
      ...outlook.of(task),
    }));
  const repeated = again.map(({ vm }) => ({
    vm,
    reason: { code: 'badInput', message: `${vm} is named twice in one plan; name it once` } as const,
    waitsFor: [],
    waitsForVms: [],
    waitsForHosts: [],
  }));
  return {
    placed: placed.sort((a, b) => byName(a.vm, b.vm)),
    unplaced: [...unplaced, ...repeated].sort((a, b) => byName(a.vm, b.vm)),
  };
}

interface Choice {
  readonly task: RuledTask;
  readonly bin: Bin;
  readonly why: string;
}

interface Packing {
  readonly bins: readonly Bin[];
  readonly placed: readonly Choice[];
  readonly stranded: readonly RuledTask[];
  /** How many had to go to a host that failed them before. */
  readonly fallbacks: number;
}

/** Who is stranded by an eye to the network may fit without: placing more goes before ending sooner. */
function pack(tasks: readonly RuledTask[], base: readonly Bin[], busy: BusyLinks | null): Packing {
  const best = packWith(tasks, base, busy);
  if (busy === null || isPerfect(best)) return best;
  const blind = packWith(tasks, base, null);
  return isBetter(blind, best) ? blind : best;
}

/** The best of a bounded number of trials; the first one when it strands nobody, as nearly always. */
function packWith(tasks: readonly RuledTask[], base: readonly Bin[], busy: BusyLinks | null): Packing {
  let best: Packing | null = null;
  const attempt = (order: readonly RuledTask[]): boolean => {
    const packing = packInOrder(order, base, busy);
    if (best === null || isBetter(packing, best)) best = packing;
    return isPerfect(best);
  };
  for (const order of ordersOf(tasks, base)) {
    if (attempt(order)) break;
  }
  for (let round = 0; round < REPAIR_ROUNDS && best !== null; round += 1) {
    const { stranded, placed }: Packing = best;
    if (stranded.length === 0) break;
    if (attempt([...stranded, ...placed.map(({ task }) => task)])) break;
  }
  return best ?? { bins: base, placed: [], stranded: [], fallbacks: 0 };
}

function isPerfect({ stranded, fallbacks }: Packing): boolean {
  return stranded.length === 0 && fallbacks === 0;
}

function isBetter(one: Packing, other: Packing): boolean {
  if (one.stranded.length !== other.stranded.length) return one.stranded.length < other.stranded.length;
  return one.fallbacks < other.fallbacks;
}

/**
 * TRIALS: by the sum of both shares, by memory, by CPU, by how few hosts may take it. Those with one possible host go
 * first in each: nobody else can give way for them.
 */
function ordersOf(tasks: readonly RuledTask[], base: readonly Bin[]): RuledTask[][] {
  const largest = largestOf(base);
  const candidates = new Map(
    tasks.map((task) => [task.vm, base.filter((bin) => isCandidate(bin, task) && bin.obstacle(task) === null).length]),
  );
  const bound = (task: RuledTask): number => (task.wanted !== null ? 0 : pinOf(task.vm, task.rules) !== null ? 1 : 2);
  const sum = (task: RuledTask): number => task.memoryBytes / largest.memoryBytes + task.cpus / largest.cpus;
  const keys: ((task: RuledTask) => number)[] = [
    sum,
    (task) => task.memoryBytes,
    (task) => task.cpus,
    (task) => -(candidates.get(task.vm) ?? 0),
  ];
  return keys.map((key) =>
    [...tasks].sort((a, b) => bound(a) - bound(b) || key(b) - key(a) || sum(b) - sum(a) || byName(a.vm, b.vm)),
  );
}

function packInOrder(order: readonly RuledTask[], base: readonly Bin[], busy: BusyLinks | null): Packing {
  const bins = base.map((bin) => bin.fresh());
  const time = busy === null ? null : new Timing(order, busy.copy());
  const largest = largestOf(base);
  const placed: Choice[] = [];
  const stranded: RuledTask[] = [];
  let fallbacks = 0;
  for (const task of order) {
    const fitting = bins.filter((bin) => isCandidate(bin, task) && bin.obstacle(task) === null);
    const untried = fitting.filter((bin) => !task.avoid.includes(bin.host.name));
    const open = untried.length > 0 ? untried : fitting;
    const narrowed: Narrowed = time?.narrow(task, open) ?? { bins: open, because: null };
    const bin = leastLeft(narrowed.bins, task, largest);
    if (bin === null) {
      stranded.push(task);
      continue;
    }
    bin.take(task);
    time?.take(task, bin);
    if (untried.length === 0) fallbacks += 1;
    placed.push({ task, bin, why: whyThere(task, bin, untried.length, narrowed) });
  }
  return { bins, placed, stranded, fallbacks };
}

/**
 * The score of a host: what stays free there, memory as a share of the fleet's largest memory plus CPUs as a share of
 * its largest count. Shares of the host's own size would call half of a small host the same hole as half of a large one.
 */
function leastLeft(bins: readonly Bin[], task: RuledTask, largest: Size): Bin | null {
  let best: Bin | null = null;
  let least = Number.POSITIVE_INFINITY;
  for (const bin of bins) {
    const free = bin.freeFor(task.vm);
    const left = (free.memoryBytes - task.memoryBytes) / largest.memoryBytes + (free.cpus - task.cpus) / largest.cpus;
    // Bins come ordered by name, so the first of equals is the first by name.
    if (left < least) {
      best = bin;
      least = left;
    }
  }
  return best;
}

function whyThere(task: RuledTask, bin: Bin, untried: number, { bins, because }: Narrowed): string {
  const left = `leaves ${describe(bin.room)} free`;
  if (task.wanted !== null) return `asked for; ${left}`;
  if (untried === 0) return `failed before, but no other host fits; ${left}`;
  if (untried === 1) return `the only host that fits; ${left}`;
  return `${best(bins.length, untried, because)}; ${left}`;
}

function best(among: number, of: number, because: Narrowed['because']): string {
  switch (because) {
    case 'inTime':
      return `best fit of those ${among} of ${of} hosts to which the way is free`;
    case 'near':
      return `best fit of those ${among} of ${of} hosts that are reached over the fewest shared links`;
    case 'soonest':
      return `of ${of} hosts the way to this one is free soonest`;
    case null:
      return `best fit of ${of} hosts`;
  }
}

function reasonFor(task: RuledTask, bins: readonly Bin[], reserve: Reserve): Reason {
  const { vm, source, wanted } = task;
  if (wanted !== null) {
    if (wanted === source) return { code: 'noDestination', message: `${vm} is on ${source} already` };
    const bin = bins.find(({ host }) => host.name === wanted);
    if (bin === undefined) return { code: 'unknownHost', message: `${vm}: the fleet has no host ${wanted}` };
    const refusal = bin.refusal(task);
    if (refusal !== null) return wantedReason(task, refusal, bin.freeFor(vm), reserve);
  }
  const refusals: Refusal[] = [];
  for (const bin of bins) {
    if (bin.host.name === source) continue;
    const refusal = bin.refusal(task);
    if (refusal !== null) refusals.push(refusal);
  }
  return noHostReason(task, task.rules, refusals);
}

function isCandidate(bin: Bin, task: RuledTask): boolean {
  const { name } = bin.host;
  return name !== task.source && (task.wanted === null || task.wanted === name);
}

function largestOf(bins: readonly Bin[]): Size {
  // 1 and not 0 for an empty fleet: nothing may divide by it.
  return {
    memoryBytes: bins.reduce((most, { host }) => Math.max(most, host.memoryBytes), 1),
    cpus: bins.reduce((most, { host }) => Math.max(most, host.cpus), 1),
  };
}

/** A total order that does not depend on how the caller listed the tasks. */
function canonically(a: PlacementTask, b: PlacementTask): number {
  return (
    byName(a.vm, b.vm) ||
    byName(a.source, b.source) ||
    byName(a.wanted ?? '', b.wanted ?? '') ||
    a.memoryBytes - b.memoryBytes ||
    a.cpus - b.cpus ||
    (a.touchedBytes ?? 0) - (b.touchedBytes ?? 0) ||
    byName(a.avoid.join('\n'), b.avoid.join('\n'))
  );
}

/** The caller refuses a VM named twice; if one slips through, one plan must still not move it twice. */
function withoutRepeats(tasks: readonly RuledTask[]): { once: RuledTask[]; again: RuledTask[] } {
  const seen = new Set<string>();
  const once: RuledTask[] = [];
  const again: RuledTask[] = [];
  for (const task of tasks) {
    (seen.has(task.vm) ? again : once).push(task);
    seen.add(task.vm);
  }
  return { once, again };
}
