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
  readonly progress: (line: string) => void;
}

export function realHosts(fleet: Fleet): RealHost[] {
  return fleet.hosts.filter((host): host is RealHost => host.driver !== 'simulated');
}

export function namespaceOf(host: RealHost): string | null {
  const { networkNamespace = null } = host.driver === 'qemu' ? host.qemu : host.libvirt;
  return networkNamespace;
}

/** Programs that run at once: few enough that a machine with two cores answers each in time. */
const PROGRAMS_AT_ONCE = 8;
/** Waiting for an answer of another machine costs nothing here. */
export const CONNECTIONS_AT_ONCE = 64;
/** How often it is said how far a large fleet has come. */
const TELL_MS = 5_000;

interface Pace extends Pick<Examined, 'signal' | 'progress'> {
  /** What is being done, for the progress. */
  readonly title: string;
  readonly atOnce?: number;
}

/** In order, some at once. Throws what the signal was aborted with. */
export async function mapSome<T, R>(items: readonly T[], pace: Pace, act: (item: T) => Promise<R>): Promise<R[]> {
  const { signal, progress, title, atOnce = PROGRAMS_AT_ONCE } = pace;
  const results: R[] = [];
  let toldMs = performance.now();
  for (let from = 0; from < items.length; from += atOnce) {
    results.push(...(await Promise.all(items.slice(from, from + atOnce).map(act))));
    signal.throwIfAborted();
    if (performance.now() - toldMs < TELL_MS) continue;
    toldMs = performance.now();
    progress(`${title}: ${results.length} of ${items.length}`);
  }
  return results;
}
