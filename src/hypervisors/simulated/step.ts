/**
 * The pure heart of the simulation: the state at a time from fleet file, log and clock. Time moves from event to event
 * (a pass ends, a phase changes, a throttle lifts itself, a fault strikes, a link heals), never in ticks; between events
 * nothing is computed. What happens at an event is in `stages.ts` and `faults.ts`.
 */
import { uplinksOf } from '../../bandwidth/resources.ts';
import { HostevacError, type Reason } from '../../domain/errors.ts';
import { carryOut, liftThrottle } from './commands.ts';
import { heal, strike } from './faults.ts';
import { guestOf } from './guest.ts';
import { nextEventMs } from './migrations.ts';
import type {
  Command,
  Guest,
  InjectedFault,
  LogEntry,
  Migration,
  SimulatedFleetSpec,
  SimulatedHost,
  State,
} from './model.ts';
import { HISTORY_LENGTH } from './model.ts';
import { copyOf, type Draft, draftOf, hostAndVm, newCopy, own } from './records.ts';
import { endShutdown } from './shutdown.ts';
import { stepMigration } from './stages.ts';

/** The fleet at fleet time 0. Hosts of other drivers are left out. */
export function initialState(fleet: SimulatedFleetSpec): State {
  const seed = fleet.simulation.seed;
  const hosts: Record<string, SimulatedHost> = {};
  const guests: Record<string, Guest> = {};
  for (const host of fleet.hosts) {
    if (host.driver !== 'simulated') continue;
    const copies: SimulatedHost['copies'] = {};
    for (const spec of host.simulated.vms) {
      if (own(guests, spec.name) !== undefined) {
        throw new HostevacError('badInput', `two simulated VMs are called ${spec.name}; give one of them another name`);
      }
      guests[spec.name] = guestOf(spec, seed);
      copies[spec.name] = newCopy(spec.state ?? 'running', 0);
    }
    hosts[host.name] = {
      dead: false,
      cpus: host.cpus,
      memoryBytes: host.memory,
      egressBytesPerSec: host.egress,
      ingressBytesPerSec: host.ingress,
      links: host.links ?? [],
      copies,
    };
  }
  const uplinks = uplinksOf(fleet);
  return {
    seed,
    nowMs: 0,
    index: 0,
    hosts,
    links: Object.fromEntries(fleet.links.map((link) => [link.name, link.capacity])),
    // Not named where there are none: what a state without is stays the same.
    ...(uplinks.length > 0 ? { uplinks } : {}),
    guests,
    migrations: [],
    throttled: {},
    cuts: [],
    stuck: {},
    pendingFaults: plannedFaults(fleet.simulation.faults),
    tokens: {},
    starts: {},
    overbooked: { count: 0, last: [] },
    history: [],
  };
}

function plannedFaults(faults: SimulatedFleetSpec['simulation']['faults']): State['pendingFaults'] {
  const planned = faults.map((planned) => {
    const { at, ...fault } = planned;
    if (!('duration' in fault)) return { atMs: at, fault };
    const { duration, ...rest } = fault;
    return { atMs: at, fault: { ...rest, durationMs: duration } satisfies InjectedFault };
  });
  return planned.sort((one, other) => one.atMs - other.atMs);
}

/** The state at `toMs` if nobody commands anything. Time never goes back: an earlier time gives the state as it is. */
export function advance(state: State, toMs: number): State {
  if (toMs <= state.nowMs) return state;
  const event = earlier(nextRareEvent(state), nextMigrationEvent(state));
  if (event === null || event.atMs > toMs) return { ...state, nowMs: toMs };
  const draft = draftOf(state);
  runEvents(draft, toMs);
  return draft;
}

/** What an entry of the log does: the state right after it, and why it was refused (null: it was done). */
export function apply(state: State, entry: LogEntry): { readonly state: State; readonly refusal: Reason | null } {
  const draft = draftOf(state);
  return { state: draft, refusal: applyTo(draft, entry) };
}

