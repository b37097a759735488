/** The throttle port on a simulated fleet: the share is part of the fleet's state and lifts itself there. */
import type { Clock } from '../../clock/clock.ts';
import type { Reason } from '../../domain/errors.ts';
import type { Fence } from '../../store/lease.ts';
import type { GuestCpu, Throttle, ThrottleTarget, ThrottleTerms } from '../../throttling/throttle.ts';
import { reachable } from './commands.ts';
import type { SimulatedFleet } from './simulated-fleet.ts';
import { guestCpuOf } from './views.ts';

export class SimulatedThrottle implements Throttle {
  readonly #fleet: SimulatedFleet;
  readonly #clock: Pick<Clock, 'fleetMs'>;

  constructor(fleet: SimulatedFleet, clock: Pick<Clock, 'fleetMs'>) {
    this.#fleet = fleet;
    this.#clock = clock;
  }

  /** Every simulated guest can be throttled; a host that does not answer throws. */
  async unavailable(host: string): Promise<Reason | null> {
    reachable(await this.#fleet.view(), host);
    return null;
  }

  /** The share as asked: simulated CPU time flows evenly, so nothing ever waits for a period. */
  async set(fence: Fence, target: ThrottleTarget & ThrottleTerms): Promise<void> {
    const { host, vm, share } = target;
    const validForMs = this.#clock.fleetMs(target.validForMs);
    fence.assertHeld();
    return this.#fleet.send({ kind: 'setShare', token: fence.token, host, vm, share, validForMs });
  }

  async release(fence: Fence, { host, vm }: ThrottleTarget): Promise<void> {
    fence.assertHeld();
    return this.#fleet.send({ kind: 'releaseShare', token: fence.token, host, vm });
  }

  async guestCpu({ host, vm }: ThrottleTarget): Promise<GuestCpu> {
    return guestCpuOf(await this.#fleet.view(), host, vm);
  }
}
