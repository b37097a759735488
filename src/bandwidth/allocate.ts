/**
 * The bandwidth allocation, pure: who may send how fast, given capacities and everyone's demand. Not here: where the
 * entries are kept and who is told (cell-budget.ts), or what a useful rate is (convergence).
 *
 * The rules, in the order of rank (tier, then order, then id):
 *
 * 1. Never over. An entry counts as `max(target, inForce)` on every resource of its path, and no target grows, and none
 *    starts, beyond what is left. Targets fall only where a capacity or the entry's own maximum has fallen; the bytes
 *    that are given up stay counted until `inForce` falls, that is, until the hypervisor is known to use less.
 * 2. Full rate to few. A waiting entry starts when its whole path can give it a useful rate, and then gets all it can
 *    use; a started one grows into what is free. Both in rank, so the first of a host fills the link and the rest wait:
 *    N migrations at B/N each re-dirty N times longer (Kherbache et al., mVM).
 * 3. No idling behind a busy path. An entry that cannot start holds what is free on the resources that are too short
 *    for it, so that they add up to what it needs; what it could have elsewhere, later ones may use.
 * 4. No starvation. Rule 3 lets later ones keep busy in turn the two ends that the waiting one needs at once. So after
 *    `PATIENCE` of them have started at its cost it holds a useful rate on the whole of its path. Idling begins only
 *    there, and only for as long as the migrations that run take to end.
 * 5. Never to 0. QEMU reads `max-bandwidth: 0` as unlimited, so a started entry keeps a floor however small the capacity
 *    has become.
 * 6. Hand over without a gap. One that could begin at once does so (`headStart`) with the little that is free when those that
 *    run on its path are about to end (`endsSoon`, and they step back by `HEAD_START_BYTES_PER_SEC`) and what they give up
 *    will be enough: it connects while they end. What is given up is its own before anybody else's.
 *
 * An evacuation goes before rebalances in starting; those that run are asked to end for it (preempt.ts).
 */
import type { Entered } from './budget.ts';
import { capacityOf, keyOf, type Network, pathKeysOf, pathOf, type Resource } from './resources.ts';

export interface Entry extends Entered {
  /** What it may use, bytes/s; 0 while it waits. */
  readonly target: number;
  /** The most that its hypervisor may be using, or be told to use next. */
  readonly inForce: number;
  readonly started: boolean;
  /** How many later ones have started at its cost while it waited. */
  readonly overtaken: number;
}

export interface AllocationInput extends Network {
  readonly entries: readonly Entry[];
  /** Nothing starts or grows: there may be more than these. */
  readonly frozen?: boolean;
}

export interface Allocation {
  /** By migration id: bytes/s, whole; 0: wait. */
  readonly targets: ReadonlyMap<string, number>;
  /** By migration id; only grows while an entry waits. */
  readonly overtaken: ReadonlyMap<string, number>;
}

/** Later ones that may start at the cost of a waiting one. Larger: less idling, longer waits for awkward paths. */
export const PATIENCE = 4;

/** What a started entry keeps when capacity falls, unless even that, times those on the resource, is too much. */
export const FLOOR_BYTES_PER_SEC = 2 ** 20;

/** What one begins with before its bandwidth is free: enough to connect. */
export const HEAD_START_BYTES_PER_SEC = 2 ** 19;

/** Start order: evacuations before rebalances, then `order`, then id. */
export function byRank(a: Entered, b: Entered): number {
  if (a.tier !== b.tier) return a.tier === 'evacuation' ? -1 : 1;
  return a.order - b.order || (a.migrationId < b.migrationId ? -1 : a.migrationId > b.migrationId ? 1 : 0);
}

/** Something is or may be running for it: whoever uses bytes has started, whatever the record says. */
export function hasStarted(entry: Entry): boolean {
  return entry.started || entry.target > 0 || entry.inForce > 0;
}

/**
 * Of all that wait for something on its path it is the first, and its path can carry it: what is freed there next is its
 * own, unless one of higher rank comes.
 */
export function isNextInTurn(input: AllocationInput, entry: Entry): boolean {
  return !hasStarted(entry) && canCarry(input, entry) && !aheadOf(input, entry).some((other) => canCarry(input, other));
}

/** Those that wait for something on its path and go before it, in rank. */
export function aheadOf(input: AllocationInput, entry: Entry): Entry[] {
  const ahead = input.entries.filter((other) => byRank(other, entry) < 0);
  return waitingBeside({ ...input, entries: ahead }, entry).sort(byRank);
}

