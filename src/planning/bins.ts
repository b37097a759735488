/**
 * A host while a plan is being made: what is there, what the plan has put there, and whether one more VM may and can
 * come. Not here: which of several hosts to choose.
 */
import type { FleetRule } from '../domain/fleet.ts';
import { mayRunOn, rulesAbout } from './constraints.ts';
import { type Refusal, type RefusalKind, shortage } from './refusal.ts';
import { type Occupant, occupantsOf, type PlanningHost, type Reserve, roomOf, type Size } from './snapshot.ts';

/** A VM that needs a destination. */
export interface PlacementTask extends Size {
  readonly vm: string;
  readonly source: string;
  /** The only host it may go to (an explicit move), or null: the planner chooses. */
  readonly wanted: string | null;
  /** What is to be sent of it; without: nobody knows. */
  readonly touchedBytes?: number;
  /** Hosts that failed it before: used again only when no other host fits. */
  readonly avoid: readonly string[];
}

/** A task with the rules that concern it, looked up once. */
export interface RuledTask extends PlacementTask {
  readonly rules: readonly FleetRule[];
}

export function withRules(task: PlacementTask, rules: readonly FleetRule[]): RuledTask {
  return { ...task, rules: rulesAbout(rules, task.vm) };
}

export class Bin {
  readonly host: PlanningHost;
  readonly occupants: ReadonlyMap<string, Occupant>;
  readonly #reserve: Reserve;
  /** VMs that are here by name, other than incoming copies, with their state. */
  readonly #names: ReadonlyMap<string, string>;
  readonly #arrived = new Set<string>();
  #room: Size;

  private constructor(
    host: PlanningHost,
    from: {
      readonly occupants: ReadonlyMap<string, Occupant>;
      readonly reserve: Reserve;
      names: ReadonlyMap<string, string>;
    },
  ) {
    this.host = host;
    this.occupants = from.occupants;
    this.#reserve = from.reserve;
    this.#names = from.names;
    this.#room = roomOf(host, from.occupants, from.reserve);
  }

  /** As the snapshot has it, with nothing of the plan. */
  static of(host: PlanningHost, reserve: Reserve): Bin {
    const names = host.vms
      .filter(({ state }) => state !== 'incoming')
      .map((vm): [string, string] => [vm.name, vm.state]);
    return new Bin(host, { occupants: occupantsOf(host), reserve, names: new Map(names) });
  }

  /** The same host without what the plan has put here so far. */
  fresh(): Bin {
    return new Bin(this.host, { occupants: this.occupants, reserve: this.#reserve, names: this.#names });
  }

  /** The same host, usable, with what the plan has put here, if those VMs were not on it. */
  without(vms: ReadonlySet<string>): Bin {
    const occupants = new Map([...this.occupants].filter(([vm]) => !vms.has(vm)));
    const names = new Map([...this.#names].filter(([vm]) => !vms.has(vm)));
    const bin = new Bin({ ...this.host, unusable: null }, { occupants, reserve: this.#reserve, names });
    for (const vm of this.#arrived) bin.#arrived.add(vm);
    const planned = roomOf(this.host, this.occupants, this.#reserve);
    bin.#room = {
      memoryBytes: bin.#room.memoryBytes - (planned.memoryBytes - this.#room.memoryBytes),
      cpus: bin.#room.cpus - (planned.cpus - this.#room.cpus),
    };
    return bin;
  }

  /** Free now, after the reserve. */
  get room(): Size {
    return this.#room;
  }

  /** Free for this VM: what is counted here for it already is its own. */
  freeFor(vm: string): Size {
    const own = this.occupants.get(vm);
    return {
      memoryBytes: this.#room.memoryBytes + (own?.memoryBytes ?? 0),
      cpus: this.#room.cpus + (own?.cpus ?? 0),
    };
  }

  has(vm: string): boolean {
    return this.occupants.has(vm) || this.#arrived.has(vm);
  }

  /** Why the VM may or can not come here; null when it may and can. The first obstacle in the order of RefusalKind. */
  obstacle(task: RuledTask): RefusalKind | null {
    return this.#standing(task) ?? this.#ruled(task)?.kind ?? this.#short(task)?.kind ?? null;
  }

  refusal(task: RuledTask): Refusal | null {
    const host = this.host.name;
    const standing = this.#standing(task);
    if (standing !== null) return { host, kind: standing, text: this.#standingText(standing, task) };
    const found = this.#ruled(task) ?? shortage(task, this.freeFor(task.vm));
    return found === null ? null : { host, ...found };
  }

  take(task: RuledTask): void {
    const free = this.freeFor(task.vm);
    const own = this.occupants.get(task.vm);
    this.#room = {
      memoryBytes: free.memoryBytes - Math.max(task.memoryBytes, own?.memoryBytes ?? 0),
      cpus: free.cpus - Math.max(task.cpus, own?.cpus ?? 0),
    };
    this.#arrived.add(task.vm);
  }

  #standing(task: RuledTask): 'unusable' | 'cordoned' | 'present' | null {
    if (this.host.unusable !== null) return 'unusable';
    if (this.host.cordoned) return 'cordoned';
    return this.#names.has(task.vm) ? 'present' : null;
  }

  #standingText(kind: 'unusable' | 'cordoned' | 'present', task: RuledTask): string {
    switch (kind) {
      case 'unusable':
        return this.host.unusable ?? 'unusable';
      case 'cordoned':
        return 'cordoned';
      case 'present':
        return `a VM of that name is there (${this.#names.get(task.vm)})`;
    }
  }

  #ruled(task: RuledTask): ReturnType<typeof mayRunOn> {
    if (task.rules.length === 0) return null;
    return mayRunOn(task.vm, this.host.name, { rules: task.rules, on: (vm) => this.has(vm) });
  }

  #short(task: RuledTask): { readonly kind: RefusalKind } | null {
    const free = this.freeFor(task.vm);
    const memory = task.memoryBytes > free.memoryBytes;
    const cpus = task.cpus > free.cpus;
    if (memory && cpus) return { kind: 'memoryAndCpus' };
    return memory ? { kind: 'memory' } : cpus ? { kind: 'cpus' } : null;
  }
}
