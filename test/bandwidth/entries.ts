/** Entries and networks for bandwidth tests, in whole MiB/s. */

import type { Allocation, Entry } from '../../src/bandwidth/allocate.ts';
import { allocate, hasHeadStart } from '../../src/bandwidth/allocate.ts';
import type { Demand } from '../../src/bandwidth/budget.ts';
import type { Network } from '../../src/bandwidth/resources.ts';
import { type Fleet, fleetSchema } from '../../src/domain/fleet.ts';

export const MIB = 2 ** 20;

/** `web-1` from a to b, in MiB/s. */
export function demand(
  id: string,
  more: Partial<Omit<Demand, 'usefulBytesPerSec' | 'maxBytesPerSec'>> & { useful?: number; max?: number } = {},
): Demand {
  const { useful = 40, max = 100, ...rest } = more;
  return {
    migrationId: id,
    operationId: 'op-1',
    vm: `vm-${id}`,
    source: 'a',
    destination: 'b',
    tier: 'evacuation',
    order: 0,
    usefulBytesPerSec: useful * MIB,
    maxBytesPerSec: max * MIB,
    moveId: `move-${id}`,
    headStart: false,
    endsSoon: false,
    usesBytesPerSec: null,
    ...rest,
  };
}

export function waiting(id: string, more: Parameters<typeof demand>[1] = {}, overtaken = 0): Entry {
  return { ...demand(id, more), target: 0, inForce: 0, started: false, overtaken };
}

/** Started and acknowledged at a rate, or with another one in force. */
export function running(id: string, rate: number, more: Parameters<typeof demand>[1] = {}, inForce = rate): Entry {
  return { ...demand(id, more), target: rate * MIB, inForce: inForce * MIB, started: true, overtaken: 0 };
}

/** Every host with the same capacity each way, but for those given. */
export function network(rate: number, others: Record<string, { egress?: number; ingress?: number }> = {}): Network {
  const capacities: Record<string, { egress: number; ingress: number }> = {};
  for (const host of ['a', 'b', 'c', 'd', 'e']) {
    const { egress = rate, ingress = rate } = others[host] ?? {};
    capacities[host] = { egress: egress * MIB, ingress: ingress * MIB };
  }
  return { capacities };
}

/** Targets in MiB/s, by id. */
export function targets(of: Network, ...entries: Entry[]): Record<string, number> {
  const outcome = allocate({ ...of, entries });
  return Object.fromEntries([...outcome.targets].map(([id, target]) => [id, target / MIB]));
}

/** The entries after an allocation, as a budget keeps them. */
export function settle(entries: readonly Entry[], { targets: after, overtaken }: Allocation): Entry[] {
  return entries.map((entry) => {
    const target = after.get(entry.migrationId) ?? 0;
    const next = { ...entry, target, overtaken: overtaken.get(entry.migrationId) ?? 0 };
    const started = entry.started || target > 0;
    return { ...next, started, headStart: started ? hasHeadStart({ ...next, started }) : next.headStart };
  });
}

/** A fleet of hosts with the same capacity each way (MiB/s), all on one link where its capacity is given. */
export function fleet(hosts: readonly string[], rate: number, link?: number, uplinkOf: readonly string[] = []): Fleet {
  return fleetSchema.parse({
    hosts: hosts.map((name) => ({
      driver: 'simulated',
      name,
      migrationAddress: '127.0.0.1',
      egress: rate * MIB,
      ingress: rate * MIB,
      cpus: 8,
      memory: '32GiB',
      simulated: { vms: [] },
      ...(link === undefined || (uplinkOf.length > 0 && !uplinkOf.includes(name)) ? {} : { links: ['rack'] }),
    })),
    links: link === undefined ? [] : [{ name: 'rack', capacity: link * MIB, uplink: uplinkOf.length > 0 }],
  });
}