/** Others that wait for something on its path. */
export function waitingBeside(input: AllocationInput, entry: Entry): Entry[] {
  const keysOf = ({ source, destination }: Entry): readonly string[] => pathKeysOf(source, destination, input.links);
  const keys = keysOf(entry);
  return input.entries.filter(
    (other) =>
      stillWaits(other) && other.migrationId !== entry.migrationId && keysOf(other).some((key) => keys.includes(key)),
  );
}

/** Its path could carry what it needs, if it were free. */
export function canCarry(input: AllocationInput, entry: Entry): boolean {
  const path = pathOf(entry.source, entry.destination, input.links);
  return path.every((resource) => capacityOf(resource, input) >= neededBytesPerSec(entry));
}

/** What a waiting one needs on each resource of its path, whole bytes/s. */
export function neededBytesPerSec(demand: Entered): number {
  return Math.max(1, Math.min(Math.ceil(demand.usefulBytesPerSec), mostBytesPerSec(demand)));
}

/** It has begun with less than it needs, in expectation of what others are about to give up. */
export function hasHeadStart(entry: Entry): boolean {
  return entry.headStart && hasStarted(entry) && entry.target < neededBytesPerSec(entry);
}

/** For bandwidth: it has none, or not yet what it needs. */
export function stillWaits(entry: Entry): boolean {
  return !hasStarted(entry) || hasHeadStart(entry);
}

/** What an entry takes of each resource of its path, bytes/s: what it may use, or may still be using. */
export function countedBytesPerSec({ target, inForce }: Pick<Entry, 'target' | 'inForce'>): number {
  return Math.max(target, Math.ceil(inForce));
}

function mostBytesPerSec(demand: Entered): number {
  return Math.max(1, Math.floor(demand.maxBytesPerSec));
}

/** A second run on its own outcome changes nothing. */
export function allocate(input: AllocationInput): Allocation {
  const table = new Table(input);
  const flows = [...input.entries].sort(byRank).map((entry) => table.enter(entry));
  shrink(flows);
  for (const flow of flows) for (const lane of flow.lanes) lane.counted += countedOf(flow);
  if (input.frozen === true) return outcomeOf(flows);
  for (const flow of flows) for (const lane of flow.lanes) lane.ending += endingOf(flow);
  const early = flows.filter(hasBegunEarly);
  for (const flow of early) grow(flow, flow.needed);
  const waiting = early.filter((flow) => hasBegunEarly(flow) && fits(flow));
  for (const flow of waiting) hold(flow);
  for (const flow of flows) {
    if (flow.target > 0) {
      grow(flow);
    } else if (start(flow)) {
      if (countOvertaken(flow, waiting)) holdAgain(waiting);
    } else if (fits(flow)) {
      waiting.push(flow);
      hold(flow);
    }
    // else: no release would ever let it start. It holds nothing, and `waitingFor` says so.
  }
  return outcomeOf(flows);
}

function outcomeOf(flows: readonly Flow[]): Allocation {
  return {
    targets: new Map(flows.map(({ entry, target }) => [entry.migrationId, target])),
    overtaken: new Map(flows.map(({ entry, overtaken }) => [entry.migrationId, overtaken])),
  };
}

/** One resource while an allocation is being made. */
interface Lane {
  readonly capacity: number;
  /** Started entries on it. */
  running: number;
  /** Sum of their targets. */
  targets: number;
  /** Sum of `max(target, inForce)`. */
  counted: number;
  /** Of what counts, what is about to be given up, less what those with a head start wait for. */
  ending: number;
  /** Set aside for waiting entries of higher rank than the one being looked at. */
  held: number;
}

/** One entry while an allocation is being made. */
interface Flow {
  readonly entry: Entry;
  readonly lanes: readonly Lane[];
  readonly needed: number;
  readonly most: number;
  target: number;
  overtaken: number;
}

class Table {
  readonly #network: Network;
  readonly #lanes = new Map<string, Lane>();

  constructor(network: Network) {
    this.#network = network;
  }

