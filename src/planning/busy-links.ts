/**
 * How long what a plan sends would keep each host's egress and ingress and each shared link busy, page by page once, one
 * after the other: what tells a destination that everybody wants from one that is idle. Pure; who really gets how much
 * when is bandwidth/allocate.ts.
 */
import { capacityOf, linksCrossed, linksOf, type Network } from '../bandwidth/resources.ts';

/** Bytes on their way, or to be sent. */
export interface Load {
  readonly source: string;
  readonly destination: string;
  readonly bytes: number;
}

interface Lane {
  readonly bytesPerMs: number;
  bytes: number;
}

export class BusyLinks {
  readonly #network: Network;
  readonly #egress = new Map<string, Lane>();
  readonly #ingress = new Map<string, Lane>();
  readonly #links = new Map<string, Lane>();

  /** `loads`: what is under way already; it counts whole, however much of it has been sent. */
  constructor(network: Network, loads: Iterable<Load>) {
    this.#network = network;
    for (const load of loads) this.add(load);
  }

  /** The same, to be filled with another plan. */
  copy(): BusyLinks {
    const copy = new BusyLinks(this.#network, []);
    for (const [host, lane] of this.#egress) copy.#egress.set(host, { ...lane });
    for (const [host, lane] of this.#ingress) copy.#ingress.set(host, { ...lane });
    for (const [link, lane] of this.#links) copy.#links.set(link, { ...lane });
    return copy;
  }

  add({ source, destination, bytes }: Load): void {
    this.#out(source).bytes += bytes;
    this.#into(destination).bytes += bytes;
    for (const link of this.#crossed(source, destination)) this.#link(link).bytes += bytes;
  }

  /** Until everything on this way has been sent if so much more is, ms; Infinity: part of it carries nothing. */
  busyMs(load: Load): number {
    return this.wayOf(load).ms;
  }

  /** The same, and how many shared links are crossed. */
  wayOf({ source, destination, bytes }: Load): { readonly ms: number; readonly links: number } {
    const crossed = this.#crossed(source, destination);
    let ms = Math.max(until(this.#out(source), bytes), until(this.#into(destination), bytes));
    for (const link of crossed) ms = Math.max(ms, until(this.#link(link), bytes));
    return { ms, links: crossed.length };
  }

  /** Until a host has sent everything if it sends so much more, ms. */
  leavesMs(source: string, bytes: number): number {
    return until(this.#out(source), bytes);
  }

  #crossed(source: string, destination: string): readonly string[] {
    const { links } = this.#network;
    return linksCrossed(linksOf(source, links), linksOf(destination, links), links?.uplinks ?? []);
  }

  #out(host: string): Lane {
    return laneOf(this.#egress, host, () => capacityOf({ kind: 'egress', host }, this.#network));
  }

  #into(host: string): Lane {
    return laneOf(this.#ingress, host, () => capacityOf({ kind: 'ingress', host }, this.#network));
  }

  #link(link: string): Lane {
    return laneOf(this.#links, link, () => capacityOf({ kind: 'link', link }, this.#network));
  }
}

function laneOf(lanes: Map<string, Lane>, name: string, bytesPerSec: () => number): Lane {
  const known = lanes.get(name);
  if (known !== undefined) return known;
  const lane: Lane = { bytesPerMs: bytesPerSec() / 1_000, bytes: 0 };
  lanes.set(name, lane);
  return lane;
}

function until({ bytes, bytesPerMs }: Lane, more: number): number {
  const all = bytes + more;
  return all > 0 ? all / bytesPerMs : 0;
}
