/**
 * How long a set of transfers takes at least, whatever order and rates are chosen: no resource carries more than its
 * capacity, and no transfer goes faster than its own way. Pure.
 */
import { capacityOf, describeResource, keyOf, type Network, pathOf, type Resource } from './resources.ts';

export interface Transfer {
  readonly source: string;
  /** null: any other host of the network. */
  readonly destination: string | null;
  readonly bytes: number;
  /** A single stream carries no more than this, bytes/s. */
  readonly maxBytesPerSec?: number;
}

export interface LowerBound {
  /** Infinity: something has to pass a resource that carries nothing. */
  readonly ms: number;
  /** What takes so long: `egress of a`, `link rack1`, `a to b`; null: there is nothing to carry. */
  readonly by: string | null;
}

/** The larger of what each resource needs for all that must pass it, and what each transfer needs by itself. */
export function makespanLowerBound(transfers: readonly Transfer[], network: Network): LowerBound {
  const loads = new Map<string, { readonly resource: Resource; bytes: number }>();
  let longest: LowerBound = { ms: 0, by: null };
  const consider = (bytes: number, bytesPerSec: number, by: string): void => {
    const ms = bytes > 0 ? (bytes / bytesPerSec) * 1_000 : 0;
    if (ms > longest.ms) longest = { ms, by };
  };
  for (const transfer of transfers) {
    const { source, destination, bytes, maxBytesPerSec = Number.POSITIVE_INFINITY } = transfer;
    const certain = certainlyPassed(transfer, network);
    for (const resource of certain) {
      const load = loads.get(keyOf(resource)) ?? { resource, bytes: 0 };
      load.bytes += bytes;
      loads.set(keyOf(resource), load);
    }
    const own = Math.min(maxBytesPerSec, ...certain.map((resource) => capacityOf(resource, network)));
    consider(bytes, own, `${source} to ${destination ?? 'anywhere'}`);
  }
  for (const { resource, bytes } of loads.values()) {
    consider(bytes, capacityOf(resource, network), describeResource(resource));
  }
  consider(...intoOthers(transfers, network));
  return longest;
}

/** What it draws on wherever it goes. */
function certainlyPassed({ source, destination }: Transfer, network: Network): Resource[] {
  if (destination !== null) return pathOf(source, destination, network.links);
  return pathOf(source, source, network.links).filter(({ kind }) => kind !== 'ingress');
}

/** All that leaves a host for wherever it fits must come in somewhere else. */
function intoOthers(
  transfers: readonly Transfer[],
  network: Network,
): [bytes: number, bytesPerSec: number, by: string] {
  const free = transfers.filter(({ destination }) => destination === null);
  const sources = new Set(free.map(({ source }) => source));
  const [only] = sources;
  // From several hosts each may go to one of the others.
  const into = Object.keys(network.capacities).filter((host) => sources.size > 1 || host !== only);
  const capacity = into.reduce((sum, host) => sum + capacityOf({ kind: 'ingress', host }, network), 0);
  return [free.reduce((sum, { bytes }) => sum + bytes, 0), capacity, 'ingress of all other hosts'];
}
