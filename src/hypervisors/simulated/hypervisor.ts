/** The hypervisor port on a simulated fleet. Translates between port and log; what happens is `step.ts`. */
import { untilAborted } from '../../clock/abortable-sleep.ts';
import type { Clock } from '../../clock/clock.ts';
import type { Fence } from '../../store/lease.ts';
import type {
  DirtyingMeasured,
  HostInventory,
  Hypervisor,
  MigrationSample,
  MigrationTarget,
  MigrationTerms,
  OutgoingStatus,
  Sighting,
} from '../hypervisor.ts';
import { lookBetween } from './dirtying.ts';
import { nextEventMs } from './migrations.ts';
import type { GuestCommand, Migration } from './model.ts';
import { keyOf, migrationFrom } from './records.ts';
import type { SimulatedFleet } from './simulated-fleet.ts';
import { inventoryOf, limitOf, sampleOf, sightingOf, statusOf } from './views.ts';

/** What is told of a change. */
interface Seen {
  readonly status: OutgoingStatus;
  readonly pass: number;
  /** From then; Infinity: not in sight. */
  readonly eventInMs: number;
}

function seenOf(active: Migration, nowMs: number): Seen {
  return { status: statusOf(active), pass: active.pass, eventInMs: nextEventMs(active) - nowMs };
}

type WithoutToken<C> = C extends unknown ? Omit<C, 'token'> : never;

export class SimulatedHypervisor implements Hypervisor {
  readonly driver = 'simulated';
  readonly fencing = 'token';
  readonly bandwidthStepBytesPerSec = 1;
  readonly setupSilenceMs = 10_000;
  readonly handoverMs = 50;
  readonly #fleet: SimulatedFleet;
  readonly #clock: Pick<Clock, 'sleep'>;
  /** Of the last sample of each migration. */
  readonly #seen = new Map<string, Seen>();

  constructor(fleet: SimulatedFleet, clock: Pick<Clock, 'sleep'>) {
    this.#fleet = fleet;
    this.#clock = clock;
  }

  async inventory(host: string): Promise<HostInventory> {
    return inventoryOf(await this.#fleet.view(), host);
  }

  async look(host: string, vm: string): Promise<Sighting> {
    return sightingOf(await this.#fleet.view(), host, vm);
  }

  async sample(source: string, vm: string): Promise<MigrationSample | null> {
    const state = await this.#fleet.view();
    const sample = sampleOf(state, source, vm);
    const active = migrationFrom(state, source, vm);
    if (active === undefined) this.#seen.delete(keyOf(source, vm));
    else this.#seen.set(keyOf(source, vm), seenOf(active, state.nowMs));
    return sample;
  }

  /** However late the clock wakes us, the look is exactly as long as was asked for. */
  async measureDirtying(
    host: string,
    vm: string,
    windowMs: number,
    signal: AbortSignal,
  ): Promise<DirtyingMeasured | null> {
    const before = await this.#fleet.view();
    let after = before;
    while (after.nowMs < before.nowMs + windowMs) {
      // Nothing to see there now: nothing to wait for.
      if (signal.aborted || lookBetween(before, after, { host, vm, windowMs }) === null) return null;
      await this.#clock.sleep(before.nowMs + windowMs - after.nowMs, signal);
      after = await this.#fleet.view();
    }
    return signal.aborted ? null : lookBetween(before, after, { host, vm, windowMs });
  }

  /**
   * The simulated fleet sends no events, but when the next one comes can be told: it is looked at then. One that comes sooner
   * because somebody changed a rate is seen by the next tick.
   */
  async statusChange(source: string, vm: string, signal: AbortSignal): Promise<void> {
    const before = this.#seen.get(keyOf(source, vm));
    let next = before;
    while (before !== undefined && next !== undefined && Number.isFinite(next.eventInMs) && !signal.aborted) {
      await this.#clock.sleep(Math.max(1, next.eventInMs), signal);
      if (signal.aborted) return;
      const state = await this.#fleet.view().catch(() => null);
      if (state === null) break;
      const active = migrationFrom(state, source, vm);
      next = active === undefined ? undefined : seenOf(active, state.nowMs);
      if (next?.status !== before.status || next.pass !== before.pass) return;
    }
    await untilAborted(signal);
  }

  /** Every simulated destination can take a guest in post-copy. */
  async prepareDestination(fence: Fence, { vm, source, destination, migrationId }: MigrationTarget): Promise<void> {
    return this.#write(fence, { kind: 'prepareDestination', vm, source, destination, migrationId });
  }

  async startMigration(fence: Fence, target: MigrationTarget & MigrationTerms): Promise<void> {
    const { vm, source, destination, migrationId, bandwidthBytesPerSec, downtimeLimitMs, postCopy } = target;
    return this.#write(fence, {
      kind: 'startMigration',
      vm,
      source,
      destination,
      migrationId,
      bandwidthBytesPerSec,
      downtimeLimitMs,
      postCopy,
    });
  }

  async bandwidthLimit(source: string, vm: string): Promise<number | null> {
    return limitOf(await this.#fleet.view(), source, vm);
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

  async beginPostCopy(fence: Fence, source: string, vm: string): Promise<void> {
    return this.#write(fence, { kind: 'beginPostCopy', source, vm });
  }

  async recoverPostCopy(fence: Fence, { vm, source, destination }: MigrationTarget): Promise<void> {
    return this.#write(fence, { kind: 'recoverPostCopy', source, destination, vm });
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

  async shutdown(fence: Fence, host: string, vm: string): Promise<void> {
    return this.#write(fence, { kind: 'shutdown', host, vm });
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
