/** How long an operation waits for hosts that nobody can see. Pure. */
import type { OperationRecord } from '../domain/operation.ts';

/** Hosts that nobody can see are waited for this long (real ms) before the VMs that need them are given up. */
const PATIENCE_REAL_MS = 30_000;
/** A turn this long ago (real ms) was another process's, or before a long sleep: waiting starts anew. */
const LOOKED_WITHIN_REAL_MS = 7_000;
/** That somebody has looked is noted this often (real ms); well within the time above. */
const NOTED_EVERY_REAL_MS = 2_000;

type Waits = Pick<OperationRecord, 'waitingSinceMs' | 'waitingSeenMs'>;

export interface FleetTime {
  now(): number;
  fleetMs(realMs: number): number;
}

/** Patience is for time in which we looked and could not see: not for other waits, nor while no turn was taken. */
export function patience(blind: boolean, { waitingSinceMs, waitingSeenMs }: Waits, time: FleetTime): Waits {
  if (!blind) return { waitingSinceMs: null, waitingSeenMs: null };
  const now = time.now();
  const looked = waitingSeenMs !== null && now - waitingSeenMs < time.fleetMs(LOOKED_WITHIN_REAL_MS);
  return { waitingSinceMs: looked ? (waitingSinceMs ?? now) : now, waitingSeenMs: now };
}

/** Whether what `patience` says has to be noted. */
export function isSeenAnew(before: Waits, now: Waits, time: Pick<FleetTime, 'fleetMs'>): boolean {
  if (before.waitingSinceMs !== now.waitingSinceMs) return true;
  if (before.waitingSeenMs === null || now.waitingSeenMs === null) return before.waitingSeenMs !== now.waitingSeenMs;
  return now.waitingSeenMs - before.waitingSeenMs >= time.fleetMs(NOTED_EVERY_REAL_MS);
}

export function isOutOfPatience({ waitingSinceMs, waitingSeenMs }: Waits, time: FleetTime): boolean {
  if (waitingSinceMs === null || waitingSeenMs === null) return false;
  const looked = time.now() - waitingSeenMs < time.fleetMs(LOOKED_WITHIN_REAL_MS);
  return looked && waitingSeenMs - waitingSinceMs >= time.fleetMs(PATIENCE_REAL_MS);
}
