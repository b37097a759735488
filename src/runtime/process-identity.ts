/**
 * Who this process is, so that others on the same machine can tell whether it is still there. Pids are used again and
 * containers number their processes alike, so an identity is pid, start time and where both mean something.
 */
import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import type { LeaseOwner } from '../store/lease.ts';

interface ProcessStat {
  /** One letter, see proc(5): `Z` zombie, `X` dead. */
  readonly state: string;
  readonly startTicks: number;
}

/** `comm` (field 2) is in parentheses and may hold spaces and parentheses itself: count from the last one. */
export function parseProcessStat(text: string): ProcessStat | undefined {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const state = fields[0];
  const startTicks = Number(fields[22 - 3]);
  return state === undefined || state === '' || !Number.isFinite(startTicks) ? undefined : { state, startTicks };
}

/** Start of a process in clock ticks since boot; undefined when there is no such process (or it cannot be seen). */
export function startTicksOf(pid: number): number | undefined {
  const stat = readStat(pid);
  return stat === undefined || stat === 'gone' ? undefined : stat.startTicks;
}

let identity: LeaseOwner | undefined;

/** The same for the whole run of this process. */
export function thisProcess(): LeaseOwner {
  identity ??= {
    id: randomUUID(),
    machine: machineId(),
    pid: process.pid,
    startTicks: startTicksOf(process.pid) ?? 0,
  };
  return identity;
}

/**
 * True only when the owner ran here and is certainly gone: no such process, another one with its pid, or a zombie. False
 * means alive or unknown (another machine, another container, no right to look).
 */
export function isDeadHere(owner: Pick<LeaseOwner, 'machine' | 'pid' | 'startTicks'>): boolean {
  if (owner.machine !== thisProcess().machine) return false;
  const stat = readStat(owner.pid);
  if (stat === 'gone') return true;
  if (stat === undefined) return false;
  if (stat.startTicks !== owner.startTicks) return true;
  return (stat.state === 'Z' || stat.state === 'X') && !hasOtherThreads(owner.pid);
}

/** True only when both are known: the process ran, or runs, under another kernel than this one. */
export function isOfAnotherBoot(machine: string): boolean {
  const [theirs = '', ours = ''] = [machine, thisProcess().machine].map((id) => id.split('/')[0]);
  const known = /^[0-9a-f-]{36}$/;
  return known.test(theirs) && known.test(ours) && theirs !== ours;
}

/**
 * Boot id with the namespaces in which pids and start times are counted. Where `/proc` is missing or shows another
 * namespace's processes, an id that nobody else has: then nothing is ever called dead.
 */
function machineId(): string {
  try {
    if (readlinkSync('/proc/self') !== String(process.pid)) return `unknown-${randomUUID()}`;
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return [boot, readlinkSync('/proc/self/ns/pid'), namespaceOrNone('/proc/self/ns/time')].join('/');
  } catch {
    return `unknown-${randomUUID()}`;
  }
}

/** Kernels before 5.6 have no time namespaces. */
function namespaceOrNone(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return 'none';
  }
}

function readStat(pid: number): ProcessStat | 'gone' | undefined {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    // With `hidepid` other users' processes are not to be seen in /proc; kill(2) still tells them from none.
    try {
      process.kill(pid, 0);
      return undefined;
    } catch (error) {
      return error instanceof Error && 'code' in error && error.code === 'ESRCH' ? 'gone' : undefined;
    }
  }
}

/** The first thread of a dying process may be a zombie while others still finish a system call. */
function hasOtherThreads(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).length > 1;
  } catch {
    return false;
  }
}
