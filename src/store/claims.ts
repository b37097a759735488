/**
 * Claims, in one cell that all processes share: which operation moves a VM, what room is kept for it where, which hosts
 * take no VMs, and when room last became free. Planning reads and claims in one `transact`, so two plans never move one
 * VM or fill one hole. Not here: what to claim (planning), how long (operations).
 */
import { z } from 'zod';
import { Cell, type CellChange, type CellStore } from './cell.ts';
import type { Fence } from './lease.ts';

const reservationSchema = z.object({
  operationId: z.string(),
  vm: z.string(),
  host: z.string(),
  memoryBytes: z.number(),
  cpus: z.number(),
  /** What is sent there for it, and from where; an older release does not say. */
  source: z.string().optional(),
  touchedBytes: z.number().optional(),
});
type Reservation = z.infer<typeof reservationSchema>;

const cordonSchema = z.object({ operator: z.boolean(), operations: z.array(z.string()) });

export const claimsSchema = z.object({
  /** VM -> the operation that moves it. */
  vms: z.record(z.string(), z.string()),
  /** Move id -> the room kept for it at its destination. */
  reservations: z.record(z.string(), reservationSchema),
  /** Host -> who wants no VMs placed there; gone when nobody does. */
  cordons: z.record(z.string(), cordonSchema),
  /**
   * Host -> fleet time at which a move to it (or, where the caller says so, from it) was released. What was reserved has
   * arrived or never will: an inventory taken before shows neither, and must not be planned on.
   */
  changedAtMs: z.record(z.string(), z.number()),
});
export type ClaimsState = z.infer<typeof claimsSchema>;

const NO_CLAIMS: ClaimsState = { vms: {}, reservations: {}, cordons: {}, changedAtMs: {} };

/** Woken whenever claims changed: room may have become free. */
export const CLAIMS_TOPIC = 'claims';

/** An inventory this old is refused for its age long before. */
const CHANGES_KEPT_MS = 3_600_000;

/** A move to claim: its VM, and room at its destination. */
export interface ClaimItem {
  readonly moveId: string;
  readonly vm: string;
  readonly host: string;
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly source?: string;
  readonly touchedBytes?: number;
}

export interface ClaimOutcome {
  readonly claimed: readonly ClaimItem[];
  /** Not claimed: another operation moves the VM. */
  readonly refused: readonly (ClaimItem & { readonly heldBy: string })[];
}

/** Who wants a cordon: a person, or an operation by its id. */
export type CordonOwner = 'operator' | (string & {});

/** The operation that moves this VM, or null. */
export function holderOf(state: ClaimsState, vm: string): string | null {
  return own(state.vms, vm) ?? null;
}

/** True while anybody wants no VM placed there. */
export function isCordoned(state: ClaimsState, host: string): boolean {
  return own(state.cordons, host) !== undefined;
}

/**
 * The state with these moves claimed, item by item: one VM that is another operation's keeps none of its siblings back.
 * Claiming the same move again changes nothing. Whether the room is there is the planner's to know.
 */
export function withClaims(
  state: ClaimsState,
  operationId: string,
  items: readonly ClaimItem[],
): ClaimOutcome & { readonly state: ClaimsState } {
  const vms = { ...state.vms };
  const reservations = { ...state.reservations };
  const claimed: ClaimItem[] = [];
  const refused: (ClaimItem & { heldBy: string })[] = [];
  for (const item of items) {
    const { moveId, ...held } = item;
    const { vm } = item;
    const heldBy = own(vms, vm) ?? operationId;
    if (heldBy !== operationId) {
      refused.push({ ...item, heldBy });
      continue;
    }
    vms[vm] = operationId;
    reservations[moveId] = { operationId, ...held };
    claimed.push(item);
  }
  return { state: { ...state, vms, reservations }, claimed, refused };
}

/**
 * The state without this move's reservation; the VM stays its operation's. The destination and `changedHosts` count as
 * changed at `atMs`. A move that has none (any more) changes nothing.
 */
export function withoutMove(
  state: ClaimsState,
  moveId: string,
  atMs: number,
  changedHosts: readonly string[] = [],
): ClaimsState {
  if (own(state.reservations, moveId) === undefined) return state;
  const released = withoutReservations(state, (id) => id === moveId, atMs);
  return { ...released, changedAtMs: changed(released.changedAtMs, changedHosts, atMs) };
}

/** The state with this host cordoned by this owner; the very state where it is already. */
export function withCordon(state: ClaimsState, host: string, by: CordonOwner): ClaimsState {
  const known = own(state.cordons, host) ?? { operator: false, operations: [] };
  if (by === 'operator' ? known.operator : known.operations.includes(by)) return state;
  const next =
    by === 'operator' ? { ...known, operator: true } : { ...known, operations: [...known.operations, by].sort() };
  return { ...state, cordons: { ...state.cordons, [host]: next } };
}

/** The state without anything of this operation: VMs, reservations, cordons. */
export function withoutOperation(state: ClaimsState, operationId: string, atMs: number): ClaimsState {
  const vms = kept(state.vms, (_vm, holder) => holder !== operationId);
  let cordons = state.cordons;
  for (const host of Object.keys(state.cordons)) cordons = uncordoned(cordons, host, operationId);
  return withoutReservations({ ...state, vms, cordons }, (_id, held) => held.operationId === operationId, atMs);
}

