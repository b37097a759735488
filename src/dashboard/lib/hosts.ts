/** Finding and sorting hosts. Pure. */
import type { Host } from '../net/types.ts';

export type HostFacts = Pick<
  Host,
  'host' | 'runningVms' | 'memoryBytes' | 'memoryUsedBytes' | 'egress' | 'ingress' | 'served' | 'cordoned' | 'down'
>;

export const HOST_ORDERS = ['host', 'vms', 'memory', 'egress', 'ingress'] as const;
export type HostOrder = (typeof HOST_ORDERS)[number];
export interface Sorting<Key extends string> {
  readonly by: Key;
  readonly descending: boolean;
}

export function part({ capacity, counted }: { readonly capacity: number; readonly counted: number }): number {
  return capacity <= 0 ? 0 : counted / capacity;
}

export function memoryPart(host: Pick<HostFacts, 'memoryBytes' | 'memoryUsedBytes'>): number {
  return host.memoryBytes <= 0 ? 0 : host.memoryUsedBytes / host.memoryBytes;
}

const names = new Intl.Collator('en', { numeric: true });

/** `text`: parts of a name, or a state (`cordoned`, `down`, `unserved`); every word must fit. */
export function findHosts<Facts extends HostFacts>(
  hosts: readonly Facts[],
  text: string,
  sorting: Sorting<HostOrder>,
): Facts[] {
  const words = text
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word !== '');
  const fits = (host: Facts): boolean =>
    words.every(
      (word) => host.host.toLowerCase().includes(word) || statesOf(host).some((state) => state.startsWith(word)),
    );
  const figure = (host: Facts): number => {
    switch (sorting.by) {
      case 'vms':
        return host.runningVms;
      case 'memory':
        return memoryPart(host);
      case 'egress':
        return part(host.egress);
      case 'ingress':
        return part(host.ingress);
      case 'host':
        return 0;
    }
  };
  const sign = sorting.descending ? -1 : 1;
  return hosts
    .filter(fits)
    .toSorted((a, b) =>
      sorting.by === 'host'
        ? sign * names.compare(a.host, b.host)
        : sign * (figure(a) - figure(b)) || names.compare(a.host, b.host),
    );
}

export function statesOf({ served, cordoned, down }: Pick<HostFacts, 'served' | 'cordoned' | 'down'>): string[] {
  return [...(down ? ['down'] : []), ...(served ? [] : ['unserved']), ...(cordoned ? ['cordoned'] : [])];
}

/** The same key again turns the order round; figures begin with the largest. */
export function sortedBy<Key extends string>(sorting: Sorting<Key>, by: Key, ascendingFirst: boolean): Sorting<Key> {
  return sorting.by === by ? { by, descending: !sorting.descending } : { by, descending: !ascendingFirst };
}
