/** The hypervisor port on a simulated fleet. Translates between port and log; what happens is `step.ts`. */
import type { Fence } from '../../store/lease.ts';
import type { HostInventory, Hypervisor, MigrationSample, MigrationTarget, Sighting } from '../hypervisor.ts';
import type { GuestCommand } from './model.ts';
import type { SimulatedFleet } from './simulated-fleet.ts';
import { inventoryOf, sampleOf, sightingOf } from './views.ts';

type WithoutToken<C> = C extends unknown ? Omit<C, 'token'> : never;

export class SimulatedHypervisor implements Hypervisor {
  readonly driver = 'simulated';
  readonly fencing = 'token';
  readonly #fleet: SimulatedFleet;

  constructor(fleet: SimulatedFleet) {
    this.#fleet = fleet;
  }

  async inventory(host: string): Promise<HostInventory> {
    return inventoryOf(await this.#fleet.view(), host);
  }

  async look(host: string, vm: string): Promise<Sighting> {
    return sightingOf(await this.#fleet.view(), host, vm);
  }

  async sample(source: string, vm: string): Promise<MigrationSample | null> {
    return sampleOf(await this.#fleet.view(), source, vm);
  }

  /** The simulated fleet sends no events; who drives a migration looks at it every tick. */
  statusChange(_source: string, _vm: string, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted) resolve();
      else signal.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  async prepareDestination(fence: Fence, { vm, source, destination, migrationId }: MigrationTarget): Promise<void> {
    return this.#write(fence, { kind: 'prepareDestination', vm, source, destination, migrationId });
  }

  async startMigration(
    fence: Fence,
    target: MigrationTarget & { readonly bandwidthBytesPerSec: number; readonly downtimeLimitMs: number },
  ): Promise<void> {
    const { vm, source, destination, migrationId, bandwidthBytesPerSec, downtimeLimitMs } = target;
    return this.#write(fence, {
      kind: 'startMigration',
      vm,
      source,
      destination,
      migrationId,
      bandwidthBytesPerSec,
      downtimeLimitMs,
    });
  }

  async setBandwidth(fence: Fence, source: string, vm: string, bytesPerSec: number): Promise<void> {
    return this.#write(fence, { kind: 'setBandwidth', source, vm, bytesPerSec });
  }

  async setDowntimeLimit(fence: Fence, source: string, vm: string, ms: number): Promise<void> {
    return this.#write(fence, { kind: 'setDowntimeLimit', source, vm, downtimeLimitMs: ms });
  }

  /** A simulated migration never waits before its switchover. */
  async finishMigration(fence: Fence, _source: string, _vm: string): Promise<void> {
    fence.assertHeld();
  }

  async cancelMigration(fence: Fence, source: string, vm: string): Promise<void> {
    return this.#write(fence, { kind: 'cancelMigration', source, vm });
  }

  async discardIncoming(fence: Fence, destination: string, vm: string): Promise<void> {
    return this.#write(fence, { kind: 'discardIncoming', destination, vm });
  }

  /** A simulated VM's definition goes with it. */
  async keepDefinition(fence: Fence, _destination: string, _vm: string): Promise<void> {
    fence.assertHeld();
  }

  async retire(fence: Fence, source: string, vm: string): Promise<void> {
    return this.#write(fence, { kind: 'retire', source, vm });
  }

  /** Checks the lease and sends in one tick; the fleet itself refuses a token that is stale by the time it arrives. */
  async #write(fence: Fence, command: WithoutToken<GuestCommand>): Promise<void> {
    fence.assertHeld();
    return this.#fleet.send({ ...command, token: fence.token });
  }
}
