/**
 * How long a set of transfers takes at least, whatever order and rates are chosen: no resource carries more than its
 * capacity, and no transfer goes faster than its own way. Pure.
 */
import { capacityOf, describeResource, keyOf, linksOf, type Network, pathOf, type Resource } from './resources.ts';

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

export interface Takers {
  /** Hosts that take none of what may go anywhere: they are being emptied themselves. */
  readonly closed?: ReadonlySet<string>;
  /** What a host has room for, bytes as transfers count them; one that is not named: for anything. */
  readonly roomBytes?: Readonly<Record<string, number>>;
}

/**
 * The largest of what each resource needs for all that must pass it, what each transfer needs by itself, and what it takes
 * until all that may go anywhere is somewhere: out of each group of hosts behind a link, and into all hosts together.
 */
export function makespanLowerBound(transfers: readonly Transfer[], network: Network, takers: Takers = {}): LowerBound {
  const loads = new Map<string, { readonly resource: Resource; bytes: number }>();
  let longest: LowerBound = { ms: 0, by: null };
  const atLeast = (ms: number, by: string): void => {
    if (ms > longest.ms) longest = { ms, by };
  };
  const consider = (bytes: number, bytesPerSec: number, by: string): void => {
    atLeast(bytes > 0 ? (bytes / bytesPerSec) * 1_000 : 0, by);
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
  const free = transfers.filter(({ destination }) => destination === null);
  const others = new Others(free, network, takers);
  atLeast(
    msUntil(sumOf(free), (ms) => others.takenInBy(ms)),
    'ingress of all other hosts',
  );
  for (const link of network.links?.uplinks ?? []) {
    const within = free.filter(({ source }) => linksOf(source, network.links).includes(link));
    atLeast(
      msUntil(sumOf(within), (ms) => others.leftBehindBy(link, ms)),
      `link ${link}`,
    );
  }
  return longest;
}

/** What it draws on wherever it goes. */
function certainlyPassed({ source, destination }: Transfer, network: Network): readonly Resource[] {
  if (destination !== null) return pathOf(source, destination, network.links);
  return pathOf(source, source, network.links).filter(({ kind }) => kind !== 'ingress');
}

function sumOf(transfers: readonly Transfer[]): number {
  return transfers.reduce((sum, { bytes }) => sum + bytes, 0);
}

/** Bytes that can have arrived by a time, and how many more arrive in each ms from then on. */
interface Arrived {
  readonly bytes: number;
  readonly perMs: number;
}

const NOTHING: Arrived = { bytes: 0, perMs: 0 };

const both = (one: Arrived, other: Arrived): Arrived => ({
  bytes: one.bytes + other.bytes,
  perMs: one.perMs + other.perMs,
});

const atMost = (one: Arrived, most: Arrived): Arrived => (one.bytes < most.bytes ? one : most);

/** Over something that carries so much. */
function over(bytesPerSec: number, ms: number): Arrived {
  return { bytes: (bytesPerSec * ms) / 1_000, perMs: bytesPerSec / 1_000 };
}

/** Where what may go anywhere may go. */
class Others {
  readonly #network: Network;
  readonly #room: Readonly<Record<string, number>>;
  readonly #sources: ReadonlySet<string>;
  readonly #open: readonly string[];

  constructor(free: readonly Transfer[], network: Network, { closed, roomBytes }: Takers) {
    this.#network = network;
    this.#room = roomBytes ?? {};
    this.#sources = new Set(free.map(({ source }) => source));
    const [only] = this.#sources;
    // From several hosts each may go to one of the others.
    this.#open = Object.keys(network.capacities).filter(
      (host) => closed?.has(host) !== true && (this.#sources.size > 1 || host !== only),
    );
  }

  /** By all of them together, behind links that nothing passes but what comes from outside. */
  takenInBy(ms: number): Arrived {
    const groups = new Map<string, string[]>();
    let sum = NOTHING;
    for (const host of this.#open) {
      const [link, ...more] = linksOf(host, this.#network.links);
      // Of several links each might be the narrow one: without any it is a bound as well.
      if (link === undefined || more.length > 0) sum = both(sum, this.#into(host, ms));
      else groups.set(link, [...(groups.get(link) ?? []), host]);
    }
    for (const [link, hosts] of groups) {
      const inside = hosts.map((host) => this.#into(host, ms)).reduce(both, NOTHING);
      const isWithin =
        this.#isUplink(link) && [...this.#sources].some((host) => linksOf(host, this.#network.links).includes(link));
      sum = both(sum, isWithin ? inside : atMost(inside, this.#through(link, ms)));
    }
    return sum;
  }

  /** What can have left those behind an uplink, or gone to another of them. */
  leftBehindBy(link: string, ms: number): Arrived {
    const inside = this.#open.filter((host) => linksOf(host, this.#network.links).includes(link));
    return both(inside.map((host) => this.#into(host, ms)).reduce(both, NOTHING), this.#through(link, ms));
  }

  #isUplink(link: string): boolean {
    return this.#network.links?.uplinks?.includes(link) === true;
  }

  #through(link: string, ms: number): Arrived {
    return over(capacityOf({ kind: 'link', link }, this.#network), ms);
  }

  #into(host: string, ms: number): Arrived {
    const bytes = Object.hasOwn(this.#room, host) ? this.#room[host] : undefined;
    const most: Arrived = { bytes: bytes ?? Number.POSITIVE_INFINITY, perMs: 0 };
    return atMost(over(capacityOf({ kind: 'ingress', host }, this.#network), ms), most);
  }
}

/**
 * The first time at which so much can have arrived; Infinity: never. What arrives bends down only, so that each step along
 * its slope ends before that time or at it, and there are as many steps as bends.
 */
function msUntil(bytes: number, arrivedBy: (ms: number) => Arrived): number {
  let ms = 0;
  for (;;) {
    const arrived = arrivedBy(ms);
    const left = bytes - arrived.bytes;
    if (!(left > bytes * 1e-12)) return ms;
    if (arrived.perMs <= 0) return Number.POSITIVE_INFINITY;
    ms += left / arrived.perMs;
  }
}
