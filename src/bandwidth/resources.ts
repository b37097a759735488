/**
 * What migrations share: each host's egress, each host's ingress, named links; and which of them a migration draws on.
 * Not here: who gets how much (allocate.ts).
 */
import type { Fleet } from '../domain/fleet.ts';

export type Resource =
  | { readonly kind: 'egress' | 'ingress'; readonly host: string }
  | { readonly kind: 'link'; readonly link: string };

/** The same key for the same resource, and for no other. */
export function keyOf(resource: Resource): string {
  return `${resource.kind} ${resource.kind === 'link' ? resource.link : resource.host}`;
}

/** Bytes per second, by host. */
type HostCapacities = Readonly<Record<string, { readonly egress: number; readonly ingress: number }>>;

export interface SharedLinks {
  /** Bytes per second, by link. */
  readonly capacities: Readonly<Record<string, number>>;
  /** The links of each host that has any. */
  readonly ofHost: Readonly<Record<string, readonly string[]>>;
  /** Links that two hosts of theirs do not need to reach each other. */
  readonly uplinks?: readonly string[];
}

interface Way {
  readonly resources: readonly Resource[];
  readonly keys: readonly string[];
}

/** Ways that were asked for, for each set of links that there is: everybody who waits asks for those of all others. */
const ways = new WeakMap<SharedLinks, Map<string, Way>>();
const WAYS_KEPT = 10_000;
const NO_LINKS: SharedLinks = { capacities: {}, ofHost: {} };

/** Everything that a migration from `source` to `destination` draws on at once. */
export function pathOf(source: string, destination: string, links: SharedLinks | undefined): readonly Resource[] {
  return wayOf(source, destination, links).resources;
}

/** `keyOf` all of it. */
export function pathKeysOf(source: string, destination: string, links: SharedLinks | undefined): readonly string[] {
  return wayOf(source, destination, links).keys;
}

function wayOf(source: string, destination: string, links: SharedLinks = NO_LINKS): Way {
  const known = ways.get(links) ?? new Map<string, Way>();
  if (known.size === 0) ways.set(links, known);
  // No name of a host has a line end in it.
  const pair = `${source}\n${destination}`;
  const found = known.get(pair);
  if (found !== undefined) return found;
  if (known.size >= WAYS_KEPT) known.clear();
  const crossed = linksCrossed(linksOf(source, links), linksOf(destination, links), links.uplinks ?? []);
  const resources: readonly Resource[] = [
    { kind: 'egress', host: source },
    { kind: 'ingress', host: destination },
    ...crossed.map((link): Resource => ({ kind: 'link', link })),
  ];
  const way = { resources, keys: resources.map(keyOf) };
  known.set(pair, way);
  return way;
}

/** Those that a host hangs on. */
export function linksOf(host: string, links: SharedLinks | undefined): readonly string[] {
  return own(links?.ofHost, host) ?? [];
}

/**
 * The links that bytes from one host to another pass, each once although both ends may have it; an uplink that both have
 * is not on their way.
 */
export function linksCrossed(
  out: readonly string[],
  into: readonly string[],
  uplinks: readonly string[],
): readonly string[] {
  const isWithin = (link: string): boolean => out.includes(link) && into.includes(link) && uplinks.includes(link);
  return [...new Set([...out, ...into])].filter((link) => !isWithin(link));
}

/** What a fleet file says there is to share. */
export function networkOf(fleet: Pick<Fleet, 'hosts' | 'links'>): Network {
  const capacities: Record<string, { egress: number; ingress: number }> = {};
  const ofHost: Record<string, readonly string[]> = {};
  for (const { name, egress, ingress, links } of fleet.hosts) {
    capacities[name] = { egress, ingress };
    if (links !== undefined) ofHost[name] = links;
  }
  return {
    capacities,
    links: {
      capacities: Object.fromEntries(fleet.links.map(({ name, capacity }) => [name, capacity])),
      ofHost,
      uplinks: uplinksOf(fleet),
    },
  };
}

export function uplinksOf({ links }: Pick<Fleet, 'links'>): string[] {
  return links.filter(({ uplink }) => uplink === true).map(({ name }) => name);
}

/** What there is to share. */
export interface Network {
  readonly capacities: HostCapacities;
  readonly links?: SharedLinks;
  /** Bytes per second by `keyOf`, in place of the capacity given above. */
  readonly overrides?: Readonly<Record<string, number>>;
}

/** Whole bytes per second; 0 for a host or link that the fleet does not have (any more). */
export function capacityOf(resource: Resource, { capacities, links, overrides }: Network): number {
  const capacity =
    own(overrides, keyOf(resource)) ??
    (resource.kind === 'link'
      ? own(links?.capacities, resource.link)
      : own(capacities, resource.host)?.[resource.kind]);
  return Math.max(0, Math.floor(capacity ?? 0));
}

/** `egress of a`, `link rack1`: as a person reads it. */
export function describeResource(resource: Resource): string {
  return resource.kind === 'link' ? `link ${resource.link}` : `${resource.kind} of ${resource.host}`;
}

/** A host may be called `constructor`. */
function own<T>(record: Readonly<Record<string, T>> | undefined, key: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, key) ? record[key] : undefined;
}