  enter(entry: Entry): Flow {
    const lanes = pathOf(entry.source, entry.destination, this.#network.links).map((resource) => this.#lane(resource));
    const most = mostBytesPerSec(entry);
    // One that is adopted (it sends, but has no target) keeps what it uses.
    const kept = entry.target > 0 ? entry.target : entry.inForce;
    const target = hasStarted(entry) ? Math.max(1, Math.min(Math.floor(kept), most)) : 0;
    if (target > 0) {
      for (const lane of lanes) {
        lane.running += 1;
        lane.targets += target;
      }
    }
    return { entry, lanes, needed: neededBytesPerSec(entry), most, target, overtaken: entry.overtaken };
  }

  #lane(resource: Resource): Lane {
    const key = keyOf(resource);
    const known = this.#lanes.get(key);
    if (known !== undefined) return known;
    const capacity = capacityOf(resource, this.#network);
    const lane: Lane = { capacity, running: 0, targets: 0, counted: 0, ending: 0, held: 0 };
    this.#lanes.set(key, lane);
    return lane;
  }
}

function countedOf(flow: Flow): number {
  return countedBytesPerSec({ target: flow.target, inForce: flow.entry.inForce });
}

/** Where capacity fell below what runs: the last of rank gives first, down to the floor. */
function shrink(flows: readonly Flow[]): void {
  for (const flow of [...flows].reverse()) {
    if (flow.target === 0) continue;
    const excess = Math.max(...flow.lanes.map((lane) => lane.targets - lane.capacity));
    const share = Math.min(...flow.lanes.map((lane) => Math.floor(lane.capacity / lane.running)));
    const floor = Math.max(1, Math.min(FLOOR_BYTES_PER_SEC, share));
    const cut = Math.min(excess, flow.target - floor);
    if (cut <= 0) continue;
    flow.target -= cut;
    for (const lane of flow.lanes) lane.targets -= cut;
  }
}

/** Its path could carry what it needs. */
function fits(flow: Flow): boolean {
  return flow.lanes.every((lane) => lane.capacity >= flow.needed);
}

function freeFor(flow: Flow): number {
  return Math.min(...flow.lanes.map((lane) => lane.capacity - lane.counted - lane.held));
}

function raise(flow: Flow, target: number): void {
  const [counted, ending] = [countedOf(flow), endingOf(flow)];
  flow.target = target;
  for (const lane of flow.lanes) {
    lane.counted += countedOf(flow) - counted;
    lane.ending += endingOf(flow) - ending;
  }
}

function grow(flow: Flow, most = flow.most): void {
  // What it uses itself is its own, also where its target has fallen and the hypervisor has not followed yet.
  const target = Math.min(most, countedOf(flow) + freeFor(flow));
  if (target > flow.target) raise(flow, target);
}

function start(flow: Flow): boolean {
  const free = freeFor(flow);
  if (free < flow.needed && !mayHaveHeadStart(flow, free)) return false;
  raise(flow, Math.min(flow.most, free));
  return true;
}

/** Rule 6. Nothing on its path is held for others, which come first. */
function mayHaveHeadStart(flow: Flow, free: number): boolean {
  if (!flow.entry.headStart || free < Math.min(HEAD_START_BYTES_PER_SEC, flow.needed)) return false;
  return flow.lanes.every((lane) => lane.held === 0 && lane.capacity - lane.counted + lane.ending >= flow.needed);
}

function hasBegunEarly({ entry, target, needed }: Flow): boolean {
  return entry.headStart && target > 0 && target < needed;
}

/** What a flow that has begun is about to give up; negative: what it waits for beside what it has. */
function endingOf(flow: Flow): number {
  if (flow.target === 0) return 0;
  if (hasBegunEarly(flow)) return countedOf(flow) - flow.needed;
  return flow.entry.endsSoon ? countedOf(flow) : 0;
}

/** Rules 3, 4 and 6: what a waiting entry keeps from those behind it. One with a head start has been promised the rest. */
function hold(flow: Flow): void {
  const missing = flow.target > 0 ? flow.needed - countedOf(flow) : flow.needed;
  for (const lane of flow.lanes) {
    const free = Math.max(0, lane.capacity - lane.counted - lane.held);
    if (free < missing) lane.held += free;
    else if (flow.target > 0 || flow.overtaken >= PATIENCE) lane.held += Math.max(0, missing);
  }
}

/** True when somebody's patience ended. At its cost: it could have had a lane of its path, and no longer can. */
function countOvertaken(starter: Flow, waiting: readonly Flow[]): boolean {
  let ended = false;
  for (const flow of waiting.filter(({ target }) => target === 0)) {
    const lost = flow.lanes.some((lane) => {
      const free = lane.capacity - lane.counted;
      return starter.lanes.includes(lane) && free < flow.needed && free + starter.target >= flow.needed;
    });
    if (!lost) continue;
    flow.overtaken += 1;
    ended ||= flow.overtaken === PATIENCE;
  }
  return ended;
}

function holdAgain(waiting: readonly Flow[]): void {
  for (const flow of waiting) for (const lane of flow.lanes) lane.held = 0;
  for (const flow of waiting) hold(flow);
}
