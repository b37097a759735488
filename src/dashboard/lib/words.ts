/** Words and colours for states, and small texts that several pages have. Pure. */

import { formatDuration } from '../../domain/format.ts';
import type { MoveState, OperationState } from '../../domain/states.ts';

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

/** `1 VM`, `3 VMs`. */
export function counted(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
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

/**
 * Names and messages may come from another machine: control characters and direction overrides are shown as codes, so
 * that no name can hide a part of a line (as the command line does).
 */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this replaces
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, (char) => {
    const code = char.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}