function applyTo(draft: Draft, entry: LogEntry): Reason | null {
  if (entry.index !== draft.index + 1) {
    throw new HostevacError('internal', `log entry ${entry.index} cannot follow entry ${draft.index}`);
  }
  runEvents(draft, entry.atMs);
  const renewal = isRenewal(draft, entry.command);
  const refusal = carryOut(draft, entry.command);
  draft.index = entry.index;
  if (refusal !== null || !renewal) {
    const line = { index: entry.index, atMs: draft.nowMs, command: entry.command, refusal };
    draft.history = [...draft.history, line].slice(-HISTORY_LENGTH);
  }
  return refusal;
}

/** Throttles are renewed every tick; renewals would push everything else out of the history. */
function isRenewal(state: State, command: Command): boolean {
  return command.kind === 'setShare' && copyOf(state, command.host, command.vm)?.share === command.share;
}

type Event =
  | { readonly atMs: number; readonly kind: 'fault' }
  | { readonly atMs: number; readonly kind: 'heal' }
  | { readonly atMs: number; readonly kind: 'throttle'; readonly key: string }
  | { readonly atMs: number; readonly kind: 'off'; readonly key: string }
  | { readonly atMs: number; readonly kind: 'migration'; readonly migration: Migration };

/** The earlier one; of two at one instant the first given. */
function earlier(one: Event | null, other: Event | null): Event | null {
  if (one === null || other === null) return one ?? other;
  return other.atMs < one.atMs ? other : one;
}

/** Beside migrations little happens, so that these are looked for again only when one of them happened. */
function nextRareEvent(state: State): Event | null {
  const planned = state.pendingFaults[0];
  let next: Event | null = planned === undefined ? null : { atMs: planned.atMs, kind: 'fault' };
  for (const { untilMs } of state.cuts) next = earlier(next, { atMs: untilMs, kind: 'heal' });
  for (const untilMs of Object.values(state.stuck)) next = earlier(next, { atMs: untilMs, kind: 'heal' });
  // By name, not by age: which throttle was set first is no reason for anything.
  for (const key of Object.keys(state.throttled).sort()) {
    next = earlier(next, { atMs: state.throttled[key] ?? Number.POSITIVE_INFINITY, kind: 'throttle', key });
  }
  for (const key of Object.keys(state.stopping ?? {}).sort()) {
    next = earlier(next, { atMs: state.stopping?.[key] ?? Number.POSITIVE_INFINITY, kind: 'off', key });
  }
  return next;
}

function nextMigrationEvent(state: State): Event | null {
  let atMs = Number.POSITIVE_INFINITY;
  let next: Migration | null = null;
  for (const migration of state.migrations) {
    const itsMs = nextEventMs(migration);
    if (itsMs >= atMs) continue;
    atMs = itsMs;
    next = migration;
  }
  return next === null ? null : { atMs, kind: 'migration', migration: next };
}

/** Of events at one instant: faults first, then heals, throttles by name, guests that go off by name, migrations as they stand in the list. */
function runEvents(draft: Draft, toMs: number): void {
  let rare = nextRareEvent(draft);
  for (;;) {
    const event = earlier(rare, nextMigrationEvent(draft));
    if (event === null || event.atMs > toMs) break;
    draft.nowMs = Math.max(draft.nowMs, event.atMs);
    if (event.kind === 'migration') stepMigration(draft, event.migration);
    else {
      happen(draft, event);
      rare = nextRareEvent(draft);
    }
  }
  draft.nowMs = Math.max(draft.nowMs, toMs);
}

function happen(draft: Draft, event: Exclude<Event, { kind: 'migration' }>): void {
  if (event.kind === 'fault') nextPlannedFault(draft);
  else if (event.kind === 'heal') heal(draft);
  else {
    const { host, vm } = hostAndVm(event.key);
    if (event.kind === 'off') endShutdown(draft, host, vm);
    else liftThrottle(draft, host, vm);
  }
}

/** A fault of the fleet file that no longer finds what it names (the host died before) does nothing. */
function nextPlannedFault(draft: Draft): void {
  const [planned, ...rest] = draft.pendingFaults;
  draft.pendingFaults = rest;
  if (planned === undefined) return;
  try {
    strike(draft, planned.fault);
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code === 'internal') throw error;
  }
}
