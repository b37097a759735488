/**
 * What migrations share: each host's egress, each host's ingress, named links; and which of them a migration draws on.
 * Not here: who gets how much (allocate.ts).
 */
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
}

/**
 * Everything that a migration from `source` to `destination` draws on at once. A link that both ends have is drawn on
 * once: the bytes pass it once.
 */
export function pathOf(source: string, destination: string, links: SharedLinks | undefined): Resource[] {
  const names = new Set([...(own(links?.ofHost, source) ?? []), ...(own(links?.ofHost, destination) ?? [])]);
  return [
    { kind: 'egress', host: source },
    { kind: 'ingress', host: destination },
    ...[...names].map((link): Resource => ({ kind: 'link', link })),
  ];
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
