/**
 * Who gets how much of the NICs and shared links. Migrations that compete get max-min fair rates, as long-lived TCP
 * streams roughly do. Knows nothing of passes, guests or time. Pure.
 */
import { linksCrossed } from '../../bandwidth/resources.ts';
import type { Migration, State } from './model.ts';
import { own } from './records.ts';

/** QEMU takes `max-bandwidth: 0` as no limit. */
function limitOf(migration: Migration): number {
  return migration.bandwidthBytesPerSec === 0 ? Number.MAX_SAFE_INTEGER : migration.bandwidthBytesPerSec;
}

interface Resource {
  readonly name: string;
  readonly capacity: number;
}

/** What a migration's bytes pass: one NIC out, one in, and the shared links between. */
function pathOf(state: State, source: string, destination: string): Resource[] {
  const out = own(state.hosts, source);
  const into = own(state.hosts, destination);
  const links = linksCrossed(out?.links ?? [], into?.links ?? [], state.uplinks ?? []);
  return [
    { name: `egress ${source}`, capacity: out?.egressBytesPerSec ?? 0 },
    { name: `ingress ${destination}`, capacity: into?.ingressBytesPerSec ?? 0 },
    ...links.map((link) => ({
      name: `link ${link}`,
      capacity: own(state.links, link) ?? Number.MAX_SAFE_INTEGER,
    })),
  ];
}

/**
 * Max-min fair rates in bytes per second, in the order given. Levels of what is left only rise, so whoever is
 * content with its level now can be settled at once; when nobody is, the fullest resource settles those on it.
 */
export function fairRates(state: State, sending: readonly Migration[]): number[] {
  const rates = sending.map(() => 0);
  const left = new Map<string, number>();
  const users = new Map<string, number>();
  const level = (name: string) => (left.get(name) ?? 0) / (users.get(name) ?? 1);
  let open = sending.map((migration, index) => {
    const path = pathOf(state, migration.source, migration.destination);
    for (const { name, capacity } of path) {
      left.set(name, capacity);
      users.set(name, (users.get(name) ?? 0) + 1);
    }
    // QEMU lifts its limit for the switchover (migration_completion_precopy).
    const limit = migration.stage === 'switchover' ? Number.MAX_SAFE_INTEGER : limitOf(migration);
    return { index, limit, path: path.map(({ name }) => name) };
  });
  while (open.length > 0) {
    const levels = open.map(({ path }) => Math.min(...path.map(level)));
    const lowest = Math.min(...levels);
    const content = (at: number) => (open[at]?.limit ?? 0) <= (levels[at] ?? 0);
    const anyContent = open.some((_, at) => content(at));
    const settles = (at: number) => (anyContent ? content(at) : levels[at] === lowest);
    for (const [at, { index, limit, path }] of open.entries()) {
      if (!settles(at)) continue;
      const rate = Math.min(limit, levels[at] ?? 0);
      rates[index] = rate;
      for (const name of path) {
        left.set(name, Math.max(0, (left.get(name) ?? 0) - rate));
        users.set(name, (users.get(name) ?? 1) - 1);
      }
    }
    open = open.filter((_, at) => !settles(at));
  }
  return rates;
}

/** What on this migration's path the limits of our active migrations (not a stranger's) sum to more than it carries. */
export function overbookedBy(state: State, migration: Migration): (Resource & { readonly limits: number })[] {
  const sums = new Map<string, number>();
  for (const other of state.migrations) {
    // Over a broken connection nothing is sent until somebody connects it anew.
    if (other.migrationId === null || other.arrival?.paused === true) continue;
    for (const { name } of pathOf(state, other.source, other.destination)) {
      sums.set(name, Math.min(Number.MAX_SAFE_INTEGER, (sums.get(name) ?? 0) + limitOf(other)));
    }
  }
  return pathOf(state, migration.source, migration.destination)
    .map((resource) => ({ ...resource, limits: sums.get(resource.name) ?? 0 }))
    .filter(({ limits, capacity }) => limits > capacity * (1 + 1e-9));
}

/** True while no byte passes between the two. */
export function isCut(state: State, source: string, destination: string): boolean {
  return state.cuts.some(
    ({ from, to }) => (from === source && to === destination) || (from === destination && to === source),
  );
}
