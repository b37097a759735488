/** Publishes what the hosts of this process hold: regularly, and at once when somebody needs to see a change. */
import type { Logger } from 'pino';
import { HostevacError } from '../domain/errors.ts';
import type { HypervisorOf } from '../hypervisors/hypervisor.ts';
import { INVENTORY_TOPIC, type PublishedInventory } from '../store/presence.ts';
import type { Stores } from './stores.ts';

/** A fifth of the age at which an inventory is stale. */
const PUBLISH_MS = 2_000;
/** Wakes come in bursts (one per migration that ended); one round of inventories answers them all. */
const GATHER_MS = 20;

export class InventoryPublisher {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor(stores: Stores, hypervisorOf: HypervisorOf, hosts: readonly string[], log: Logger) {
    this.#running = this.#run(stores, hypervisorOf, hosts, log);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(stores: Stores, hypervisorOf: HypervisorOf, hosts: readonly string[], log: Logger): Promise<void> {
    const { signal } = this.#stop;
    const listener = await stores.wakeups.listen(INVENTORY_TOPIC);
    const last = new Map<string, PublishedInventory['vms']>();
    try {
      // What a predecessor saw is the last that is known of a host that does not answer.
      for (const known of await stores.presence.inventories(hosts)) if (known !== null) last.set(known.host, known.vms);
    } catch (error) {
      log.warn({ err: error }, 'earlier inventories not read');
    }
    while (!signal.aborted) {
      // Together: a host that is slow to answer must not make the others look silent.
      await Promise.all(
        hosts.map(async (host) => {
          try {
            const inventory = await takeInventory(stores, hypervisorOf, host, last.get(host) ?? []);
            last.set(host, inventory.vms);
            await stores.presence.publish(inventory);
          } catch (error) {
            log.warn({ err: error, host }, 'inventory not published');
          }
        }),
      );
      await listener.next(PUBLISH_MS, signal);
      await stores.clock.sleepReal(GATHER_MS, signal);
    }
    await listener.close();
  }
}

async function takeInventory(
  stores: Stores,
  hypervisorOf: HypervisorOf,
  host: string,
  lastKnown: PublishedInventory['vms'],
): Promise<PublishedInventory> {
  try {
    const { takenAtMs, vms } = await hypervisorOf(host).inventory(host);
    return { host, takenAtMs, unreachable: null, vms: [...vms] };
  } catch (error) {
    if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
    return { host, takenAtMs: stores.clock.now(), unreachable: error.message, vms: lastKnown };
  }
}
