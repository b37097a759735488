/** What the workflow of an operation needs from outside, and the facts it plans on. */
import type { Clock } from '../clock/clock.ts';
import type { Fleet } from '../domain/fleet.ts';
import type { Delivery } from '../queue/delivery.ts';
import type { Wakeups } from '../store/cell.ts';
import type { Claims } from '../store/claims.ts';
import type { EventLog } from '../store/event-log.ts';
import type { Leases } from '../store/lease.ts';
import type { Presence } from '../store/presence.ts';
import type { Records } from '../store/records.ts';

export interface OperationDeps {
  readonly clock: Clock;
  readonly fleet: Fleet;
  readonly leases: Leases;
  readonly records: Records;
  readonly claims: Claims;
  readonly presence: Presence;
  readonly events: EventLog;
  readonly wakeups: Wakeups;
  readonly delivery: Delivery;
}
