/**
 * The bandwidth budget in one cell that all processes share: every change runs the pure allocation over all entries and
 * lands by compare-and-set, so no two processes ever give the same bytes. An entry stays until `release`: there is no
 * expiry, because a dead worker says nothing about its hypervisor. Not here: the rules (allocate.ts).
 */
import { z } from 'zod';
import { HostevacError } from '../domain/errors.ts';
import type { Fleet } from '../domain/fleet.ts';
import { Cell, type CellChange, type CellStore } from '../store/cell.ts';
import type { Fence } from '../store/lease.ts';
import {
  type AllocationInput,
  allocate,
  canCarry,
  countedBytesPerSec,
  type Entry,
  hasHeadStart,
  hasStarted,
  isNextInTurn,
  waitingBeside,
} from './allocate.ts';
import {
  BUDGET_TOPIC,
  type Budget,
  type Demand,
  type Doubt,
  type Entered,
  type Grant,
  type HostUse,
  type PathRoom,
  type Sent,
} from './budget.ts';
import { preempted } from './preempt.ts';
import {
  capacityOf,
  describeResource,
  keyOf,
  type Network,
  networkOf,
  pathKeysOf,
  pathOf,
  type Resource,
} from './resources.ts';
import { describeWait } from './waiting-for.ts';

const entrySchema = z.object({
  migrationId: z.string(),
  operationId: z.string(),
  // Earlier versions did not write it.
  moveId: z.string().default(''),
  vm: z.string(),
  source: z.string(),
  destination: z.string(),
  tier: z.enum(['evacuation', 'rebalance']),
  order: z.number(),
  usefulBytesPerSec: z.number(),
  maxBytesPerSec: z.number(),
  target: z.number(),
  inForce: z.number(),
  started: z.boolean(),
  overtaken: z.number(),
  headStart: z.boolean().default(false),
  endsSoon: z.boolean().default(false),
});

/** A capacity set by a person in place of the fleet file's. */
const overrideSchema = z.object({ bytesPerSec: z.number().min(0), by: z.string(), atMs: z.number() });
export type CapacityOverride = z.infer<typeof overrideSchema>;
export interface HostOverrides {
  readonly egress: CapacityOverride | null;
  readonly ingress: CapacityOverride | null;
}

const stateSchema = z.object({
  entries: z.record(z.string(), entrySchema),
  /** By `keyOf` the resource. */
  overrides: z.record(z.string(), overrideSchema),
  /** The store's when this was written; empty: an earlier version, or nobody has written yet. */
  generation: z.string().default(''),
  /** Hosts that were heard since the store has another generation; null: there is no doubt. */
  heard: z.array(z.string()).nullable().default(null),
});
type State = z.infer<typeof stateSchema>;

/** A store with nothing in it is taken for a new one. */
const EMPTY: State = { entries: {}, overrides: {}, generation: '', heard: null };

/** No link carries this much. */
const MOST_BYTES_PER_SEC = Number.MAX_SAFE_INTEGER;

export class CellBudget implements Budget {
  readonly #fleet: Fleet;
  readonly #network: Network;
  readonly #cell: Cell<State>;
  /** What was answered last, by migration id: the same demand of the same state has the same answer, and it changes nothing. */
  readonly #answers = new Map<string, { readonly state: State; readonly asked: string; readonly grant: Grant }>();

  /** Many ask of one state, all those that wait for it to change among them. */
  readonly #settledOf = new WeakMap<State, State>();

  constructor(store: CellStore, fleet: Fleet) {
    this.#fleet = fleet;
    this.#network = networkOf(fleet);
    this.#cell = new Cell(store, 'budget', stateSchema, EMPTY, { topic: BUDGET_TOPIC });
  }

