/**
 * Whether waiting can help a VM that has no destination: what stands in its way and will end by itself. Other
 * operations' reservations end when their moves do (then the VM has come to stay, or never comes); VMs on their way out
 * make room where they leave. Not here: the choice between waiting and giving up.
 */
import type { Bin, RuledTask } from './bins.ts';
import { byName, type Occupant } from './snapshot.ts';

export interface Waits {
  readonly waitsFor: readonly string[];
  readonly waitsForVms: readonly string[];
  readonly waitsForHosts: readonly string[];
}

/** Something on a host that goes away when an operation (null: the planning one) gets on. */
interface Passing {
  readonly occupant: Occupant;
  readonly by: string | null;
}

export class Outlook {
  readonly #bins: readonly Bin[];
  readonly #operationId: string | null;
  readonly #departures: ReadonlyMap<string, ReadonlyMap<string, string | null>>;

  /** `bins` with what the plan has put there; `operationId` is the planning operation's, where it has one. */
  constructor(bins: readonly Bin[], placed: readonly { readonly vm: string }[], operationId: string | null) {
    this.#bins = bins;
    this.#operationId = operationId;
    this.#departures = departuresOf(bins, placed, operationId);
  }

  of(task: RuledTask): Waits {
    const others = new Set<string>();
    const vms = new Set<string>();
    const hosts = new Set<string>();
    for (const bin of this.#bins) {
      const { name, unusable } = bin.host;
      if (name === task.source || (task.wanted !== null && task.wanted !== name)) continue;
      const passing = passingOn(bin, this.#departures.get(name) ?? new Map(), this.#operationId);
      if (passing.length === 0 && unusable === null) continue;
      const by = leastNeeded(bin, task, passing);
      if (by === null) continue;
      if (unusable !== null) hosts.add(name);
      for (const operation of by) {
        if (operation !== null) others.add(operation);
        else for (const each of passing) if (each.by === null) vms.add(each.occupant.vm);
      }
    }
    const sorted = (names: ReadonlySet<string>): string[] => [...names].sort(byName);
    return { waitsFor: sorted(others), waitsForVms: sorted(vms), waitsForHosts: sorted(hosts) };
  }
}

/** Host -> VM that is to leave it -> the operation that moves it away (null: the planning one). */
function departuresOf(
  bins: readonly Bin[],
  placed: readonly { readonly vm: string }[],
  operationId: string | null,
): Map<string, Map<string, string | null>> {
  const moving = new Map<string, string | null>();
  for (const bin of bins) {
    for (const { vm, operationIds } of bin.occupants.values()) {
      for (const id of operationIds) moving.set(vm, id === operationId ? null : id);
    }
  }
  for (const { vm } of placed) moving.set(vm, null);
  const departures = new Map<string, Map<string, string | null>>();
  for (const bin of bins) {
    const leaving = new Map<string, string | null>();
    for (const { vm, settled, operationIds } of bin.occupants.values()) {
      const by = moving.get(vm);
      if (settled && operationIds.length === 0 && by !== undefined) leaving.set(vm, by);
    }
    departures.set(bin.host.name, leaving);
  }
  return departures;
}

function passingOn(bin: Bin, leaving: ReadonlyMap<string, string | null>, operationId: string | null): Passing[] {
  const passing: Passing[] = [];
  for (const occupant of bin.occupants.values()) {
    const away = leaving.get(occupant.vm);
    // Our own arrivals are not waited for: they are expected to stay.
    const arriving = occupant.settled ? undefined : occupant.operationIds.find((id) => id !== operationId);
    const by = away === undefined ? arriving : away;
    if (by !== undefined) passing.push({ occupant, by });
  }
  return passing;
}

/**
 * The operations without whose VMs the task fits this host: none when it fits as it is, null when it does not even
 * without all of them. Those that are not needed for it are left out, others' before our own.
 */
function leastNeeded(bin: Bin, task: RuledTask, passing: readonly Passing[]): (string | null)[] | null {
  let needed = [...new Set(passing.map(({ by }) => by))].sort((a, b) =>
    a === null ? 1 : b === null ? -1 : byName(a, b),
  );
  const fitsWithout = (operations: readonly (string | null)[]): boolean =>
    bin
      .without(new Set(passing.filter(({ by }) => operations.includes(by)).map(({ occupant }) => occupant.vm)))
      .obstacle(task) === null;
  if (!fitsWithout(needed)) return null;
  for (const operation of needed) {
    const rest = needed.filter((each) => each !== operation);
    if (fitsWithout(rest)) needed = rest;
  }
  return needed;
}
