/**
 * The fleet as an operation may plan on it: published inventories, judged for age, with claims and cordons. Pure but for
 * `readFleet`, which only fetches. A host whose inventory is old, or older than the last change that we made there, takes
 * no VM until it has been seen again.
 */
import type { Fleet } from '../domain/fleet.ts';
import { hostOf } from '../domain/fleet.ts';
import { formatDuration } from '../domain/units.ts';
import type { PlanningHost } from '../planning/snapshot.ts';
import { type ClaimsState, isCordoned } from '../store/claims.ts';
import type { PublishedInventory } from '../store/presence.ts';
import type { OperationDeps } from './deps.ts';

/** A worker publishes every 2 s of real time; this many real ms without is stale. */
const STALE_REAL_MS = 10_000;

export interface HostView {
  readonly host: string;
  readonly inventory: PublishedInventory | null;
  readonly served: boolean;
  /** Why its inventory cannot be planned on now; null: it can. */
  readonly unusable: string | null;
}

export interface FleetView {
  readonly atMs: number;
  readonly hosts: ReadonlyMap<string, HostView>;
}

/** `of`: only these; without, every host. */
export async function readFleet(
  deps: Pick<OperationDeps, 'clock' | 'fleet' | 'presence'>,
  of?: ReadonlySet<string>,
): Promise<FleetView> {
  const names = deps.fleet.hosts.map((host) => host.name).filter((name) => of?.has(name) ?? true);
  const [inventories, workers] = await Promise.all([deps.presence.inventories(names), deps.presence.alive()]);
  const served = new Set(workers.flatMap((worker) => worker.hosts));
  const atMs = deps.clock.now();
  const staleMs = deps.clock.fleetMs(STALE_REAL_MS);
  return {
    atMs,
    hosts: new Map(
      names.map((host, index) => {
        const inventory = inventories[index] ?? null;
        const isServed = served.has(host);
        return [
          host,
          { host, inventory, served: isServed, unusable: whyUnusable(host, inventory, isServed, atMs, staleMs) },
        ];
      }),
    ),
  };
}

function whyUnusable(
  host: string,
  inventory: PublishedInventory | null,
  served: boolean,
  atMs: number,
  staleMs: number,
): string | null {
  const start = `start one: hostevac worker --hosts ${host}`;
  if (inventory === null) return served ? `no inventory of ${host} yet` : `no worker serves ${host} (${start})`;
  if (inventory.unreachable !== null) return inventory.unreachable;
  const age = atMs - inventory.takenAtMs;
  if (age <= staleMs) return null;
  const old = `the inventory of ${host} is ${formatDuration(age)} old`;
  return served ? old : `${old} and no worker serves it (${start})`;
}

/** Hosts whose inventory was taken before the last change we made there: true again in a moment. */
export function outdated(view: FleetView, claims: ClaimsState): string[] {
  return [...view.hosts.values()]
    .filter(({ host, inventory, unusable }) => {
      const changedAtMs = changedAt(claims, host);
      return unusable === null && inventory !== null && inventory.takenAtMs <= changedAtMs;
    })
    .map(({ host }) => host);
}

/** Fleet time of the last change that we made at a host. */
export function changedAt(claims: ClaimsState, host: string): number {
  return Object.hasOwn(claims.changedAtMs, host)
    ? (claims.changedAtMs[host] ?? Number.NEGATIVE_INFINITY)
    : Number.NEGATIVE_INFINITY;
}

/** What placement is given. `own` operation's reservations count like anybody's. */
export function planningHosts(fleet: Fleet, view: FleetView, claims: ClaimsState): PlanningHost[] {
  const late = new Set(outdated(view, claims));
  return [...view.hosts.values()].flatMap(({ host, inventory, unusable }): PlanningHost[] => {
    const spec = hostOf(fleet, host);
    if (spec === undefined) return [];
    return [
      {
        name: host,
        cpus: spec.cpus,
        memoryBytes: spec.memory,
        cordoned: isCordoned(claims, host),
        vms: (inventory?.vms ?? []).map(({ name, memoryBytes, cpus, state }) => ({ name, memoryBytes, cpus, state })),
        reservations: Object.values(claims.reservations).filter((reservation) => reservation.host === host),
        unusable: unusable ?? (late.has(host) ? `${host} has just changed; a fresh inventory is awaited` : null),
      },
    ];
  });
}
