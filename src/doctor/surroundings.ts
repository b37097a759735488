/** What every step of an examination is given. */
import type { Fleet, FleetHost } from '../domain/fleet.ts';

export interface Surroundings {
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
}

export type RealHost = Exclude<FleetHost, { driver: 'simulated' }>;

export interface Examined extends Surroundings {
  readonly fleet: Fleet;
  /** Those that were asked for; simulated ones have nothing to be looked at. */
  readonly hosts: readonly RealHost[];
}

export function realHosts(fleet: Fleet): RealHost[] {
  return fleet.hosts.filter((host): host is RealHost => host.driver !== 'simulated');
}

export function namespaceOf(host: RealHost): string | null {
  const { networkNamespace = null } = host.driver === 'qemu' ? host.qemu : host.libvirt;
  return networkNamespace;
}

/** Few enough at once that a machine with two cores answers each in time. */
const AT_ONCE = 8;

/** In order, a few at once. */
export async function mapSome<T, R>(items: readonly T[], act: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (let from = 0; from < items.length; from += AT_ONCE) {
    results.push(...(await Promise.all(items.slice(from, from + AT_ONCE).map(act))));
  }
  return results;
}
