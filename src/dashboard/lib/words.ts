/** Words and colours for states, and small texts that several pages have. Pure. */

import { formatDuration } from '../../domain/format.ts';
import type { MoveState, OperationState } from '../../domain/states.ts';

export { counted, printable } from '../../domain/format.ts';

export type Tone = 'quiet' | 'busy' | 'good' | 'warn' | 'bad';

export const OPERATION_WORDS: Readonly<Record<OperationState, readonly [string, Tone]>> = {
  queued: ['queued', 'quiet'],
  planning: ['planning', 'busy'],
  awaitingApproval: ['awaits approval', 'warn'],
  running: ['running', 'busy'],
  paused: ['paused', 'warn'],
  done: ['done', 'good'],
  partial: ['partly done', 'warn'],
  failed: ['failed', 'bad'],
  cancelled: ['cancelled', 'warn'],
  blocked: ['blocked', 'warn'],
};

export const MOVE_WORDS: Readonly<Record<MoveState, readonly [string, Tone]>> = {
  queued: ['queued', 'quiet'],
  admitted: ['admitted', 'busy'],
  precopy: ['copying', 'busy'],
  switchover: ['switching over', 'busy'],
  postcopy: ['post-copy', 'busy'],
  verifying: ['verifying', 'busy'],
  stopping: ['shutting down', 'busy'],
  done: ['moved', 'good'],
  shutOff: ['shut down', 'good'],
  skipped: ['skipped', 'warn'],
  failed: ['failed', 'bad'],
  cancelled: ['cancelled', 'warn'],
  blocked: ['blocked', 'warn'],
};

/** `Evacuation of node-a`, `Rebalance`. */
export function operationTitle(kind: 'evacuateNode' | 'loadBalance', host: string | null): string {
  return kind === 'evacuateNode' ? `Evacuation of ${host ?? 'a host'}` : 'Rebalance';
}

/** A moment of this browser's clock: `14:03:09`. */
export function clockText(realMs: number): string {
  const at = new Date(realMs);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, '0')).join(':');
}

/** A moment of fleet time as a date and time of this browser's zone: `2026-11-29 14:03:09`. */
export function dateText(ms: number): string {
  const at = new Date(ms);
  const date = [at.getFullYear(), at.getMonth() + 1, at.getDate()].map((n) => String(n).padStart(2, '0')).join('-');
  return `${date} ${clockText(ms)}`;
}

/** Fleet time is the clock's, but a simulated fleet counts from its beginning. */
export function momentText(fleetMs: number): string {
  return fleetMs > 1e12 ? dateText(fleetMs) : `${formatDuration(fleetMs)} into the simulation`;
}

/** `+1m12s`: how long after the beginning. */
export function sinceText(ms: number): string {
  return ms < 0 ? `-${formatDuration(-ms)}` : `+${formatDuration(ms)}`;
}