export class Claims {
  readonly #cell: Cell<ClaimsState>;

  constructor(store: CellStore) {
    this.#cell = new Cell(store, 'claims', claimsSchema, NO_CLAIMS, { topic: CLAIMS_TOPIC });
  }

  read(): Promise<ClaimsState> {
    return this.#cell.read();
  }

  /**
   * Reads, decides and writes as one. `change` must be pure: it runs again when another process was faster. Nothing is
   * written (and nobody woken) when it hands back what it was given. With a `fence` only while that is held: each try may come
   * long after the one before, where answers are late, and what an operation wanted then must not land when it is over.
   */
  transact<R>(change: (state: ClaimsState) => CellChange<ClaimsState, R>, fence?: Fence): Promise<R> {
    return this.#cell.update((before) => {
      fence?.assertHeld();
      const outcome = change(before);
      if ('unchanged' in outcome) return outcome;
      const { value, result } = outcome;
      if (value === before || JSON.stringify(value) === JSON.stringify(before)) return { unchanged: true, result };
      return { value: withoutOldChanges(value), result };
    });
  }

  claim(operationId: string, items: readonly ClaimItem[]): Promise<ClaimOutcome> {
    return this.transact((before) => {
      const { state, ...result } = withClaims(before, operationId, items);
      return { value: state, result };
    });
  }

  /**
   * The move has ended: its room is free again, or the VM is there and an inventory will show it. `changedHosts` (its
   * source) must be seen anew before they are planned on, as its destination must. Harmless twice.
   */
  releaseMove(moveId: string, atMs: number, changedHosts: readonly string[] = []): Promise<void> {
    return this.transact((state) => ({ value: withoutMove(state, moveId, atMs, changedHosts), result: undefined }));
  }

  /** Others may move the VM; its reservations stay until their moves are released. Harmless when another has it. */
  releaseVm(vm: string, operationId: string): Promise<void> {
    return this.transact((state) => {
      if (holderOf(state, vm) !== operationId) return { unchanged: true, result: undefined };
      return { value: { ...state, vms: kept(state.vms, (name) => name !== vm) }, result: undefined };
    });
  }

  /** The operation has ended. Harmless twice. */
  releaseOperation(operationId: string, atMs: number): Promise<void> {
    return this.transact((state) => ({ value: withoutOperation(state, operationId, atMs), result: undefined }));
  }

  /** True when it was not cordoned by this owner before. With a `fence` as `transact`. */
  cordon(host: string, by: CordonOwner, fence?: Fence): Promise<boolean> {
    return this.transact((state) => {
      const cordoned = withCordon(state, host, by);
      return cordoned === state ? { unchanged: true, result: false } : { value: cordoned, result: true };
    }, fence);
  }

  /** True when this owner had cordoned it; others' cordons stay. */
  uncordon(host: string, by: CordonOwner): Promise<boolean> {
    return this.transact((state) => {
      const cordons = uncordoned(state.cordons, host, by);
      return cordons === state.cordons
        ? { unchanged: true, result: false }
        : { value: { ...state, cordons }, result: true };
    });
  }

  async isCordoned(host: string): Promise<boolean> {
    return isCordoned(await this.read(), host);
  }
}

function uncordoned(cordons: ClaimsState['cordons'], host: string, by: CordonOwner): ClaimsState['cordons'] {
  const known = own(cordons, host);
  if (known === undefined || !(by === 'operator' ? known.operator : known.operations.includes(by))) return cordons;
  const next =
    by === 'operator'
      ? { ...known, operator: false }
      : { ...known, operations: known.operations.filter((operation) => operation !== by) };
  if (!next.operator && next.operations.length === 0) return kept(cordons, (name) => name !== host);
  return { ...cordons, [host]: next };
}

function withoutReservations(
  state: ClaimsState,
  isGone: (moveId: string, reservation: Reservation) => boolean,
  atMs: number,
): ClaimsState {
  const gone = Object.entries(state.reservations).filter(([moveId, held]) => isGone(moveId, held));
  const hosts = gone.map(([, { host }]) => host);
  const reservations = kept(state.reservations, (id, held) => !isGone(id, held));
  return { ...state, reservations, changedAtMs: changed(state.changedAtMs, hosts, atMs) };
}

/** Never earlier than known: two processes' fleet clocks may differ by a little. */
function changed(
  before: ClaimsState['changedAtMs'],
  hosts: readonly string[],
  atMs: number,
): ClaimsState['changedAtMs'] {
  const after = { ...before };
  for (const host of hosts) after[host] = Math.max(atMs, own(after, host) ?? atMs);
  return after;
}

/** Measured from the newest change, so that this needs no clock. */
function withoutOldChanges(state: ClaimsState): ClaimsState {
  const newest = Math.max(...Object.values(state.changedAtMs));
  return { ...state, changedAtMs: kept(state.changedAtMs, (_host, atMs) => atMs >= newest - CHANGES_KEPT_MS) };
}

function kept<T>(record: Readonly<Record<string, T>>, isKept: (key: string, value: T) => boolean): Record<string, T> {
  return Object.fromEntries(Object.entries(record).filter(([key, value]) => isKept(key, value)));
}

/** A VM or host may be called `constructor`. */
function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}