  /** Throws `unknownHost` when an end is not in the fleet. Nothing is written when nothing changes. */
  async request(demand: Demand, fence?: Fence): Promise<Grant> {
    for (const host of [demand.source, demand.destination]) {
      if (!Object.hasOwn(this.#network.capacities, host)) {
        const message = `${demand.vm}: the fleet has no host ${host}; there is no bandwidth to grant`;
        throw new HostevacError('unknownHost', message);
      }
    }
    const asked = JSON.stringify(demand);
    return this.#update((state) => {
      fence?.assertHeld();
      const last = this.#answers.get(demand.migrationId);
      if (last?.state === state && last.asked === asked) return { unchanged: true, result: last.grant };
      const outcome = this.#answered(state, demand);
      if ('unchanged' in outcome) this.#answers.set(demand.migrationId, { state, asked, grant: outcome.result });
      return outcome;
    });
  }

  #answered(state: State, demand: Demand): CellChange<State, Grant> {
    const { migrationId } = demand;
    const entry = renewed(state.entries[migrationId], demand, this.#carried(demand), state.heard !== null);
    const next = this.#settled(withEntry(state, entry));
    const settled = next.entries[migrationId] ?? entry;
    // From here on its worker may tell the hypervisor to use this much, also after the target has fallen again.
    const value = withEntry(next, { ...settled, inForce: Math.max(settled.inForce, settled.target) });
    const mine = value.entries[migrationId] ?? settled;
    // In doubt nothing begins.
    const bytesPerSec = state.heard !== null && demand.usesBytesPerSec === null ? 0 : mine.target;
    const input = this.#input(value);
    const waitingFor = bytesPerSec > 0 ? null : (doubtText(state) ?? describeWait(input, mine));
    const isNext = bytesPerSec === 0 && state.heard === null && isNextInTurn(input, mine);
    const beside = waitingBeside(input, mine).filter((other) => canCarry(input, other));
    const grant = {
      bytesPerSec,
      waitingFor,
      isNext,
      givesWayTo: this.#givesWayTo(value, mine),
      othersWait: mine.tier === 'evacuation' && beside.some((other) => other.tier === 'evacuation'),
      isAwaited: beside.some((other) => other.headStart && !hasStarted(other)),
      inDoubt: state.heard !== null,
      isHeadStart: bytesPerSec > 0 && hasHeadStart(mine),
    };
    return changeTo(state, value, grant);
  }

  /**
   * Callers say this after each change of the hypervisor's limit, in the order in which they made them: what is said
   * replaces what was known.
   */
  async inForce(migrationId: string, bytesPerSec: number, fence?: Fence): Promise<void> {
    await this.#update((state) => {
      fence?.assertHeld();
      const entry = state.entries[migrationId];
      if (entry === undefined) return { unchanged: true, result: undefined };
      const inForce = Math.min(Math.max(0, Math.ceil(bytesPerSec)), MOST_BYTES_PER_SEC);
      const entries = { ...state.entries, [migrationId]: { ...entry, inForce, started: entry.started || inForce > 0 } };
      return changeTo(state, this.#settled({ ...state, entries }), undefined);
    });
  }

  async endHeadStart(migrationId: string, fence?: Fence): Promise<void> {
    await this.#update((state) => {
      fence?.assertHeld();
      const entry = state.entries[migrationId];
      if (entry === undefined || !entry.headStart) return { unchanged: true, result: undefined };
      const entries = { ...state.entries, [migrationId]: { ...entry, headStart: false } };
      return changeTo(state, this.#settled({ ...state, entries }), undefined);
    });
  }

  async release(migrationId: string, fence?: Fence): Promise<void> {
    await this.#update((state) => {
      fence?.assertHeld();
      const { [migrationId]: gone, ...entries } = state.entries;
      this.#answers.delete(migrationId);
      if (gone === undefined) return { unchanged: true, result: undefined };
      return changeTo(state, this.#settled({ ...state, entries }), undefined);
    });
  }

  async doubt(): Promise<Doubt | null> {
    return this.#cell.updateGuarded<Doubt | null>((before, generation) => {
      const state = doubted(before, generation);
      const doubt = state.heard === null ? null : { generation, heard: state.heard };
      return state === before ? { unchanged: true, result: doubt } : { value: state, result: doubt };
    });
  }

  async hear(host: string, sent: readonly Sent[], hosts: readonly string[], generation: string): Promise<void> {
    await this.#update((state) => {
      if (state.heard === null || state.generation !== generation) return { unchanged: true, result: undefined };
      const entries = { ...state.entries };
      for (const one of sent) entries[one.migrationId] = entered(entries[one.migrationId], one);
      const heard = [...new Set([...state.heard, host])].sort();
      const all = hosts.every((name) => heard.includes(name));
      return changeTo(state, this.#settled({ ...state, entries, heard: all ? null : heard }), undefined);
    });
  }

  /** As the cell's, on a state that is in doubt when the store may have forgotten some of it. */
  #update<R>(change: (state: State) => CellChange<State, R>): Promise<R> {
    return this.#cell.updateGuarded((before, generation) => {
      const state = doubted(before, generation);
      const outcome = change(state);
      return 'unchanged' in outcome && state !== before ? { value: state, result: outcome.result } : outcome;
    });
  }

  async entries(): Promise<readonly Entered[]> {
    return Object.values((await this.#cell.read()).entries);
  }

  async use(): Promise<readonly HostUse[]> {
    const state = await this.#cell.read();
    const entries = Object.values(state.entries);
    const network = this.#input(state);
    const lane = (host: string, kind: 'egress' | 'ingress', end: 'source' | 'destination'): HostUse['egress'] => ({
      capacity: capacityOf({ kind, host }, network),
      counted: entries
        .filter((entry) => entry[end] === host)
        .reduce((sum, entry) => sum + countedBytesPerSec(entry), 0),
    });
    return this.#fleet.hosts.map(({ name: host }) => ({
      host,
      egress: lane(host, 'egress', 'source'),
      ingress: lane(host, 'ingress', 'destination'),
    }));
  }

  async room(source: string, destination: string): Promise<PathRoom> {
    const state = await this.#cell.read();
    const network = this.#input(state);
    const lanes = pathOf(source, destination, network.links).map((resource) => {
      const capacity = capacityOf(resource, network);
      const used = Object.values(state.entries)
        .filter((entry) => pathKeysOf(entry.source, entry.destination, network.links).includes(keyOf(resource)))
        .reduce((sum, entry) => sum + countedBytesPerSec(entry), 0);
      return { capacity, free: Math.max(0, capacity - used), name: describeResource(resource) };
    });
    const narrowest = lanes.reduce((a, b) => (b.capacity < a.capacity ? b : a));
    return {
      capacity: narrowest.capacity,
      free: Math.min(...lanes.map(({ free }) => free)),
      narrowest: narrowest.name,
    };
  }

  /**
   * Another capacity for a resource from now on, or (null) the fleet file's again. Lower than what runs: targets fall at
   * once, and nothing starts or grows until what is in force fits.
   */
  async override(resource: Resource, override: CapacityOverride | null): Promise<void> {
    await this.overrideAll([[resource, override]]);
  }

  /** Several as one; true when any capacity is another one now. What is as it was stays whose it was. */
  overrideAll(changes: readonly (readonly [Resource, CapacityOverride | null])[]): Promise<boolean> {
    return this.#update<boolean>((state) => {
      const overrides = { ...state.overrides };
      for (const [resource, override] of changes) {
        const key = keyOf(resource);
        if (override === null) delete overrides[key];
        else if (overrides[key]?.bytesPerSec !== override.bytesPerSec) overrides[key] = override;
      }
      const isOther = JSON.stringify(overrides) !== JSON.stringify(state.overrides);
      return isOther
        ? changeTo(state, this.#settled({ ...state, overrides }), true)
        : { unchanged: true, result: false };
    });
  }

  /** What a person has set in place of a host's capacities of the fleet file. */
  async overridesOf(hosts: readonly string[]): Promise<readonly HostOverrides[]> {
    const { overrides } = await this.#cell.read();
    return hosts.map((host) => ({
      egress: overrides[keyOf({ kind: 'egress', host })] ?? null,
      ingress: overrides[keyOf({ kind: 'ingress', host })] ?? null,
    }));
  }

  /** What the path of the fleet file can carry, overrides aside. */
  #carried({ source, destination }: Demand): number {
    const path = pathOf(source, destination, this.#network.links);
    return Math.min(...path.map((resource) => capacityOf(resource, this.#network)));
  }

  #input(state: State): AllocationInput {
    const overrides = Object.entries(state.overrides).map(([key, { bytesPerSec }]) => [key, bytesPerSec] as const);
    return { ...this.#network, overrides: Object.fromEntries(overrides), entries: Object.values(state.entries) };
  }

  #givesWayTo(state: State, { tier, migrationId }: Entry): string | null {
    if (tier !== 'rebalance') return null;
    const other = preempted({ ...this.#input(state), frozen: state.heard !== null }).get(migrationId);
    return other === undefined ? null : `${other.vm} (${other.operationId})`;
  }

  /** The state after an allocation over all entries; the same one where that changes nothing. */
  #settled(state: State): State {
    const known = this.#settledOf.get(state);
    if (known !== undefined) return known;
    const { targets, overtaken } = allocate({ ...this.#input(state), frozen: state.heard !== null });
    let settled = state;
    for (const [id, entry] of Object.entries(state.entries)) {
      const target = targets.get(id) ?? entry.target;
      const next = { ...entry, target, overtaken: overtaken.get(id) ?? entry.overtaken };
      const started = hasStarted(next);
      // Whoever has had a useful rate has had its turn.
      settled = withEntry(settled, { ...next, started, headStart: started ? hasHeadStart(next) : next.headStart });
    }
    this.#settledOf.set(state, settled);
    return settled;
  }
}

/** A store of another generation may have lost what was written last. */
function doubted(state: State, generation: string): State {
  if (state.generation === generation) return state;
  const isNew = state.generation === '' && Object.keys(state.entries).length === 0;
  return { ...state, generation, heard: isNew ? state.heard : [] };
}

function doubtText({ heard }: State): string | null {
  if (heard === null) return null;
  const known = heard.length === 0 ? '' : ` (heard: ${heard.join(', ')})`;
  return `every host to tell what it sends: Redis was restarted or replaced and may have forgotten some of it${known}`;
}

/**
 * Nobody can wait for more than the path can ever carry: a guest that wants more still moves best at that rate. A
 * capacity that a person has lowered for a while is waited for.
 */
function renewed(found: Entry | undefined, demand: Demand, carried: number, inDoubt: boolean): Entry {
  const uses = demand.usesBytesPerSec;
  // Where nothing is sent, what an earlier move had is void: it may have come back with a store that lost its end.
  // So it is in doubt: what it was granted before may have been given up, and to others, in what was forgotten.
  const known = uses === null && (inDoubt || found?.moveId !== demand.moveId) ? undefined : found;
  const inForce = inDoubt && uses !== null ? uses : Math.max(known?.inForce ?? 0, uses ?? 0);
  const useful = Math.min(Math.max(0, demand.usefulBytesPerSec), carried);
  const most = Math.min(Math.max(0, demand.maxBytesPerSec), MOST_BYTES_PER_SEC);
  // Whoever uses a useful rate has had its turn: that its head start has ended is then what was forgotten.
  const isEarly = uses === null || uses < Math.min(useful, most);
  const granted = known?.headStart === true && !isEarly ? uses : known?.target;
  // What it may use may have been given to others since: as long as there is doubt it keeps to what it uses.
  const target = inDoubt && uses !== null ? Math.min(granted ?? uses, uses) : (known?.target ?? 0);
  return {
    ...namesOf(demand),
    usefulBytesPerSec: useful,
    // Also because JSON has no infinity.
    maxBytesPerSec: most,
    target,
    inForce: Math.min(Math.ceil(inForce), MOST_BYTES_PER_SEC),
    started: known?.started ?? false,
    overtaken: known?.overtaken ?? 0,
    headStart: isEarly && (demand.headStart || (known !== undefined && hasStarted(known) && known.headStart)),
    endsSoon: demand.endsSoon,
  };
}

/** In one order, for what is written is compared as text. */
function namesOf(of: Omit<Sent, 'bytesPerSec'>) {
  const { migrationId, operationId, moveId, vm, source, destination, tier, order } = of;
  return { migrationId, operationId, moveId, vm, source, destination, tier, order };
}

/** What a hypervisor sends counts, whoever drives it: that one will say what it asks for. */
function entered(known: Entry | undefined, sent: Sent): Entry {
  const inForce = Math.min(Math.ceil(sent.bytesPerSec), MOST_BYTES_PER_SEC);
  if (known !== undefined) return { ...known, inForce: Math.max(known.inForce, inForce), started: true };
  const rate = { usefulBytesPerSec: inForce, maxBytesPerSec: inForce, target: inForce, inForce };
  return { ...namesOf(sent), ...rate, started: true, overtaken: 0, headStart: false, endsSoon: false };
}

/** With this entry in place of the one it had; the very state where they say the same. */
function withEntry(state: State, entry: Entry): State {
  const { migrationId } = entry;
  const known = Object.hasOwn(state.entries, migrationId) ? state.entries[migrationId] : undefined;
  if (known !== undefined && isSame(known, entry)) return state;
  return { ...state, entries: { ...state.entries, [migrationId]: entry } };
}

const ENTRY_KEYS = entrySchema.keyof().options;

function isSame(one: Entry, other: Entry): boolean {
  return ENTRY_KEYS.every((key) => one[key] === other[key]);
}

/** The same text is no change: an idle tick costs a read, wakes nobody and makes nobody's write conflict. */
function changeTo<R>(before: State, after: State, result: R): CellChange<State, R> {
  if (before === after || JSON.stringify(before) === JSON.stringify(after)) return { unchanged: true, result };
  return { value: after, result };
}
