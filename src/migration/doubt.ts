/**
 * After a restart or a failover of the store grants may have been forgotten: each host that is served is looked at for what
 * leaves it, and the budget told. It starts nothing until it has heard of all of them. What has left it in a move that is
 * not known any more is listed, for nobody else would tidy what is left of that.
 */
import type { Sent } from '../bandwidth/budget.ts';
import { HostevacError } from '../domain/errors.ts';
import type { Sighting } from '../hypervisors/hypervisor.ts';
import type { AbandonedMove } from '../store/abandoned.ts';
import { isSending } from './assess.ts';
import type { MigrationDeps } from './context.ts';

/**
 * Whoever was given something before the doubt began uses it within that time or has lost its lease (5 s), an order that is
 * on its way to a slow hypervisor included (real ms).
 */
const SETTLED_AFTER_MS = 10_000;

export class Doubts {
  readonly #deps: MigrationDeps;
  readonly #hosts: readonly string[];
  readonly #list: (move: AbandonedMove) => Promise<void>;
  #generation = '';
  #sinceMs = 0;

  constructor(deps: MigrationDeps, hosts: readonly string[], list: (move: AbandonedMove) => Promise<void>) {
    this.#deps = deps;
    this.#hosts = hosts;
    this.#list = list;
  }

  /** True: there is doubt, so look again soon. A host that does not answer is not heard, unless it was confirmed down. */
  async tell(down: ReadonlySet<string>): Promise<boolean> {
    const { budget, clock, servedHosts } = this.#deps;
    const doubt = await budget.doubt();
    if (doubt === null) return false;
    if (doubt.generation !== this.#generation) {
      this.#generation = doubt.generation;
      this.#sinceMs = clock.monotonic();
    }
    if (clock.monotonic() - this.#sinceMs < SETTLED_AFTER_MS) return true;
    const wanted = [...new Set([...(await servedHosts()), ...this.#hosts])];
    for (const host of this.#hosts.filter((name) => !doubt.heard.includes(name))) {
      const sent = await this.#sentFrom(host, down);
      if (sent !== null) await budget.hear(host, sent, wanted, doubt.generation);
    }
    return true;
  }

  async #sentFrom(host: string, down: ReadonlySet<string>): Promise<Sent[] | null> {
    try {
      const { vms } = await this.#deps.hypervisorOf(host).inventory(host);
      const sent = await Promise.all(vms.map(({ name }) => this.#sentOf(host, name)));
      return sent.filter((one) => one !== null);
    } catch (error) {
      if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
      return down.has(host) ? [] : null;
    }
  }

  /**
   * One VM that does not answer, of a host that does, keeps the fleet waiting only if somebody has it: null, nobody moves it.
   * Throws `hostUnreachable`.
   */
  async #look(source: string, vm: string): Promise<Sighting | null> {
    try {
      return await this.#deps.hypervisorOf(source).look(source, vm);
    } catch (error) {
      if (!(error instanceof HostevacError) || error.code !== 'hostUnreachable') throw error;
      const entered = (await this.#deps.budget.entries()).some((entry) => entry.vm === vm);
      if (entered || (await this.#deps.claimedBy(vm)) !== null) throw error;
      return null;
    }
  }

  /** A copy that waits here, perhaps for a move that is not known any more. If somebody has its VM nothing is done about it. */
  async #listWaiting(destination: string, vm: string, uuid: string): Promise<void> {
    const source = (await this.#deps.runningAt(vm, uuid)).find((host) => host !== destination);
    if (source === undefined) return;
    const moveId = `waits:${destination}:${vm}`;
    await this.#list({ moveId, operationId: '', vm, uuid, source, destination, migrateSent: true });
  }

  /** A migration that nobody of ours started is not the budget's. */
  async #sentOf(source: string, vm: string): Promise<Sent | null> {
    const hypervisor = this.#deps.hypervisorOf(source);
    const seen = await this.#look(source, vm);
    if (seen === null || !seen.present) return null;
    const { uuid, outgoing } = seen;
    if (seen.state === 'incoming') await this.#listWaiting(source, vm, uuid);
    if (outgoing === null) return null;
    const moveId = outgoing.migrationId;
    if (moveId === null) return null;
    const move = await this.#deps.records.move(moveId);
    const destination = outgoing.destination ?? move?.destination;
    if (destination === undefined) return null;
    if (!isSending(seen)) {
      const isForgotten = move === null && outgoing.status === 'completed';
      if (isForgotten) await this.#list({ moveId, operationId: '', vm, uuid, source, destination, migrateSent: true });
      return null;
    }
    const bytesPerSec = (await hypervisor.bandwidthLimit(source, vm)) ?? 0;
    return {
      migrationId: vm,
      operationId: move?.operationId ?? '',
      moveId,
      vm,
      source,
      destination,
      // As late as can be, where its request is not known any more.
      tier: 'rebalance',
      order: move?.order ?? 0,
      bytesPerSec,
    };
  }
}
